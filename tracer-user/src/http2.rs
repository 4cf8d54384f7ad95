//! HTTP/2 on plaintext legs: from frames to streams to exchanges, one for each stream.
//!
//! The kernel side ([`crate::load::http2`]) tells of the frames that begin or end a stream; what a stream
//! took is told once it has ended, as an exchange like any other. Its ends are joined like those of
//! a turn: by the client's address and the TCP sequence number, here that of the first HEADERS frame.

mod connection;
mod frame;
mod head;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests;

use hashbrown::{HashMap, HashSet};
use tracer_common::SocketInfo;
use zerocopy::FromBytes;

use crate::decode::{Exchange, Socket};
use crate::model::Ktime;
use connection::{Connection, Streams};
use frame::{Frame, Kind};

pub use frame::FrameError;
pub use head::GRPC_CODES_LAST;

/// Connections by the cookie of their socket, in two generations: when the young one is full the old
/// one is forgotten, and what is open on it has no answer.
#[derive(Debug)]
pub struct Http2 {
    young: HashMap<u64, Connection>,
    old: HashMap<u64, Connection>,
    /// Connections of a generation.
    cap: usize,
    followed: Followed,
    /// Open streams at most.
    most_open: usize,
    counts: Counts,
}

/// What a record made known.
#[derive(Debug)]
pub enum Event {
    /// The streams of the socket with this cookie are followed from now on.
    Follows(u64),
    /// A stream is over.
    Ended(Exchange),
}

/// Cookies of sockets whose streams are or were followed, in two generations: records of their turns come
/// after they are closed.
#[derive(Debug, Default)]
struct Followed {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

/// Cookies of a generation, half a megabyte.
const FOLLOWED: usize = 32_768;

impl Followed {
    fn insert(&mut self, cookie: u64) {
        if self.young.len() >= FOLLOWED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cookie);
    }

    fn contains(&self, cookie: u64) -> bool {
        self.young.contains(&cookie) || self.old.contains(&cookie)
    }
}

/// What became of frames and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that came.
    pub records: u64,
    /// Bytes that are no record.
    pub malformed: u64,
    /// Records of sockets whose introduction was lost.
    pub unknown_socket: u64,
    /// Records that never came, by the gaps in their numbers: a part of what the ring lost.
    pub missed: u64,
    /// Streams that have not ended.
    pub open: u64,
    /// Streams for which there was no room.
    pub refused: u64,
    /// Answers to requests that nobody saw.
    pub unseen: u64,
}

impl Counts {
    /// Losses by the `reason` label.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 4] {
        [
            ("http2_parse_error", self.malformed),
            ("http2_unknown_socket", self.unknown_socket),
            ("http2_streams_full", self.refused),
            ("http2_request_unseen", self.unseen),
        ]
    }
}

impl Http2 {
    /// Connections of one generation. One at a server has two tables of header fields, of 4 KiB at most
    /// each: both generations are 70 MB when all of them are full.
    pub const CAP: usize = 4096;

    /// Nothing is known; `most_open` streams are at most.
    #[must_use]
    pub fn new(most_open: usize) -> Self {
        Self::with_cap(Self::CAP, most_open)
    }

    /// The same with two generations of `cap` connections.
    #[must_use]
    pub fn with_cap(cap: usize, most_open: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            cap,
            followed: Followed::default(),
            most_open,
            counts: Counts::default(),
        }
    }

    /// What became of frames and streams so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the socket's streams are or were followed.
    #[must_use]
    pub fn follows(&self, cookie: u64) -> bool {
        self.followed.contains(cookie)
    }

    /// Notes that they were, as a recording tells.
    pub fn note(&mut self, cookie: u64) {
        self.followed.insert(cookie);
    }

    /// Takes one raw record; `tell` gets what it made known.
    ///
    /// # Errors
    /// [`FrameError`]; it is counted here too.
    pub fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(Event)) -> Result<(), FrameError> {
        self.counts.records += 1;
        let taken = Frame::of(bytes).and_then(|frame| self.take_frame(&frame, &mut tell));
        match taken {
            Err(FrameError::UnknownSocket(_)) => self.counts.unknown_socket += 1,
            Err(_) => self.counts.malformed += 1,
            Ok(()) => {}
        }
        taken
    }

    fn take_frame(
        &mut self,
        frame: &Frame<'_>,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), FrameError> {
        if !self.young.contains_key(&frame.cookie) {
            self.meet(frame, tell)?;
        }
        let unknown = FrameError::UnknownSocket(frame.cookie);
        let connection = self.young.get_mut(&frame.cookie).ok_or(unknown)?;
        let mut streams = Counted {
            counts: &mut self.counts,
            most_open: self.most_open,
            tell,
        };
        connection.take(frame, &mut streams);
        if frame.kind == Kind::Closed {
            self.young.remove(&frame.cookie);
        }
        Ok(())
    }

    /// Makes a connection young, for the first time or again.
    fn meet(&mut self, frame: &Frame<'_>, tell: &mut impl FnMut(Event)) -> Result<(), FrameError> {
        let connection = match self.old.remove(&frame.cookie) {
            Some(connection) => connection,
            None if frame.kind == Kind::Socket => {
                let short = FrameError::Short(frame.block.len());
                let (info, _) = SocketInfo::read_from_prefix(frame.block).map_err(|_| short)?;
                self.followed.insert(frame.cookie);
                tell(Event::Follows(frame.cookie));
                Connection::new(Socket::new(frame.cookie, &info), frame.side)
            }
            None => return Err(FrameError::UnknownSocket(frame.cookie)),
        };
        if self.young.len() >= self.cap {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.close(forgotten, frame.at, tell);
        }
        self.young.insert(frame.cookie, connection);
        Ok(())
    }

    fn close(
        &mut self,
        connections: HashMap<u64, Connection>,
        at: Ktime,
        tell: &mut impl FnMut(Event),
    ) {
        let mut streams = Counted {
            counts: &mut self.counts,
            most_open: self.most_open,
            tell,
        };
        for mut connection in connections.into_values() {
            connection.close(at, &mut streams);
        }
    }
}

/// Counts what connections tell of their streams.
struct Counted<'a, F> {
    counts: &'a mut Counts,
    most_open: usize,
    tell: &'a mut F,
}

impl<F: FnMut(Event)> Streams for Counted<'_, F> {
    fn open(&mut self) -> bool {
        let room = self.counts.open < u64::try_from(self.most_open).unwrap_or(u64::MAX);
        if room {
            self.counts.open += 1;
        } else {
            self.counts.refused += 1;
        }
        room
    }

    fn ended(&mut self, exchange: Exchange) {
        self.counts.open -= 1;
        (self.tell)(Event::Ended(exchange));
    }

    fn unseen(&mut self) {
        self.counts.unseen += 1;
    }

    fn missed(&mut self, records: u32) {
        self.counts.missed += u64::from(records);
    }
}
