//! An exposition by pair of workloads.

use std::collections::BTreeMap;

use crate::histogram::Histogram;
use crate::{Exposition, Hop, Leg, Part, Reporter, Series};

const HOP_DURATION: &str = "hoptrace_hop_duration_seconds";
const REQUEST_DURATION: &str = "hoptrace_request_duration_seconds";

/// Who calls whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// `workload.namespace`, or the workload alone.
    pub source: String,
    /// The same of the one that is called.
    pub destination: String,
    /// Name of the service by which it is called.
    pub service: String,
}

impl Pair {
    /// Whether some name has this in it.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        [&self.source, &self.destination, &self.service]
            .iter()
            .any(|name| name.contains(text))
    }
}

/// One hop, one way through it, and waiting or work.
pub type Step = (Hop, Leg, Part);

/// Everything there is of one pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairTotals {
    /// Whole requests, by who saw them.
    pub requests: BTreeMap<Reporter, Histogram>,
    /// Self times.
    pub steps: BTreeMap<Step, Histogram>,
}

impl PairTotals {
    /// What came since `before`; what was not observed meanwhile is left out.
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Self {
        Self {
            requests: grown(&self.requests, before.map(|before| &before.requests)),
            steps: grown(&self.steps, before.map(|before| &before.steps)),
        }
    }

    /// Adds what another agent, or another time, has of the same pair.
    pub fn add(&mut self, other: &Self) {
        for (reporter, histogram) in &other.requests {
            self.requests.entry(*reporter).or_default().add(histogram);
        }
        for (step, histogram) in &other.steps {
            self.steps.entry(*step).or_default().add(histogram);
        }
    }

    /// Whole requests: as the caller saw them, or where it is not on a node that is traced, the called pod.
    #[must_use]
    pub fn whole(&self) -> Option<(Reporter, &Histogram)> {
        let of = |reporter| {
            let found = self.requests.get(&reporter)?;
            (found.count > 0.0).then_some((reporter, found))
        };
        Reporter::ALL.into_iter().find_map(of)
    }

    /// Requests whose time in a hop is told. Each has one observation for each leg: of its work, of the whole
    /// where its parts are not known, or of the wire. `loopback` has one for each of its connections, two
    /// where both ends have a sidecar, so that there the requests of `whole` are the most.
    #[must_use]
    pub fn through(&self, hop: Hop) -> f64 {
        let leg = |leg: Leg| -> f64 {
            let once = |part| matches!(part, Part::Processing | Part::Whole | Part::Wire);
            let of_leg = self.steps.iter();
            of_leg
                .filter(|((of, way, part), _)| (*of, *way) == (hop, leg) && once(*part))
                .map(|(_, histogram)| histogram.count)
                .sum()
        };
        let legs = Leg::ALL.map(leg).into_iter();
        let passed = legs.filter(|count| *count > 0.0).fold(0.0, f64::max);
        if hop == Hop::Loopback {
            let whole = self.whole().map_or(passed, |(_, whole)| whole.count);
            passed.min(whole)
        } else {
            passed
        }
    }

    /// Sum of the steps that fit, seconds.
    #[must_use]
    pub fn sum(&self, fits: impl Fn(Step) -> bool) -> f64 {
        let steps = self.steps.iter().filter(|(step, _)| fits(**step));
        // The empty sum of floats is −0, which shows.
        steps.fold(0.0, |sum, (_, histogram)| sum + histogram.sum)
    }
}

fn grown<K: Ord + Copy>(
    now: &BTreeMap<K, Histogram>,
    before: Option<&BTreeMap<K, Histogram>>,
) -> BTreeMap<K, Histogram> {
    let since = |(key, now): (&K, &Histogram)| {
        let grown = now.since(before.and_then(|before| before.get(key)));
        (grown.count > 0.0).then_some((*key, grown))
    };
    now.iter().filter_map(since).collect()
}

/// Everything there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals(pub BTreeMap<Pair, PairTotals>);

impl Totals {
    /// What came since `before`, pairs that had requests.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let since = |(pair, now): (&Pair, &PairTotals)| {
            let grown = now.since(before.0.get(pair));
            let nothing = grown.requests.is_empty() && grown.steps.is_empty();
            (!nothing).then(|| (pair.clone(), grown))
        };
        Self(self.0.iter().filter_map(since).collect())
    }

    /// Adds what another agent, or another time, has.
    pub fn add(&mut self, other: &Self) {
        for (pair, totals) in &other.0 {
            self.0.entry(pair.clone()).or_default().add(totals);
        }
    }

    /// Sums an exposition; labels that it has not are empty.
    #[must_use]
    pub fn of(exposition: &Exposition) -> Self {
        let mut totals = Self::default();
        for series in exposition.iter() {
            let Some((family, kind)) = ["_bucket", "_count", "_sum"]
                .into_iter()
                .find_map(|kind| Some((series.name.strip_suffix(kind)?, kind)))
            else {
                continue;
            };
            if family == REQUEST_DURATION {
                let mut reporters = Reporter::ALL.into_iter();
                let reporter =
                    reporters.find(|reporter| reporter.as_str() == series.label("reporter"));
                if let Some(reporter) = reporter {
                    let pair = totals.0.entry(pair(series)).or_default();
                    pair.requests.entry(reporter).or_default().put(series, kind);
                }
            } else if family == HOP_DURATION
                && let Some(step) = step(series)
            {
                let pair = totals.0.entry(pair(series)).or_default();
                pair.steps.entry(step).or_default().put(series, kind);
            }
        }
        totals
    }
}

fn pair(series: &Series) -> Pair {
    let workload = |end: &str| {
        let name = series.label(&format!("{end}_workload"));
        let namespace = series.label(&format!("{end}_workload_namespace"));
        if namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{namespace}")
        }
    };
    Pair {
        source: workload("source"),
        destination: workload("destination"),
        service: series.label("destination_service_name").to_owned(),
    }
}

fn step(series: &Series) -> Option<Step> {
    let hop = Hop::ALL
        .into_iter()
        .find(|hop| hop.as_str() == series.label("hop"))?;
    let leg = Leg::ALL
        .into_iter()
        .find(|leg| leg.as_str() == series.label("leg"))?;
    let part = Part::ALL
        .into_iter()
        .find(|part| part.as_str() == series.label("part"))?;
    Some((hop, leg, part))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_pair() {
        let labels = r#"source_workload="a",source_workload_namespace="x",destination_workload="b",destination_workload_namespace="",destination_service_name="b""#;
        let text = format!(
            "hoptrace_request_duration_seconds_count{{reporter=\"source\",response_code=\"2xx\",{labels}}} 3\n\
             hoptrace_request_duration_seconds_count{{reporter=\"source\",response_code=\"5xx\",{labels}}} 1\n\
             hoptrace_hop_duration_seconds_sum{{hop=\"app\",leg=\"both\",part=\"queue\",{labels}}} 0.5\n\
             hoptrace_hop_duration_seconds_sum{{hop=\"moon\",leg=\"both\",part=\"queue\",{labels}}} 9\n"
        );
        let totals = Totals::of(&Exposition::parse(&text));
        let pair = Pair {
            source: "a.x".into(),
            destination: "b".into(),
            service: "b".into(),
        };
        let found = totals.0.get(&pair).unwrap();
        assert_eq!(found.requests[&Reporter::Source].count, 4.0);
        assert_eq!(found.steps[&(Hop::App, Leg::Both, Part::Queue)].sum, 0.5);
        assert_eq!(found.steps.len(), 1);
    }

    const GOLDEN: &str = include_str!("../../tracer-user/tests/golden/metrics.txt");

    #[test]
    fn every_metric_that_is_read_is_exported() {
        for name in [HOP_DURATION, REQUEST_DURATION] {
            assert!(
                GOLDEN.contains(&format!("# TYPE {name} histogram")),
                "{name}"
            );
        }
        assert!(!Totals::of(&Exposition::parse(GOLDEN)).0.is_empty());
    }

    #[test]
    fn what_came_between_two_looks_and_what_was_before_is_all() {
        let all = Totals::of(&Exposition::parse(GOLDEN));
        assert!(all.since(&all).0.is_empty());
        assert_eq!(all.since(&Totals::default()), all);
        let mut twice = all.clone();
        twice.add(&all);
        assert_eq!(twice.since(&all), all);
    }
}
