//! The slowest requests of the last minutes.
//!
//! Two generations of [`KEPT`] requests, [`PERIOD_NS`] each, and no more than [`OF_A_PAIR`] of one pair of
//! workloads, so that one slow pair does not hide all others. Where the table is full, which it is on a node
//! with many pairs, a request that is not slow costs one comparison.

use std::sync::Arc;

use super::Request;
use crate::model::{Ktime, RequestLabels};

/// Requests of a generation.
pub(super) const KEPT: usize = 64;
/// Those of one pair.
pub(super) const OF_A_PAIR: usize = 4;
/// What is told is of the last one to two of these.
pub(super) const PERIOD_NS: u64 = 120_000_000_000;

/// Both generations.
#[derive(Debug, Default)]
pub(super) struct Slowest {
    now: Vec<Arc<Request>>,
    before: Vec<Arc<Request>>,
    /// When `now` began.
    since: Ktime,
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
            .nth(OF_A_PAIR - 1)
            .is_none_or(|last| duration_ns > last.duration_ns)
    }

    /// Keeps one that [`Slowest::takes`].
    pub(super) fn keep(&mut self, request: Arc<Request>) {
        let of_pair = |kept: &(usize, &Arc<Request>)| same_pair(&kept.1.labels, &request.labels);
        let last_of_pair = self
            .now
            .iter()
            .enumerate()
            .filter(of_pair)
            .nth(OF_A_PAIR - 1);
        if let Some((at, _)) = last_of_pair {
            self.now.remove(at);
        } else if self.now.len() >= KEPT {
            self.now.pop();
        }
        let slower = |kept: &Arc<Request>| kept.duration_ns >= request.duration_ns;
        let at = self.now.partition_point(slower);
        self.now.insert(at, request);
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
        let mut of_pair: Vec<(Arc<Request>, usize)> = Vec::new();
        all.retain(|kept| {
            let mut known = of_pair.iter_mut();
            match known.find(|(one, _)| same_pair(&one.labels, &kept.labels)) {
                Some((_, count)) => {
                    *count += 1;
                    *count <= OF_A_PAIR
                }
                None => {
                    of_pair.push((Arc::clone(kept), 1));
                    true
                }
            }
        });
        all.truncate(KEPT);
        all
    }

    fn turn(&mut self, ended: Ktime) {
        if ended.saturating_sub(self.since) < PERIOD_NS {
            return;
        }
        self.since = ended;
        self.before = std::mem::take(&mut self.now);
    }
}
