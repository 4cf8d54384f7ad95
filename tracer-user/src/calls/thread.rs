//! What each thread of a container read, and for which request that was.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{Key, PER_CONTAINER};
use crate::model::Ktime;

/// Threads remembered for one container; beyond, all are forgotten and learnt again.
const THREADS: usize = 512;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A request, or the answer to a call that is known to be for it; until when it was served.
    Request(Key, Ktime),
    /// The answer to a call that nobody has claimed yet.
    Answer(Key),
}

/// Reads by thread, each thread's in order. At most twice [`PER_CONTAINER`]; beyond, the oldest of the same
/// thread go.
#[derive(Debug, Default)]
pub(super) struct Reads {
    threads: HashMap<u32, VecDeque<(Ktime, Cause)>>,
    held: usize,
}

impl Reads {
    /// Notes a read. Reads of one thread come almost in order.
    pub(super) fn note(&mut self, tid: u32, at: Ktime, cause: Cause) {
        if self.threads.len() >= THREADS && !self.threads.contains_key(&tid) {
            self.threads.clear();
            self.held = 0;
        }
        let reads = self.threads.entry(tid).or_default();
        let place = reads.partition_point(|(other, _)| *other <= at);
        reads.insert(place, (at, cause));
        self.held += 1;
        if self.held > 2 * PER_CONTAINER && reads.pop_front().is_some() {
            self.held -= 1;
        }
    }

    /// The last read of a thread before it did something; nothing is known of thread 0.
    pub(super) fn before(&self, tid: u32, at: Ktime) -> Option<Cause> {
        let reads = self.threads.get(&tid).filter(|_| tid != 0)?;
        let before = reads.partition_point(|(read, _)| *read <= at);
        let (_, cause) = reads.get(before.checked_sub(1)?)?;
        Some(*cause)
    }

    /// Says for which request an answer was read.
    pub(super) fn claim(&mut self, tid: u32, at: Ktime, call: Key, request: Cause) {
        let Some(reads) = self.threads.get_mut(&tid) else {
            return;
        };
        let first = reads.partition_point(|(read, _)| *read < at);
        let mut same = reads.range_mut(first..).take_while(|(read, _)| *read == at);
        if let Some((_, cause)) = same.find(|(_, cause)| *cause == Cause::Answer(call)) {
            *cause = request;
        }
    }

    /// Forgets what was read before `before`.
    pub(super) fn expire(&mut self, before: Ktime) {
        let held = &mut self.held;
        self.threads.retain(|_, reads| {
            while reads.front().is_some_and(|(at, _)| *at < before) {
                reads.pop_front();
                *held -= 1;
            }
            !reads.is_empty()
        });
    }
}
