//! What an experiment found, as Prometheus and the outside witnesses told it.

use hoptrace_exposition::{Coverage, Hop, Part};
use hoptrace_report::{PairFigures, StepFigures};
use serde::Serialize;

/// The whole demonstration; `--json` writes it.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    /// Of this machine.
    pub(super) cpus: usize,
    /// Calls a run.
    pub(super) calls: u64,
    /// Runs of each of GET and POST.
    pub(super) runs: u64,
    /// Connections of the load generator, each with one call in flight.
    pub(super) connections: usize,
    /// The experiment without sidecars.
    pub(super) without: Experiment,
    /// The experiment with them.
    pub(super) with: Experiment,
}

/// One mesh under the article's load.
#[derive(Debug, Serialize)]
pub(super) struct Experiment {
    /// `none`, `plain` or `mtls`.
    pub(super) mode: String,
    /// The outer pair, then the inner one: load → gateway, gateway → service.
    pub(super) outer: Pair,
    pub(super) inner: Pair,
    pub(super) coverage: Coverage,
    /// Exchanges that still wait for their neighbours.
    pub(super) pending: u64,
    pub(super) cost: Cost,
    /// What each sidecar's own access log says; empty without sidecars.
    pub(super) envoy: Vec<SidecarLog>,
    /// What the load generator measured.
    pub(super) load: Vec<Run>,
}

/// Requests from one workload to another.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) source: &'static str,
    pub(super) destination: &'static str,
    /// Figures of GET, of POST and of both, in this order.
    pub(super) get: PairFigures,
    pub(super) post: PairFigures,
    pub(super) all: PairFigures,
}

impl Pair {
    /// Microseconds a request spends in the steps that fit, on average.
    pub(super) fn mean_us(&self, fits: impl Fn(Hop, &StepFigures) -> bool) -> f64 {
        let steps = self.steps().filter(|(hop, step)| fits(*hop, step));
        // The empty sum of floats is −0, which shows.
        steps.fold(0.0, |sum, (_, step)| sum + step.mean_us)
    }

    /// The same for one hop.
    pub(super) fn hop_us(&self, hop: Hop) -> f64 {
        self.mean_us(|of, _| of == hop)
    }

    /// The part of it in which bytes wait to be read.
    pub(super) fn queue_us(&self, hop: Hop) -> f64 {
        self.mean_us(|of, step| of == hop && step.part == Part::Queue)
    }

    /// Every part of every leg of every hop.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Hop, &StepFigures)> {
        let hops = self.all.hops.iter();
        hops.flat_map(|hop| hop.steps.iter().map(|step| (hop.hop, step)))
    }
}

/// What the agent itself took while the load ran.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) cpu_seconds: f64,
    /// Seconds under load.
    pub(super) load_seconds: f64,
    pub(super) rss_bytes: f64,
    /// Kernel's accounting of each program.
    pub(super) programs: Vec<Program>,
}

/// One eBPF program while the load ran.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) runs: u64,
    pub(super) seconds: f64,
}

/// One sidecar's access log, summed up.
#[derive(Debug, Serialize)]
pub(super) struct SidecarLog {
    pub(super) pod: &'static str,
    /// Of the two sidecars.
    pub(super) hop: Hop,
    pub(super) requests: u64,
    /// Mean of its request leg and its response leg together.
    pub(super) mean_us: f64,
}

/// One run of the load generator.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) method: &'static str,
    pub(super) number: u64,
    pub(super) per_second: f64,
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
}
