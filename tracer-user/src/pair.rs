//! Pairs what an Envoy worker read with what it wrote, without looking inside.
//!
//! An Envoy connection stays on one worker thread, and the worker answers its reads by writes in
//! order, one loop turn later. So on one worker a downstream exchange *contains* its upstream
//! exchange, and the right assignment is the one that keeps both orders: requests read first are
//! written first, responses likewise. That is the assignment with the least sum of squared self
//! times: the sum itself is the same for every assignment, an inversion only raises the squares.

use std::collections::{BTreeSet, VecDeque};

use crate::model::Ktime;

/// Neighbours in writing order that may swap partners. Inversions are local: one loop turn.
const NEIGHBOURS: usize = 24;
/// Passes over the neighbours; each removes the inversions of the last.
const PASSES: usize = 6;

/// A downstream exchange (`Us`, `D`) on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downstream<I> {
    /// Whose.
    pub id: I,
    /// Request read.
    pub read: Ktime,
    /// Response written.
    pub wrote: Ktime,
}

/// An upstream exchange (`N`, `Lc`) on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream<I> {
    /// Whose.
    pub id: I,
    /// Request written.
    pub wrote: Ktime,
    /// Response read.
    pub read: Ktime,
    /// The connection was opened for this request: when.
    pub opened: Option<Ktime>,
}

/// One worker's exchanges that have no partner yet. Bounded by the agent's table of exchanges.
#[derive(Debug)]
pub struct Worker<I> {
    downstream: VecDeque<Downstream<I>>,
    upstream: Vec<Upstream<I>>,
}

impl<I> Default for Worker<I> {
    fn default() -> Self {
        Self {
            downstream: VecDeque::new(),
            upstream: Vec::new(),
        }
    }
}

impl<I: Copy> Worker<I> {
    /// Adds a downstream exchange.
    pub fn add_downstream(&mut self, exchange: Downstream<I>) {
        // They complete in almost the order in which they began: the place is near the end.
        let at = self
            .downstream
            .partition_point(|other| other.read <= exchange.read);
        self.downstream.insert(at, exchange);
    }

    /// Adds an upstream exchange.
    pub fn add_upstream(&mut self, exchange: Upstream<I>) {
        self.upstream.push(exchange);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.downstream.is_empty() && self.upstream.is_empty()
    }

    /// Pairs every upstream exchange that was written until `written` and whose response was read
    /// until `read`, with downstream exchanges that may end later; both leave the worker. Upstream
    /// exchanges without a partner stay until [`Worker::expire`].
    ///
    /// The cut is by the moment of writing, because the assignment is the greatest there is only
    /// when it is made in that order: `written` lies so far before `read` that those written earlier
    /// are all here, but for the slowest.
    pub fn pair(&mut self, written: Ktime, read: Ktime, mut paired: impl FnMut(I, I)) {
        let mut due: Vec<Upstream<I>> = Vec::new();
        self.upstream.retain(|upstream| {
            let is_due = upstream.wrote <= written && upstream.read <= read;
            if is_due {
                due.push(*upstream);
            }
            !is_due
        });
        if due.is_empty() {
            return;
        }
        due.sort_unstable_by_key(|upstream| upstream.wrote);
        let mut pairs = self.fit(&due);
        let mut taken = vec![false; self.downstream.len()];
        for (_, at) in &pairs {
            if let Some(slot) = taken.get_mut(*at) {
                *slot = true;
            }
        }
        pairs.sort_unstable_by_key(|(upstream, _)| upstream.wrote);
        self.untangle(&mut pairs);
        for (upstream, at) in &pairs {
            if let Some(downstream) = self.downstream.get(*at) {
                paired(downstream.id, upstream.id);
            }
        }
        let mut at = 0;
        self.downstream.retain(|_| {
            let keep = !taken.get(at).copied().unwrap_or(false);
            at += 1;
            keep
        });
    }

    /// Forgets what ended before `before`: it has no partner (Envoy answered by itself, or the
    /// other record was lost).
    pub fn expire(&mut self, before: Ktime) {
        self.downstream
            .retain(|downstream| downstream.wrote >= before);
        self.upstream.retain(|upstream| upstream.read >= before);
    }

    /// A partner for as many of `due` (in writing order) as can have one.
    ///
    /// Each takes the downstream exchange around it that ends first. Whoever wrote later may use
    /// every downstream exchange that an earlier one could, so leaving it those that end later is
    /// the best that can be done: the assignment has the greatest possible number of pairs.
    fn fit(&mut self, due: &[Upstream<I>]) -> Vec<(Upstream<I>, usize)> {
        let mut open: BTreeSet<(Ktime, usize)> = BTreeSet::new();
        let mut read = self.downstream.iter().enumerate().peekable();
        let mut pairs = Vec::with_capacity(due.len());
        let mut alone = Vec::new();
        for upstream in due {
            while let Some((at, downstream)) = read.next_if(|(_, d)| d.read <= upstream.wrote) {
                open.insert((downstream.wrote, at));
            }
            match open.range((upstream.read, 0)..).next().copied() {
                Some(found) => {
                    open.remove(&found);
                    pairs.push((*upstream, found.1));
                }
                None => alone.push(*upstream),
            }
        }
        for upstream in alone {
            let left = self.replace(&mut pairs, upstream);
            self.upstream.push(left);
        }
        pairs
    }

    /// A worker that asks one upstream after the other for one request (a retry, a question to an
    /// authorisation service first) answers with the last: it takes the place of one that was read
    /// before it was written, in the downstream exchange that ends soonest after it. Returns who has
    /// no partner then.
    fn replace(&self, pairs: &mut [(Upstream<I>, usize)], last: Upstream<I>) -> Upstream<I> {
        let ends = |at: usize| {
            let downstream = self.downstream.get(at)?;
            let around = downstream.read <= last.wrote && last.read <= downstream.wrote;
            around.then_some(downstream.wrote)
        };
        let earlier = pairs
            .iter_mut()
            .filter(|(upstream, _)| upstream.read <= last.wrote)
            .filter_map(|pair| Some((ends(pair.1)?, pair)))
            .min_by_key(|(end, _)| *end);
        match earlier {
            Some((_, pair)) => std::mem::replace(&mut pair.0, last),
            None => last,
        }
    }

    /// Swaps partners of neighbours while that lowers the sum of squares.
    fn untangle(&self, pairs: &mut [(Upstream<I>, usize)]) {
        for _ in 0..PASSES {
            let mut changed = false;
            for at in 0..pairs.len() {
                let Some((_, rest)) = pairs.split_at_mut_checked(at) else {
                    continue;
                };
                let Some((one, neighbours)) = rest.split_first_mut() else {
                    continue;
                };
                for other in neighbours.iter_mut().take(NEIGHBOURS) {
                    let (Some(first), Some(second)) =
                        (self.downstream.get(one.1), self.downstream.get(other.1))
                    else {
                        continue;
                    };
                    if second.read > one.0.wrote {
                        // Later neighbours may still fit, but not with this partner.
                        continue;
                    }
                    let (Some(now_one), Some(now_other)) =
                        (cost(first, &one.0), cost(second, &other.0))
                    else {
                        continue;
                    };
                    let (Some(new_one), Some(new_other)) =
                        (cost(second, &one.0), cost(first, &other.0))
                    else {
                        continue;
                    };
                    if new_one + new_other < now_one + now_other {
                        std::mem::swap(&mut one.1, &mut other.1);
                        changed = true;
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }
}

fn square(gap: Ktime) -> u128 {
    u128::from(gap) * u128::from(gap)
}

fn request_cost<I>(downstream: &Downstream<I>, upstream: &Upstream<I>) -> u128 {
    let cause = match upstream.opened {
        Some(opened) if opened >= downstream.read => opened,
        _ => upstream.wrote,
    };
    square(cause.saturating_sub(downstream.read))
}

/// Squared self times of both legs; `None` when the upstream exchange is not inside.
fn cost<I>(downstream: &Downstream<I>, upstream: &Upstream<I>) -> Option<u128> {
    let fits = downstream.read <= upstream.wrote && upstream.read <= downstream.wrote;
    fits.then(|| request_cost(downstream, upstream) + square(downstream.wrote - upstream.read))
}
