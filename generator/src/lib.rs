//! The load generator: many keep-alive connections, one thread, honest clocks.
//!
//! The lab runs it in its pods, and `hoptrace report` has it inside. It often runs on the processors of
//! what it measures, so it does as little as it can: an epoll loop over non-blocking sockets, one `write`
//! and one `read` a request, the request text rendered once, the answer only framed and never kept. One
//! thread drives several times the rates the lab uses, and a second one would take the processor of a
//! proxy.
//!
//! Invariants:
//! - `pace` alone decides when a request is due, from time handed in as data.
//! - Latency counts from the planned moment, service from the moment a connection took the
//!   request up; only the first holds what a stalled server did to the requests behind.
//! - Every request of the plan ends in exactly one of `succeeded` and `failed`.
//! - Traffic goes to loopback, to the addresses of a test network, and to those that the caller allows, see
//!   `target`.

pub mod load;

#[cfg(feature = "engine")]
mod answer;
#[cfg(feature = "engine")]
mod clock;
#[cfg(feature = "engine")]
mod connection;
#[cfg(feature = "engine")]
pub mod descriptors;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "engine")]
mod failure;
#[cfg(feature = "engine")]
mod pace;
#[cfg(feature = "engine")]
mod plan;
#[cfg(feature = "engine")]
mod request;
#[cfg(feature = "engine")]
mod run;
#[cfg(feature = "engine")]
mod tally;
#[cfg(feature = "engine")]
mod target;

#[cfg(feature = "engine")]
pub use plan::{LONGEST_SECONDS, MOST_CONNECTIONS, SpecError};
#[cfg(feature = "engine")]
pub use run::{GeneratorError, Times, run, run_keeping};
#[cfg(feature = "engine")]
pub use target::TargetError;
