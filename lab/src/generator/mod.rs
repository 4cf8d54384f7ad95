//! The load generator: many keep-alive connections, one thread, honest clocks.
//!
//! The generator runs on the processors of what it measures, so it does as little as it can: an
//! epoll loop over non-blocking sockets, one `write` and one `read` a request, the request text
//! rendered once, the answer only framed and never kept. One thread drives several times the
//! rates the lab uses, and a second one would take the processor of a proxy.
//!
//! Invariants:
//! - `pace` alone decides when a request is due, from time handed in as data.
//! - Latency counts from the planned moment, service from the moment a connection took the
//!   request up; only the first holds what a stalled server did to the requests behind.
//! - Every request of the plan ends in exactly one of `succeeded` and `failed`.
//! - Traffic goes to loopback and to the addresses of a test network only, see `target`.

mod answer;
mod clock;
mod connection;
pub mod descriptors;
mod engine;
mod failure;
mod pace;
mod plan;
mod request;
mod tally;
mod target;

use std::io;
use std::net::IpAddr;

use crate::load::{LoadReport, LoadSpec};

pub use plan::{LONGEST_SECONDS, MOST_CONNECTIONS, SpecError};
pub use target::TargetError;

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
    let plan = plan::Plan::check(spec, allowed)?;
    let before = clock::processor_time();
    let tally = engine::Engine::open(&plan)?.run()?;
    let mut report = tally.report();
    report.cpu_seconds = clock::processor_time().saturating_sub(before).as_secs_f64();
    Ok(report)
}

#[cfg(test)]
mod tests;
