//! Pairs what an Envoy worker read with what it wrote, without looking inside.
//!
//! An Envoy connection stays on one worker thread, and the worker answers its reads by writes, one
//! loop turn later. So on one worker a downstream exchange *contains* its upstream exchange. Of the
//! assignments that keep to that, the right one is told by lengths: what a sidecar adds to a message
//! is nearly always the same ([`Sizes`]). Where lengths do not differ, it is the one that keeps both
//! orders: requests read first are written first, responses likewise. That is the assignment with the
//! least sum of squared self times: the sum itself is the same for every assignment, an inversion only
//! raises the squares.

mod sizes;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Add;

use crate::decode::Size;
use crate::model::Ktime;

use sizes::Evidence;
pub use sizes::Sizes;

/// Neighbours in writing order that may swap partners. Inversions are local: one loop turn.
const NEIGHBOURS: usize = 32;
/// Passes over the neighbours; each removes the inversions of the last.
const PASSES: usize = 6;
/// Rounds over the first pairs of a sidecar: what they have in common makes the next round's better.
const ROUNDS: usize = 4;

/// A downstream exchange (`Us`, `D`) on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downstream<I> {
    /// Whose.
    pub id: I,
    /// Request read.
    pub read: Ktime,
    /// Response written.
    pub wrote: Ktime,
    /// Bytes of request and response.
    pub size: Size,
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
    /// Bytes of request and response.
    pub size: Size,
}

/// One worker's exchanges that have no partner yet. Bounded by the agent's table of exchanges.
#[derive(Debug)]
pub struct Worker<I> {
    downstream: VecDeque<Downstream<I>>,
    upstream: Vec<Upstream<I>>,
}

/// An upstream exchange and the place of its partner.
#[derive(Clone, Copy, Debug)]
struct Pair<I> {
    upstream: Upstream<I>,
    at: usize,
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
    /// What the pairs tell of lengths is learnt.
    ///
    /// The cut is by the moment of writing, because the assignment is the greatest there is only
    /// when it is made in that order: `written` lies so far before `read` that those written earlier
    /// are all here, but for the slowest.
    pub fn pair(
        &mut self,
        written: Ktime,
        read: Ktime,
        sizes: &mut Sizes,
        mut paired: impl FnMut(I, I),
    ) {
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
        for pair in &pairs {
            if let Some(slot) = taken.get_mut(pair.at) {
                *slot = true;
            }
        }
        pairs.sort_unstable_by_key(|pair| pair.upstream.wrote);
        let mut evidence = sizes.evidence();
        for _ in 0..ROUNDS {
            self.untangle(&mut pairs, &evidence);
            let last = sizes.learn(self.lengths(&pairs), &evidence);
            evidence = sizes.evidence();
            if last || evidence.is_empty() {
                break;
            }
        }
        for pair in &pairs {
            if let Some(downstream) = self.downstream.get(pair.at) {
                paired(downstream.id, pair.upstream.id);
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
    fn fit(&mut self, due: &[Upstream<I>]) -> Vec<Pair<I>> {
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
                    pairs.push(Pair {
                        upstream: *upstream,
                        at: found.1,
                    });
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
    fn replace(&self, pairs: &mut [Pair<I>], last: Upstream<I>) -> Upstream<I> {
        let ends = |at: usize| {
            let downstream = self.downstream.get(at)?;
            let around = downstream.read <= last.wrote && last.read <= downstream.wrote;
            around.then_some(downstream.wrote)
        };
        let earlier = pairs
            .iter_mut()
            .filter(|pair| pair.upstream.read <= last.wrote)
            .filter_map(|pair| Some((ends(pair.at)?, pair)))
            .min_by_key(|(end, _)| *end);
        match earlier {
            Some((_, pair)) => std::mem::replace(&mut pair.upstream, last),
            None => last,
        }
    }

    /// Lengths of the exchanges of pairs.
    fn lengths(&self, pairs: &[Pair<I>]) -> impl Iterator<Item = (Size, Size)> {
        pairs.iter().filter_map(|pair| {
            let downstream = self.downstream.get(pair.at)?;
            Some((downstream.size, pair.upstream.size))
        })
    }

    /// Swaps partners of neighbours while that lowers what speaks against them.
    fn untangle(&self, pairs: &mut [Pair<I>], evidence: &Evidence) {
        let mut links: Vec<Link<I>> = pairs
            .iter()
            .filter_map(|pair| {
                let downstream = *self.downstream.get(pair.at)?;
                Some(Link {
                    pair: *pair,
                    downstream,
                    cost: cost(&downstream, &pair.upstream, evidence),
                    moved: true,
                    moves: false,
                })
            })
            .collect();
        for _ in 0..PASSES {
            let mut changed = false;
            let mut rest = links.as_mut_slice();
            while let Some((one, neighbours)) = rest.split_first_mut() {
                changed |= one.swap_with(neighbours, evidence);
                rest = neighbours;
            }
            if !changed {
                break;
            }
            for link in &mut links {
                link.moved = link.moves;
                link.moves = false;
            }
        }
        for (pair, link) in pairs.iter_mut().zip(links) {
            pair.at = link.pair.at;
        }
    }
}

/// A pair while it is untangled.
struct Link<I> {
    pair: Pair<I>,
    downstream: Downstream<I>,
    cost: Cost,
    /// It has another partner than a pass ago.
    moved: bool,
    /// It has another partner since this pass began.
    moves: bool,
}

impl<I: Copy> Link<I> {
    /// Swaps partners with each of the neighbours with whom that lowers what speaks against both.
    fn swap_with(&mut self, neighbours: &mut [Self], evidence: &Evidence) -> bool {
        let mut changed = false;
        for other in neighbours.iter_mut().take(NEIGHBOURS) {
            if other.pair.upstream.wrote > self.downstream.wrote {
                // So it is with all that follow: they were written later still.
                break;
            }
            if !(self.moved || self.moves || other.moved || other.moves) {
                continue;
            }
            let upstream = (&self.pair.upstream, &other.pair.upstream);
            if !(fits(&other.downstream, upstream.0) && fits(&self.downstream, upstream.1)) {
                continue;
            }
            let one = cost(&other.downstream, upstream.0, evidence);
            let two = cost(&self.downstream, upstream.1, evidence);
            if one + two < self.cost + other.cost {
                std::mem::swap(&mut self.pair.at, &mut other.pair.at);
                std::mem::swap(&mut self.downstream, &mut other.downstream);
                (self.cost, other.cost) = (one, two);
                (self.moves, other.moves) = (true, true);
                changed = true;
            }
        }
        changed
    }
}

/// What speaks against a pair: bits of evidence first, then the squared self times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    bits: u32,
    squares: u128,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bits: self.bits + other.bits,
            squares: self.squares + other.squares,
        }
    }
}

/// Whether the upstream exchange lies within.
const fn fits<I>(downstream: &Downstream<I>, upstream: &Upstream<I>) -> bool {
    downstream.read <= upstream.wrote && upstream.read <= downstream.wrote
}

fn square(gap: Ktime) -> u128 {
    u128::from(gap) * u128::from(gap)
}

/// What speaks against a pair that fits.
fn cost<I>(downstream: &Downstream<I>, upstream: &Upstream<I>, evidence: &Evidence) -> Cost {
    let cause = match upstream.opened {
        Some(opened) if opened >= downstream.read => opened,
        _ => upstream.wrote,
    };
    Cost {
        bits: evidence.against(downstream.size, upstream.size),
        squares: square(cause.saturating_sub(downstream.read))
            + square(downstream.wrote.saturating_sub(upstream.read)),
    }
}
