//! The slowest requests of the last minutes.
//!
//! Two generations of [`KEPT`] requests, [`PERIOD_NS`] each, and no more than its [`share`] of one pair of
//! workloads, so that one slow pair does not hide all others. Where the table is full, which it is on a node
//! with many pairs, a request that is not slow costs one comparison.

use std::sync::Arc;

use super::Request;
use crate::model::{Ktime, RequestLabels};

/// Requests of a generation.
pub(super) const KEPT: usize = 64;
/// As many as a reader sees: few pairs share these.
const LISTED: usize = 20;
/// Those of one pair at least, however many pairs there are.
const OF_A_PAIR: usize = 4;
/// What is told is of the last one to two of these.
pub(super) const PERIOD_NS: u64 = 120_000_000_000;

/// Both generations.
#[derive(Debug, Default)]
pub(super) struct Slowest {
    now: Vec<Arc<Request>>,
    before: Vec<Arc<Request>>,
    /// Those that `now` has requests of.
    pairs: usize,
    /// When `now` began.
    since: Ktime,
}

/// How many of one pair are kept among so many pairs: it only falls while pairs come, so whoever is
/// kept at the end has been from the beginning.
pub(super) fn share(pairs: usize) -> usize {
    OF_A_PAIR.max(LISTED / pairs.max(1))
}

fn same_pair(one: &RequestLabels, other: &RequestLabels) -> bool {
    one.source == other.source && one.destination == other.destination
}

impl Slowest {
    /// Whether a request is to be kept.
    pub(super) fn takes(&mut self, labels: &RequestLabels, began: Ktime, duration_ns: u64) -> bool {
        self.turn(began.saturating_add(duration_ns));
        let full = self.now.len() >= KEPT;
        // In order, the fastest last.
        let fastest = self.now.last().map_or(0, |last| last.duration_ns);
        if full && duration_ns <= fastest {
            return false;
        }
        let mut of_pair = self
            .now
            .iter()
            .filter(|kept| same_pair(&kept.labels, labels));
        of_pair
            .nth(share(self.pairs) - 1)
            .is_none_or(|last| duration_ns > last.duration_ns)
    }

    /// Keeps one that [`Slowest::takes`].
    pub(super) fn keep(&mut self, request: Arc<Request>) {
        let slower = |kept: &Arc<Request>| kept.duration_ns >= request.duration_ns;
        let at = self.now.partition_point(slower);
        self.now.insert(at, request);
        self.pairs = limit(&mut self.now);
    }

    /// What is kept and ended in the last two periods, the slowest first.
    pub(super) fn all(&self, now: Ktime) -> Vec<Arc<Request>> {
        let oldest = now.saturating_sub(2 * PERIOD_NS);
        let both = self.now.iter().chain(&self.before);
        let mut all: Vec<_> = both
            .filter(|kept| kept.ended() >= oldest)
            .cloned()
            .collect();
        all.sort_by_key(|kept| std::cmp::Reverse(kept.duration_ns));
        limit(&mut all);
        all
    }

    fn turn(&mut self, ended: Ktime) {
        if ended.saturating_sub(self.since) < PERIOD_NS {
            return;
        }
        self.since = ended;
        self.pairs = 0;
        self.before = std::mem::take(&mut self.now);
    }
}

/// Leaves each pair its share, and no more than are kept, of requests in order; returns of how many pairs.
fn limit(requests: &mut Vec<Arc<Request>>) -> usize {
    let mut pairs: Vec<(Arc<Request>, usize)> = Vec::new();
    let mut places = Vec::with_capacity(requests.len());
    for request in requests.iter() {
        let mut known = pairs.iter_mut();
        match known.find(|(one, _)| same_pair(&one.labels, &request.labels)) {
            Some((_, count)) => {
                places.push(*count);
                *count += 1;
            }
            None => {
                places.push(0);
                pairs.push((Arc::clone(request), 1));
            }
        }
    }
    let mut places = places.into_iter();
    requests.retain(|_| places.next().is_some_and(|at| at < share(pairs.len())));
    requests.truncate(KEPT);
    pairs.len()
}
