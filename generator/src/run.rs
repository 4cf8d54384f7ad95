//! One run, from a spec to a report.

use std::io;
use std::net::IpAddr;

use super::load::{Latency, LoadReport, LoadSpec};
use super::plan::{Plan, SpecError};
use super::{clock, engine, tally};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The run must not or cannot be done.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The server was not there at the start.
    #[error("cannot connect to {0}")]
    Connect(std::net::SocketAddr, #[source] io::Error),
    /// The books could not be opened.
    #[error("cannot create a histogram")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The event loop itself failed.
    #[error("cannot {0}")]
    Loop(&'static str, #[source] io::Error),
}

/// Runs one load to its end on the calling thread.
///
/// All connections are open before the clock starts. A request that fails is counted and the run
/// goes on. `allowed` addresses may be loaded although they are not of a test network.
///
/// # Errors
///
/// A spec out of bounds, a server that does not take the first connections, a kernel that has no
/// descriptors left.
pub fn run(spec: &LoadSpec, allowed: &[IpAddr]) -> Result<LoadReport, GeneratorError> {
    run_keeping(spec, allowed).map(|(report, _times)| report)
}

/// The same, with the latency of each request to three digits: quantiles of several runs together need it.
///
/// # Errors
///
/// As those of [`run`].
pub fn run_keeping(
    spec: &LoadSpec,
    allowed: &[IpAddr],
) -> Result<(LoadReport, Times), GeneratorError> {
    let plan = Plan::check(spec, allowed)?;
    let before = clock::processor_time();
    let tally = engine::Engine::open(&plan)?.run()?;
    let (mut report, times) = tally.report();
    report.cpu_seconds = clock::processor_time().saturating_sub(before).as_secs_f64();
    Ok((report, times))
}

/// Latencies, nanoseconds to three digits.
#[derive(Clone, Debug)]
pub struct Times(pub(super) hdrhistogram::Histogram<u64>);

impl Times {
    /// With those of another run.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, and no count that overflows.
        let _fits = self.0.add(&other.0);
    }

    /// Their figures.
    #[must_use]
    pub fn latency(&self) -> Latency {
        tally::summary(&self.0)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
