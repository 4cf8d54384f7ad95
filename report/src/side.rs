//! From differences of expositions and a stopwatch's reports to the figures of one target.

use std::collections::BTreeSet;

use hoptrace_exposition::{Coverage, Histogram, Hop, Pair, PairTotals, Reporter, Step, Totals};
use hoptrace_generator::load::{Latency, LoadReport};

use crate::model::{HopFigures, Kind, PairFigures, Run, Side, Spread, StepFigures, Times, Verdict};

/// The hops in the order of a request's way.
pub const WAY: [Hop; 5] = [
    Hop::SidecarOutbound,
    Hop::Network,
    Hop::SidecarInbound,
    Hop::Loopback,
    Hop::App,
];
/// A pair is on the load's way when it has so many of its calls.
const ON_THE_WAY: f64 = 0.5;
/// How far the numbers of requests that the two ends told may be apart to be those of the same requests.
const SAME: f64 = 0.01;

/// One run: what agents counted meanwhile, and what the stopwatch said.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// What came between the scrape before and the one after.
    pub totals: Totals,
    /// Likewise.
    pub coverage: Coverage,
    /// Nothing where the load was the user's own.
    pub load: Option<LoadReport>,
}

/// All runs of one method.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// `GET` …, or `any`.
    pub method: String,
    /// One a run.
    pub windows: Vec<Window>,
    /// Latency of all calls together; nothing where the load was the user's own.
    pub all: Option<Latency>,
}

/// The figures of a target. Only pairs with `filter` in a name are told.
#[must_use]
pub fn side(name: &str, url: Option<&str>, measured: &[Measured], filter: &str) -> Side {
    Side {
        name: name.to_owned(),
        url: url.map(str::to_owned),
        kinds: measured.iter().map(|found| kind(found, filter)).collect(),
    }
}

/// Figures of every pair, in the order of a call's way. `runs` are parts of `totals`.
#[must_use]
pub fn pairs(totals: &Totals, runs: &[&Totals]) -> Vec<PairFigures> {
    let all = totals.0.iter();
    in_order(
        all.filter_map(|(pair, found)| pair_figures(pair, found, totals, runs))
            .collect(),
    )
}

fn kind(measured: &Measured, filter: &str) -> Kind {
    let mut totals = Totals::default();
    let mut coverage = Coverage::default();
    for window in &measured.windows {
        totals.add(&window.totals);
        coverage.add(&window.coverage);
    }
    let loads: Vec<_> = measured
        .windows
        .iter()
        .filter_map(|w| w.load.as_ref())
        .collect();
    let calls: u64 = loads.iter().map(|load| load.succeeded + load.failed).sum();
    let least = calls as f64 * ON_THE_WAY;
    let is_told = |(pair, found): &(&Pair, &PairTotals)| {
        let requests = found.whole().map_or(0.0, |(_, whole)| whole.count);
        requests > 0.0 && requests >= least && pair.contains(filter)
    };
    let told: Vec<_> = totals.0.iter().filter(is_told).collect();
    let runs: Vec<_> = measured
        .windows
        .iter()
        .map(|window| &window.totals)
        .collect();
    let figures = |(pair, found): &(&Pair, &PairTotals)| pair_figures(pair, found, &totals, &runs);
    Kind {
        method: measured.method.clone(),
        runs: loads.into_iter().map(run).collect(),
        all: measured.all.map(times),
        others: totals.0.len() - told.len(),
        pairs: in_order(told.iter().filter_map(figures).collect()),
        coverage,
        verdict: Verdict::default(),
    }
}

fn run(load: &LoadReport) -> Run {
    Run {
        succeeded: load.succeeded,
        failed: load.failed,
        failures: load.failures.clone(),
        per_second: load.succeeded as f64 / load.elapsed_seconds.max(f64::MIN_POSITIVE),
        times: times(load.latency),
    }
}

fn times(latency: Latency) -> Times {
    let us = |ns: u64| ns as f64 / 1e3;
    Times {
        mean_us: latency.mean_ns / 1e3,
        p50_us: us(latency.p50_ns),
        p99_us: us(latency.p99_ns),
        p999_us: us(latency.p999_ns),
        max_us: us(latency.max_ns),
    }
}

fn pair_figures(
    pair: &Pair,
    found: &PairTotals,
    all: &Totals,
    runs: &[&Totals],
) -> Option<PairFigures> {
    let (reporter, whole) = found.whole()?;
    let per_request = |sum: f64| sum / whole.count * 1e6;
    let of_run = |totals: &&Totals| -> Option<(PairTotals, f64)> {
        let found = totals.0.get(pair)?;
        let count = found.requests.get(&reporter)?.count;
        Some((found.clone(), count))
    };
    let runs: Vec<_> = runs.iter().filter_map(of_run).collect();
    let in_runs = |sum: &dyn Fn(&PairTotals) -> f64| -> Vec<f64> {
        let each = runs.iter().map(|(found, count)| sum(found) / count * 1e6);
        each.collect()
    };
    let calls_us = per_request(own_calls(pair, found, all));
    let mut hops: Vec<_> = WAY
        .into_iter()
        .filter_map(|hop| {
            let of_hop = move |(of, _, _): Step| of == hop;
            let requests = found.through(hop);
            (requests > 0.0).then(|| HopFigures {
                hop,
                requests: requests.round() as u64,
                mean_us: per_request(found.sum(of_hop)),
                queue_us: per_request(found.sum(|step| of_hop(step) && is_queue(step))),
                runs_us: in_runs(&|run| run.sum(of_hop)),
                by_difference: false,
                steps: steps(found, hop, whole.count),
            })
        })
        .collect();
    if let Some(between) = between(found, all, pair) {
        let at = hops
            .iter()
            .take_while(|hop| hop.hop == Hop::SidecarOutbound);
        let at = at.count();
        let run = |run: &PairTotals| rest(run, per_run_calls(calls_us, run, reporter));
        hops.insert(
            at,
            HopFigures {
                mean_us: per_request(between.sum),
                runs_us: in_runs(&run),
                ..between.figures
            },
        );
    }
    Some(PairFigures {
        source: pair.source.clone(),
        destination: pair.destination.clone(),
        service: pair.service.clone(),
        reporter,
        requests: whole.count.round() as u64,
        mean_us: per_request(whole.sum),
        runs_us: in_runs(&|run| run.requests.get(&reporter).map_or(0.0, |whole| whole.sum)),
        spread: spread(whole),
        hops,
        calls_us,
    })
}

/// What a run's requests spent in calls, as all of them did on average.
fn per_run_calls(calls_us: f64, run: &PairTotals, reporter: Reporter) -> f64 {
    let requests = run.requests.get(&reporter).map_or(0.0, |whole| whole.count);
    calls_us * requests / 1e6
}

struct Between {
    sum: f64,
    figures: HopFigures,
}

/// The network of a pair whose ends are on different nodes: both ends told the same requests, and no hop
/// told the network. Then it is what is left.
fn between(found: &PairTotals, all: &Totals, pair: &Pair) -> Option<Between> {
    let count = |reporter| Some(found.requests.get(&reporter)?.count);
    let (source, destination) = (count(Reporter::Source)?, count(Reporter::Destination)?);
    let same = (source - destination).abs() <= SAME * source;
    if !same || found.through(Hop::Network) > 0.0 {
        return None;
    }
    Some(Between {
        sum: rest(found, own_calls(pair, found, all)),
        figures: HopFigures {
            hop: Hop::Network,
            requests: source.min(destination).round() as u64,
            mean_us: 0.0,
            queue_us: 0.0,
            runs_us: Vec::new(),
            by_difference: true,
            steps: Vec::new(),
        },
    })
}

/// What neither a hop nor a call of the destination tells of whole requests, seconds.
fn rest(found: &PairTotals, calls: f64) -> f64 {
    let whole = found.whole().map_or(0.0, |(_, whole)| whole.sum);
    whole - found.sum(|_| true) - calls
}

/// What the destination's own calls took, seconds. A destination that others call too has made its calls for
/// all of them alike.
fn own_calls(pair: &Pair, found: &PairTotals, all: &Totals) -> f64 {
    let of = |fits: &dyn Fn(&Pair) -> bool, what: fn(&Histogram) -> f64| -> f64 {
        let fitting = all.0.iter().filter(|(pair, _)| fits(pair));
        let whole = fitting.filter_map(|(_, totals)| totals.whole());
        whole.fold(0.0, |sum, (_, whole)| sum + what(whole))
    };
    let made = of(&|other| other.source == pair.destination, |whole| whole.sum);
    let served = of(&|other| other.destination == pair.destination, |whole| {
        whole.count
    });
    let mine = found.whole().map_or(0.0, |(_, whole)| whole.count);
    if served > 0.0 {
        made * mine / served
    } else {
        0.0
    }
}

fn is_queue((_, _, part): Step) -> bool {
    part == hoptrace_exposition::Part::Queue
}

fn steps(found: &PairTotals, hop: Hop, requests: f64) -> Vec<StepFigures> {
    let of_hop = found.steps.iter().filter(|((of, _, _), _)| *of == hop);
    of_hop
        .map(|((_, leg, part), histogram)| StepFigures {
            leg: *leg,
            part: *part,
            count: histogram.count.round() as u64,
            mean_us: histogram.sum / requests * 1e6,
            spread: spread(histogram),
        })
        .collect()
}

fn spread(histogram: &Histogram) -> Spread {
    let us = |quantile| Some(histogram.quantile(quantile)? * 1e6);
    Spread {
        p50_us: us(0.5),
        p90_us: us(0.9),
        p99_us: us(0.99),
        p999_us: us(0.999),
        max_below_us: histogram
            .greatest()
            .and_then(|(_, bound)| Some(bound? * 1e6)),
    }
}

/// Pairs whose source nobody calls come first, then those that they call, and so on.
fn in_order(mut pairs: Vec<PairFigures>) -> Vec<PairFigures> {
    let mut ordered = Vec::new();
    while !pairs.is_empty() {
        let called: BTreeSet<_> = pairs.iter().map(|pair| pair.destination.clone()).collect();
        let (first, later): (Vec<_>, Vec<_>) = pairs
            .into_iter()
            .partition(|pair| !called.contains(&pair.source));
        pairs = later;
        if first.is_empty() {
            // A circle: as they come.
            ordered.append(&mut pairs);
        }
        ordered.extend(first);
    }
    ordered
}
