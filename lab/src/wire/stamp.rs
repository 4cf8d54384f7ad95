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
    /// The calls that were made for it.
    pub calls: Vec<Called>,
}

/// A call as its caller saw it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Called {
    /// The port from which it was made.
    pub port: u16,
    /// It is about to be written.
    pub sent: u64,
    /// Its answer began.
    pub came: u64,
}

/// How long at least one of these was under way, by their beginnings and ends.
#[must_use]
pub fn union(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let (mut covered, mut end) = (0, 0);
    for (from, to) in spans {
        covered += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::union;

    #[test]
    fn what_overlaps_counts_once() {
        for (spans, expected) in [
            (vec![], 0),
            (vec![(1, 3)], 2),
            (vec![(4, 6), (1, 3)], 4),
            (vec![(1, 9), (2, 3), (5, 11)], 10),
            (vec![(1, 3), (1, 3)], 2),
        ] {
            assert_eq!(union(spans), expected);
        }
    }
}
