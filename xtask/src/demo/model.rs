//! What an experiment found, as Prometheus and the outside witnesses told it.

use std::collections::BTreeMap;

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
    /// Totals of GET, of POST and of both, in this order.
    pub(super) get: Total,
    pub(super) post: Total,
    pub(super) all: Total,
    pub(super) hops: Vec<HopPart>,
}

impl Pair {
    /// Microseconds a request spends in the hops that fit, on average.
    pub(super) fn mean_us(&self, fits: impl Fn(&HopPart) -> bool) -> f64 {
        self.hops
            .iter()
            .filter(|part| fits(part))
            // The empty sum of floats is −0, which shows.
            .fold(0.0, |sum, part| sum + part.mean_us)
    }

    /// The same for one hop.
    pub(super) fn hop_us(&self, hop: &str) -> f64 {
        self.mean_us(|part| part.hop == hop)
    }
}

/// Whole requests, as their client saw them: first byte out to first byte back.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Total {
    pub(super) requests: u64,
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
}

/// One part of one leg of one hop.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HopPart {
    pub(super) hop: String,
    pub(super) leg: String,
    pub(super) part: String,
    /// Times it was measured: twice a request for a loopback that is passed twice.
    pub(super) count: u64,
    /// Sum over all requests, divided by the requests of the pair.
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// What became of every exchange.
#[derive(Debug, Serialize)]
pub(super) struct Coverage {
    /// Fate and method, then exchanges; those that are 0 are left out.
    pub(super) exchanges: Vec<(String, String, u64)>,
    /// Reason, then records; those that are 0 are left out.
    pub(super) lost: BTreeMap<String, u64>,
    /// Exchanges that still wait for their neighbours.
    pub(super) pending: u64,
}

impl Coverage {
    pub(super) fn all(&self) -> u64 {
        self.exchanges.iter().map(|(_, _, count)| count).sum()
    }

    pub(super) fn paired(&self) -> u64 {
        let paired = self
            .exchanges
            .iter()
            .filter(|(fate, _, _)| fate == "paired");
        paired.map(|(_, _, count)| count).sum()
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
    /// `sidecar_inbound` or `sidecar_outbound`.
    pub(super) hop: &'static str,
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
