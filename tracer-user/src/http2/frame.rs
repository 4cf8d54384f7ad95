//! From raw ring bytes to a frame. Total: any bytes give a frame or a named error.

use tracer_common::Http2Record;
use tracer_common::http2::{
    FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS, FRAME_PUSH_PROMISE,
    FRAME_RST_STREAM, KIND_BLOCK, KIND_CLOSED, KIND_LOST, KIND_SOCKET, WAY_IN, WAY_OUT,
};
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use zerocopy::FromBytes;

use crate::decode::Side;
use crate::model::Ktime;

/// What a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DATA; only the last of a stream's side is told.
    Data,
    /// HEADERS.
    Headers,
    /// CONTINUATION.
    Continuation,
    /// `RST_STREAM`.
    Reset,
    /// `PUSH_PROMISE`.
    Promise,
    /// GOAWAY.
    Goaway,
    /// The socket introduces itself.
    Socket,
    /// More of a header block.
    Block,
    /// Frames were lost before the next record.
    Lost,
    /// The socket closed.
    Closed,
}

/// From whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the connection's client to its server.
    Request,
    /// Back.
    Response,
}

/// A record in host types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Kernel's socket cookie.
    pub(super) cookie: u64,
    /// Which end of the connection.
    pub(super) side: Side,
    /// Which way.
    pub(super) way: Way,
    /// What.
    pub(super) kind: Kind,
    /// The frame's own flags.
    pub(super) flags: u8,
    /// When its first byte passed.
    pub(super) at: Ktime,
    /// TCP sequence number of its first byte.
    pub(super) seq: u32,
    /// Stream.
    pub(super) stream: u32,
    /// Bytes of header block in the frame, error code, or `SOCKET_*`.
    pub(super) value: u32,
    /// Last stream that is taken, of a GOAWAY.
    pub(super) last_stream: u32,
    /// Thread that wrote, 0 unknown.
    pub(super) tid: u32,
    /// Ordinal of the record on its way.
    pub(super) index: u32,
    /// Bytes that follow the record.
    pub(super) block: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the fixed part and what follows.
    #[error("HTTP/2 record of {0} bytes is too short")]
    Short(usize),
    /// An unknown kind.
    #[error("HTTP/2 record has unknown kind {0}")]
    Kind(u8),
    /// An unknown side or way.
    #[error("HTTP/2 record has unknown side {0} or way {1}")]
    Way(u8, u8),
    /// The record that introduced the socket was lost; it introduces itself again later.
    #[error("HTTP/2 record of unknown socket {0}")]
    UnknownSocket(u64),
}

impl<'a> Frame<'a> {
    /// Takes a record apart.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short(bytes.len());
        let (record, rest) = Http2Record::read_from_prefix(bytes).map_err(|_| short)?;
        let block = rest.get(..usize::from(record.block_len)).ok_or(short)?;
        let kind = match record.kind {
            FRAME_DATA => Kind::Data,
            FRAME_HEADERS => Kind::Headers,
            FRAME_CONTINUATION => Kind::Continuation,
            FRAME_RST_STREAM => Kind::Reset,
            FRAME_PUSH_PROMISE => Kind::Promise,
            FRAME_GOAWAY => Kind::Goaway,
            KIND_SOCKET => Kind::Socket,
            KIND_BLOCK => Kind::Block,
            KIND_LOST => Kind::Lost,
            KIND_CLOSED => Kind::Closed,
            other => return Err(FrameError::Kind(other)),
        };
        let (side, way) = match (record.side, record.way) {
            (SIDE_SERVER, WAY_IN) => (Side::Server, Way::Request),
            (SIDE_SERVER, WAY_OUT) => (Side::Server, Way::Response),
            (SIDE_CLIENT, WAY_OUT) => (Side::Client, Way::Request),
            (SIDE_CLIENT, WAY_IN) => (Side::Client, Way::Response),
            (side, way) => return Err(FrameError::Way(side, way)),
        };
        Ok(Self {
            cookie: record.sock_cookie,
            side,
            way,
            kind,
            flags: record.flags,
            at: record.ktime_ns,
            seq: record.seq,
            stream: record.stream_id,
            value: record.value,
            last_stream: record.last_stream,
            tid: record.tid,
            index: record.index,
            block,
        })
    }

    /// Whether a flag of the frame is set.
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}
