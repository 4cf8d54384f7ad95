//! Exact books: what the kernel side completed is what the agent settled plus what was lost.

use std::fmt;

use tracer_common::Loss;

use crate::decode::DecodeError;
use crate::load::Hooks;
use crate::model::{Fate, Method};

/// Counts of one run; every figure is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Records that did not fit into the ring, as the kernel side counts them.
    pub ring_full: u64,
    /// Exchanges that never came, by the gaps in their sockets' numbering: a part of `ring_full`,
    /// found without the kernel side's count.
    pub missed: u64,
    /// Records taken from the ring.
    pub received: u64,
    /// Records that could not be decoded.
    pub parse_error: u64,
    /// Records of sockets whose introduction was lost.
    pub unknown_socket: u64,
    /// Streams of HTTP/2 that ended: exchanges that the agent puts together from records of frames.
    pub streams: u64,
    /// Exchanges that still wait for their partners.
    pub pending: u64,
    /// Exchanges settled, by fate and method.
    fates: [[u64; Method::ALL.len()]; Fate::ALL.len()],
}

impl Books {
    /// Counts one settled exchange.
    pub fn settle(&mut self, fate: Fate, method: Method) {
        if let Some(slot) = self
            .fates
            .get_mut(fate as usize)
            .and_then(|row| row.get_mut(method as usize))
        {
            *slot += 1;
        }
    }

    /// Counts one record that came, and what the stages said of it.
    pub fn take(&mut self, taken: Result<(), DecodeError>) {
        self.received += 1;
        match taken {
            Ok(()) => {}
            Err(DecodeError::UnknownSocket(_)) => self.unknown_socket += 1,
            Err(_) => self.parse_error += 1,
        }
    }

    /// Counts one stream that ended.
    pub const fn stream(&mut self) {
        self.streams += 1;
    }

    /// Takes over the kernel side's counters.
    pub fn read_kernel(&mut self, hooks: &Hooks) {
        self.ring_full = hooks.lost(Loss::RingFull);
    }

    /// Exchanges with this fate, over all methods.
    #[must_use]
    pub fn fate(&self, fate: Fate) -> u64 {
        self.fates
            .get(fate as usize)
            .map_or(0, |row| row.iter().sum())
    }

    /// Every fate and method with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Fate, Method, u64)> + '_ {
        self.fates.iter().zip(Fate::ALL).flat_map(|(row, fate)| {
            row.iter()
                .zip(Method::ALL)
                .map(move |(count, method)| (fate, method, *count))
        })
    }

    /// Exchanges settled.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.fates.iter().flatten().sum()
    }

    /// Exchanges that the kernel side completed and whose record it delivered or lost, and streams that
    /// ended.
    #[must_use]
    pub const fn completed(&self) -> u64 {
        self.received + self.ring_full + self.streams
    }

    /// Whether everything received has a fate, to the integer, and nothing is missing that the
    /// kernel side did not count as lost.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.missed <= self.ring_full
            && self.received + self.streams
                == self.parse_error + self.unknown_socket + self.settled() + self.pending
    }

    /// Exchanges whose record was lost on the way, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ring_full + self.parse_error + self.unknown_socket + self.fate(Fate::Evicted)
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "completed={} received={} ring_full={} missed={} parse_error={} unknown_socket={} pending={}",
            self.completed(),
            self.received,
            self.ring_full,
            self.missed,
            self.parse_error,
            self.unknown_socket,
            self.pending
        )?;
        if self.streams > 0 {
            write!(f, " streams={}", self.streams)?;
        }
        for (fate, method, count) in self.counts().filter(|(_, _, count)| *count > 0) {
            write!(f, " {}", fate.as_str())?;
            if method != Method::None {
                write!(f, "/{}", method.as_str())?;
            }
            write!(f, "={count}")?;
        }
        Ok(())
    }
}
