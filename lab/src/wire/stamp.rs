//! Stamps of the clock that the tracer's have, too.

use serde::{Deserialize, Serialize};

/// CLOCK_MONOTONIC, nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// One exchange as the server saw it; a line of its log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Served {
    /// Path and query.
    pub path: String,
    /// The first read that brought a byte of the request returned.
    pub read: u64,
    /// The first write of the answer, whichever it was, is about to be made.
    pub wrote: u64,
    /// Status of that answer; 0 for what is not HTTP.
    pub status: u16,
}

/// One request as its service saw it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Done {
    /// `x-request-id`.
    pub id: String,
    /// It was read; CLOCK_MONOTONIC, nanoseconds.
    pub read: u64,
    /// It is about to be answered.
    pub wrote: u64,
    /// How long at least one call was under way, nanoseconds.
    pub waited: u64,
}
