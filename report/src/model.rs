//! A report as values, and as JSON. Times are microseconds.

use hoptrace_exposition::{Coverage, Hop, Leg, Part, Reporter};
use serde::{Deserialize, Serialize};

use crate::stats::Estimate;

/// The shape of the JSON; a report of another shape is no baseline.
pub const SCHEMA: u32 = 1;

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the program that made it.
    pub hoptrace: String,
    /// How it was made.
    pub settings: Settings,
    /// The target that has no sidecars.
    pub without: Option<Side>,
    /// The target that has them.
    pub with: Option<Side>,
    /// Both, method by method; empty without one of them.
    pub comparisons: Vec<Comparison>,
}

/// How a report was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Runs of each method and target.
    pub runs: usize,
    /// Calls in each; nothing where the load was the user's own.
    pub calls: Option<u64>,
    /// Connections, each with one call in flight.
    pub connections: Option<usize>,
    /// Least share, 0 to 1, that a conclusion needs.
    pub min_coverage: f64,
    /// Of the intervals, 0 to 1.
    pub confidence: f64,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// How it is called.
    pub name: String,
    /// What was called; nothing where the load was the user's own.
    pub url: Option<String>,
    /// One for each method.
    pub kinds: Vec<Kind>,
}

/// All runs of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// `GET` …, or `any`.
    pub method: String,
    /// What the stopwatch said of each run; empty where the load was the user's own.
    pub runs: Vec<Run>,
    /// What it said of all calls together.
    pub all: Option<Times>,
    /// From the first to the last workload on a call's way.
    pub pairs: Vec<PairFigures>,
    /// Pairs that were seen and are not on the load's way.
    pub others: usize,
    /// What became of exchanges meanwhile.
    pub coverage: Coverage,
    /// What can be said of where these calls spend their time.
    pub verdict: Verdict,
}

/// One run, by the stopwatch of the load generator: from when a connection took a call up until the last
/// byte of the answer was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Answered as they should be.
    pub succeeded: u64,
    /// All others.
    pub failed: u64,
    /// Why, the first few.
    pub failures: Vec<String>,
    /// Calls a second.
    pub per_second: f64,
    /// Those that succeeded.
    pub times: Times,
}

/// Figures of single calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 99 of 100 stay below.
    pub p99_us: f64,
    /// 999 of 1,000 stay below.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// A histogram's figures: quantiles are interpolated within a bucket, and the greatest is known to a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median.
    pub p50_us: Option<f64>,
    /// 9 of 10 stay below.
    pub p90_us: Option<f64>,
    /// 99 of 100 stay below.
    pub p99_us: Option<f64>,
    /// 999 of 1,000 stay below.
    pub p999_us: Option<f64>,
    /// The slowest took no longer; nothing where it is above all bounds.
    pub max_below_us: Option<f64>,
}

/// Requests of one workload to another, as agents saw them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    /// Who calls: `workload.namespace`, or the workload alone.
    pub source: String,
    /// Who is called.
    pub destination: String,
    /// By which name.
    pub service: String,
    /// Who saw the whole requests.
    pub reporter: Reporter,
    /// Requests.
    pub requests: u64,
    /// Mean of whole requests, first byte to first byte.
    pub mean_us: f64,
    /// The same of each run.
    pub runs_us: Vec<f64>,
    /// Of whole requests.
    pub spread: Spread,
    /// In the order of a request's way.
    pub hops: Vec<HopFigures>,
    /// What the destination's own calls took, a request.
    pub calls_us: f64,
}

/// One hop of a pair. Means are over all requests of the pair, so that they add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopFigures {
    /// Which.
    pub hop: Hop,
    /// Requests whose time in it is told.
    pub requests: u64,
    /// Mean.
    pub mean_us: f64,
    /// The part of it in which bytes waited to be read.
    pub queue_us: f64,
    /// Mean of each run.
    pub runs_us: Vec<f64>,
    /// Whether it is what the client waited less what the server's side took, and not told by itself: the
    /// two are on different nodes.
    pub by_difference: bool,
    /// What it is made of.
    pub steps: Vec<StepFigures>,
}

/// One leg and part of a hop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Which way.
    pub leg: Leg,
    /// Waiting, work, or what else.
    pub part: Part,
    /// Observations.
    pub count: u64,
    /// Mean over all requests of the pair.
    pub mean_us: f64,
    /// Of single observations.
    pub spread: Spread,
}

/// Both targets under one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `GET` …, or `any`.
    pub method: String,
    /// Whole calls by the stopwatch; nothing where the load was the user's own.
    pub calls: Option<Penalty>,
    /// Their spread: a name, without, with.
    pub tails: Vec<Tail>,
    /// Where the time of a call goes, and what was added there; in the order of its way.
    pub places: Vec<Place>,
    /// Pair by pair, those of the target with sidecars first.
    pub pairs: Vec<PairPenalty>,
    /// What can be said of whole calls.
    pub whole_verdict: Verdict,
    /// What can be said of where they spend their time.
    pub place_verdict: Verdict,
}

/// What was added to something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Penalty {
    /// Mean without sidecars.
    pub without_us: f64,
    /// Mean with them.
    pub with_us: f64,
    /// The difference.
    pub added_us: Estimate,
    /// The same as a share of `without_us`: 1 is twice as long. Nothing where that is 0.
    pub added_share: Option<Estimate>,
}

/// One figure of the spread of whole calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// `p50`, `p99`, `p99.9`, `max`.
    pub name: String,
    /// Of all calls together.
    pub without_us: f64,
    /// Of all calls together.
    pub with_us: f64,
    /// The difference; how sure it is say the runs' own figures.
    pub added_us: Estimate,
}

/// One place on the way of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Workload, or two of them.
    pub at: String,
    /// Nothing is what no hop tells: the load generator itself.
    pub hop: Option<Hop>,
    /// Microseconds a call.
    pub penalty: Penalty,
    /// What was added to the part that is queue.
    pub queue_added_us: f64,
}

/// One pair on both targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairPenalty {
    /// Who calls.
    pub source: String,
    /// Who is called.
    pub destination: String,
    /// Whole requests, as agents saw them.
    pub whole: Penalty,
    /// Hop by hop, with the requests told of without and with.
    pub hops: Vec<HopPenalty>,
}

/// One hop of a pair on both targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopPenalty {
    /// Which.
    pub hop: Hop,
    /// A request.
    pub penalty: Penalty,
    /// Share of what was added to the whole; nothing where nothing was.
    pub share: Option<f64>,
}

/// Whether a conclusion is carried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is missing for it; empty when it is carried.
    pub missing: Vec<String>,
}

impl Verdict {
    /// Nothing is missing.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Report {
    /// Whether a conclusion is refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let comparisons = self.comparisons.iter();
        let compared = comparisons.flat_map(|found| [&found.whole_verdict, &found.place_verdict]);
        let sides = [&self.without, &self.with].into_iter().flatten();
        let sides = sides.flat_map(|side| &side.kinds).map(|kind| &kind.verdict);
        compared.chain(sides).any(|verdict| !verdict.is_carried())
    }
}
