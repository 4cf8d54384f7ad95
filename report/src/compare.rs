//! Two targets against each other.

use std::collections::BTreeSet;

use hoptrace_exposition::Hop;

use crate::model::{
    Comparison, HopFigures, HopPenalty, Kind, PairFigures, PairPenalty, Penalty, Place, Report,
    SCHEMA, Settings, Side, Tail, Times,
};
use crate::side::WAY;
use crate::stats::{self, Estimate};
use crate::verdict;

/// Everything that two targets, or one of them, say. `version` is that of the program.
#[must_use]
pub fn compare(
    version: &str,
    settings: Settings,
    mut without: Option<Side>,
    mut with: Option<Side>,
) -> Report {
    for side in [&mut without, &mut with].into_iter().flatten() {
        let name = side.name.clone();
        for kind in &mut side.kinds {
            kind.verdict = verdict::of_side(&name, kind, &settings);
        }
    }
    let comparisons = without.as_ref().zip(with.as_ref());
    let comparisons = comparisons.map_or(Vec::new(), |(from, to)| both(from, to, &settings));
    Report {
        schema: SCHEMA,
        hoptrace: version.to_owned(),
        settings,
        without,
        with,
        comparisons,
    }
}

fn both(without: &Side, with: &Side, settings: &Settings) -> Vec<Comparison> {
    let matching = |to: &Kind| {
        let mut kinds = without.kinds.iter();
        let from = kinds.find(|from| from.method == to.method)?;
        let both = Both {
            without: (&without.name, from),
            with: (&with.name, to),
            confidence: settings.confidence,
        };
        Some(both.compare(settings))
    };
    with.kinds.iter().filter_map(matching).collect()
}

/// One of a call's figures.
type Figure = fn(&Times) -> f64;

/// One method on both targets.
pub(crate) struct Both<'a> {
    pub(crate) without: (&'a str, &'a Kind),
    pub(crate) with: (&'a str, &'a Kind),
    confidence: f64,
}

impl<'a> Both<'a> {
    fn compare(&self, settings: &Settings) -> Comparison {
        let pairs = self.pairs();
        let matched = pairs
            .iter()
            .filter_map(|(from, to)| Some(((*from)?, (*to)?)));
        let matched: Vec<_> = matched.collect();
        let calls = self.calls();
        Comparison {
            method: self.with.1.method.clone(),
            calls,
            tails: self.tails(),
            places: calls.map_or(Vec::new(), |calls| self.places(&matched, &calls)),
            pairs: matched
                .iter()
                .map(|(from, to)| self.pair(from, to))
                .collect(),
            whole_verdict: verdict::whole(self, settings),
            place_verdict: verdict::places(self, &pairs, settings),
        }
    }

    /// Pairs of the same workloads; where no name is the same, of the same workloads in other namespaces.
    pub(crate) fn pairs(&self) -> Vec<(Option<&'a PairFigures>, Option<&'a PairFigures>)> {
        let mut left: Vec<&PairFigures> = self.without.1.pairs.iter().collect();
        let mut take = |fits: &dyn Fn(&PairFigures) -> bool| {
            let at = left.iter().position(|pair| fits(pair))?;
            Some(left.remove(at))
        };
        let mut pairs: Vec<_> = Vec::new();
        for to in &self.with.1.pairs {
            let names = |of: &PairFigures| (of.source.clone(), of.destination.clone());
            let found = take(&|from| names(from) == names(to))
                .or_else(|| take(&|from| bare(from) == bare(to)));
            pairs.push((found, Some(to)));
        }
        pairs.extend(left.into_iter().map(|from| (Some(from), None)));
        pairs
    }

    /// Whole calls by the stopwatch.
    fn calls(&self) -> Option<Penalty> {
        let of = |kind: &Kind| Some((kind.all?.mean_us, means(kind)));
        let ((from, from_runs), (to, to_runs)) = (of(self.without.1)?, of(self.with.1)?);
        let penalty = penalty((from, &from_runs), (to, &to_runs), self.confidence);
        Some(penalty)
    }

    fn tails(&self) -> Vec<Tail> {
        let all = self.without.1.all.zip(self.with.1.all);
        let Some((from, to)) = all else {
            return Vec::new();
        };
        let figures: [(&str, Figure); 4] = [
            ("p50", |times| times.p50_us),
            ("p99", |times| times.p99_us),
            ("p99.9", |times| times.p999_us),
            ("max", |times| times.max_us),
        ];
        let tail = |(name, of): (&str, Figure)| {
            let runs =
                |kind: &Kind| -> Vec<f64> { kind.runs.iter().map(|run| of(&run.times)).collect() };
            let (without, with) = (runs(self.without.1), runs(self.with.1));
            Tail {
                name: name.to_owned(),
                without_us: of(&from),
                with_us: of(&to),
                added_us: Estimate {
                    value: of(&to) - of(&from),
                    ..stats::added(&without, &with, self.confidence)
                },
            }
        };
        figures.into_iter().map(tail).collect()
    }

    fn pair(&self, from: &PairFigures, to: &PairFigures) -> PairPenalty {
        let (without, with) = ((from.mean_us, &*from.runs_us), (to.mean_us, &*to.runs_us));
        let whole = penalty(without, with, self.confidence);
        let hop = |hop: Hop| {
            let penalty = hop_penalty((from, 1.0), (to, 1.0), hop, self.confidence)?;
            let all = whole.added_us.value;
            let share = penalty.added_us.value / all;
            Some(HopPenalty {
                hop,
                penalty,
                share: share.is_finite().then_some(share),
            })
        };
        PairPenalty {
            source: to.source.clone(),
            destination: to.destination.clone(),
            whole,
            hops: WAY.into_iter().filter_map(hop).collect(),
        }
    }

    /// Places on the way, and what is left to the load generator.
    fn places(&self, pairs: &[(&PairFigures, &PairFigures)], calls: &Penalty) -> Vec<Place> {
        let mut places = places(pairs, self.confidence);
        let entries = (entry(&self.without.1.pairs), entry(&self.with.1.pairs));
        places.push(self.generator(calls, &entries.0, &entries.1));
        places
    }

    fn generator(&self, calls: &Penalty, from: &Entry, to: &Entry) -> Place {
        let runs = |kind: &Kind, entry: &Entry| -> Vec<f64> {
            let told = means(kind).into_iter().zip(&entry.runs_us);
            told.map(|(all, told)| all - told).collect()
        };
        let without = runs(self.without.1, from);
        let with = runs(self.with.1, to);
        Place {
            at: to.source.clone(),
            hop: None,
            penalty: penalty(
                (calls.without_us - from.mean_us, &without),
                (calls.with_us - to.mean_us, &with),
                self.confidence,
            ),
            queue_added_us: 0.0,
        }
    }
}

/// Means without and with, each with those of its runs.
fn penalty(without: (f64, &[f64]), with: (f64, &[f64]), confidence: f64) -> Penalty {
    let added = stats::added(without.1, with.1, confidence);
    let share = stats::ratio(without.1, with.1, confidence);
    Penalty {
        without_us: without.0,
        with_us: with.0,
        // The runs say how sure it is; the figure itself is of all requests together.
        added_us: Estimate {
            value: with.0 - without.0,
            ..added
        },
        added_share: (without.0 > 0.0).then(|| Estimate {
            value: with.0 / without.0 - 1.0,
            ..share
        }),
    }
}

/// A hop of a pair, each side so many times a call; nothing where neither has it.
fn hop_penalty(
    (from, from_times): (&PairFigures, f64),
    (to, to_times): (&PairFigures, f64),
    hop: Hop,
    confidence: f64,
) -> Option<Penalty> {
    if from.hop(hop).is_none() && to.hop(hop).is_none() {
        return None;
    }
    let of = |pair: &PairFigures, times: f64| {
        let found = pair.hop(hop);
        let none = || vec![0.0; pair.runs_us.len()];
        let runs = found.map_or_else(none, |found| found.runs_us.clone());
        let runs: Vec<_> = runs.iter().map(|us| us * times).collect();
        (found.map_or(0.0, |found| found.mean_us * times), runs)
    };
    let ((from, from_runs), (to, to_runs)) = (of(from, from_times), of(to, to_times));
    Some(penalty((from, &from_runs), (to, &to_runs), confidence))
}

/// Where the time of a call goes: each hop of the pairs on its way, without and with, a call. Pairs whose
/// source nobody calls are the calls.
#[must_use]
pub fn places(pairs: &[(&PairFigures, &PairFigures)], confidence: f64) -> Vec<Place> {
    let calls = [
        entry(pairs.iter().map(|(from, _)| *from)).requests,
        entry(pairs.iter().map(|(_, to)| *to)).requests,
    ];
    let mut places = Vec::new();
    for (from, to) in pairs {
        let [before, now] = calls;
        let times = (from.requests as f64 / before, to.requests as f64 / now);
        for hop in WAY {
            let found = hop_penalty((from, times.0), (to, times.1), hop, confidence);
            let queue = |pair: &PairFigures| pair.hop(hop).map_or(0.0, |hop| hop.queue_us);
            places.extend(found.map(|penalty| Place {
                at: place_name(to, hop),
                hop: Some(hop),
                penalty,
                queue_added_us: queue(to) * times.1 - queue(from) * times.0,
            }));
        }
    }
    places
}

impl PairFigures {
    /// One of its hops.
    #[must_use]
    pub fn hop(&self, hop: Hop) -> Option<&HopFigures> {
        self.hops.iter().find(|found| found.hop == hop)
    }

    /// Share of the whole that hops and calls tell.
    #[must_use]
    pub fn told(&self) -> f64 {
        let hops: f64 = self.hops.iter().map(|hop| hop.mean_us).sum();
        (hops + self.calls_us) / self.mean_us
    }
}

/// The names without their namespaces.
fn bare(pair: &PairFigures) -> (String, String) {
    let bare = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    (bare(&pair.source), bare(&pair.destination))
}

fn means(kind: &Kind) -> Vec<f64> {
    kind.runs.iter().map(|run| run.times.mean_us).collect()
}

/// The load's own requests: pairs whose source nobody calls.
pub(crate) struct Entry {
    pub(crate) requests: f64,
    source: String,
    mean_us: f64,
    runs_us: Vec<f64>,
}

pub(crate) fn entry<'a>(pairs: impl IntoIterator<Item = &'a PairFigures>) -> Entry {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let called: BTreeSet<&str> = pairs.iter().map(|pair| &*pair.destination).collect();
    let first: Vec<_> = pairs
        .iter()
        .filter(|pair| !called.contains(&*pair.source))
        .collect();
    let requests: f64 = first.iter().map(|pair| pair.requests as f64).sum();
    let weighted = |us: &dyn Fn(&PairFigures) -> f64| -> f64 {
        let each = first.iter().map(|pair| us(pair) * pair.requests as f64);
        each.sum::<f64>() / requests
    };
    let runs = first
        .iter()
        .map(|pair| pair.runs_us.len())
        .min()
        .unwrap_or(0);
    let of_run = |at| weighted(&|pair| pair.runs_us.get(at).copied().unwrap_or_default());
    Entry {
        requests,
        source: first
            .first()
            .map_or_else(String::new, |pair| pair.source.clone()),
        mean_us: weighted(&|pair| pair.mean_us),
        runs_us: (0..runs).map(of_run).collect(),
    }
}

fn place_name(pair: &PairFigures, hop: Hop) -> String {
    match hop {
        Hop::SidecarOutbound => pair.source.clone(),
        Hop::SidecarInbound | Hop::App => pair.destination.clone(),
        Hop::Network => format!("{} ⇄ {}", pair.source, pair.destination),
        Hop::Loopback => format!("beside {}", pair.destination),
    }
}
