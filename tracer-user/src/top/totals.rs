//! An exposition by pair of workloads.

use crate::metrics::names::{HOP_DURATION, REQUEST_DURATION};
use crate::model::{Hop, Leg, Part, Reporter};
use hoptrace_exposition::{Exposition, Series};
use std::collections::BTreeMap;

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

/// A histogram, cumulative in time and over its buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations.
    pub count: f64,
    /// Their sum, seconds.
    pub sum: f64,
    /// Observations up to each bound, by the bound's text as exposed.
    pub buckets: BTreeMap<String, f64>,
}

impl Histogram {
    fn add(&mut self, series: &Series, kind: &str) {
        match kind {
            "_count" => self.count += series.value,
            "_sum" => self.sum += series.value,
            _ => {
                let bound = series.label("le").to_owned();
                *self.buckets.entry(bound).or_default() += series.value;
            }
        }
    }

    /// What came since `before`; what became less began again.
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.count <= self.count) else {
            return self.clone();
        };
        let buckets = self.buckets.iter().map(|(bound, value)| {
            let before = before.buckets.get(bound).copied().unwrap_or_default();
            (bound.clone(), value - before)
        });
        Self {
            count: self.count - before.count,
            sum: self.sum - before.sum,
            buckets: buckets.collect(),
        }
    }

    /// Mean in seconds; nothing without observations.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// A quantile in seconds, interpolated within its bucket as Prometheus does it. Beyond the greatest
    /// bound it is that bound.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = self
            .buckets
            .iter()
            .filter_map(|(bound, value)| Some((bound.parse().ok()?, *value)))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (_, all) = buckets.last().copied().filter(|(_, all)| *all > 0.0)?;
        let rank = quantile * all;
        let mut below = (0.0, 0.0);
        for (bound, value) in buckets {
            if value >= rank {
                if bound.is_infinite() {
                    return Some(below.0);
                }
                let share = (rank - below.1) / (value - below.1).max(f64::MIN_POSITIVE);
                return Some(below.0 + (bound - below.0) * share);
            }
            below = (bound, value);
        }
        None
    }
}

/// One hop, one way through it, and waiting or work.
pub(super) type Step = (Hop, Leg, Part);

/// Everything there is of one pair.
#[derive(Clone, Debug, Default)]
pub struct PairTotals {
    /// Whole requests, by who saw them.
    pub requests: BTreeMap<Reporter, Histogram>,
    /// Self times.
    pub steps: BTreeMap<Step, Histogram>,
}

/// Everything there is.
#[derive(Clone, Debug, Default)]
pub struct Totals(pub BTreeMap<Pair, PairTotals>);

impl Totals {
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
            if family == REQUEST_DURATION.name {
                let reporter = [Reporter::Source, Reporter::Destination]
                    .into_iter()
                    .find(|reporter| reporter.as_str() == series.label("reporter"));
                if let Some(reporter) = reporter {
                    let pair = totals.0.entry(pair(series)).or_default();
                    pair.requests.entry(reporter).or_default().add(series, kind);
                }
            } else if family == HOP_DURATION.name
                && let Some(step) = step(series)
            {
                let pair = totals.0.entry(pair(series)).or_default();
                pair.steps.entry(step).or_default().add(series, kind);
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

    #[test]
    fn quantiles_are_prometheus() {
        let buckets = [
            ("0.001", 10.0),
            ("0.01", 90.0),
            ("0.1", 100.0),
            ("+Inf", 100.0),
        ];
        let histogram = Histogram {
            count: 100.0,
            sum: 1.0,
            buckets: buckets
                .map(|(bound, value)| (bound.to_owned(), value))
                .into(),
        };
        let close = |found: Option<f64>, wanted: f64| {
            assert!((found.unwrap() - wanted).abs() < 1e-9, "{found:?} {wanted}");
        };
        close(histogram.quantile(0.5), 0.001 + 0.009 * 0.5);
        close(histogram.quantile(0.95), 0.055);
        close(
            histogram
                .since(Some(&histogram.clone()))
                .quantile(0.5)
                .or(Some(7.0)),
            7.0,
        );
        // An agent that was started again has counted fewer.
        let more = Histogram {
            count: 500.0,
            ..histogram.clone()
        };
        assert_eq!(histogram.since(Some(&more)), histogram);
    }
}
