//! One frame of HTTP/2 (RFC 9113) as one socket saw it: those that begin or end a stream.

use core::mem::size_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Frame types (RFC 9113, section 6).
pub const FRAME_DATA: u8 = 0;
/// A header block begins.
pub const FRAME_HEADERS: u8 = 1;
/// A stream is given up.
pub const FRAME_RST_STREAM: u8 = 3;
/// The server promises an answer to a request that it makes up.
pub const FRAME_PUSH_PROMISE: u8 = 5;
/// No more streams than up to the last one that it tells.
pub const FRAME_GOAWAY: u8 = 7;
/// A header block goes on.
pub const FRAME_CONTINUATION: u8 = 9;
/// No frame: the socket introduces itself, a [`crate::SocketInfo`] follows.
pub const KIND_SOCKET: u8 = 0xf0;
/// No frame: bytes of the last header block that came in a later segment.
pub const KIND_BLOCK: u8 = 0xf1;
/// No frame: the position in the stream was lost here, and frames until the next record.
pub const KIND_LOST: u8 = 0xf2;
/// No frame: the socket closed.
pub const KIND_CLOSED: u8 = 0xf3;

/// The frame is the last of its side of the stream (DATA, HEADERS).
pub const FLAG_END_STREAM: u8 = 0x1;
/// The header block ends with the frame (HEADERS, CONTINUATION).
pub const FLAG_END_HEADERS: u8 = 0x4;
/// A length of padding comes first, and the padding last (DATA, HEADERS).
pub const FLAG_PADDED: u8 = 0x8;
/// Five bytes of priority come before the block (HEADERS).
pub const FLAG_PRIORITY: u8 = 0x20;

/// The connection was recognised by something else than its preface: it is older than the program.
pub const SOCKET_OLDER: u32 = 1;

/// Out of the socket.
pub const WAY_OUT: u8 = 1;
/// Into the socket.
pub const WAY_IN: u8 = 2;

/// Bytes of a header block in one record.
pub const BLOCK_LEN: usize = 1024;
/// A way introduces its socket again after so many records.
pub const INTRODUCE_EVERY: u32 = 64;

/// One frame; `block_len` bytes of its header block follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Http2Record {
    /// Kernel's socket cookie.
    pub sock_cookie: u64,
    /// When the segment with the frame's first byte passed.
    pub ktime_ns: u64,
    /// TCP sequence number of the frame's first byte: the same at both ends of the connection.
    pub seq: u32,
    /// Stream, 0 for the connection's own frames.
    pub stream_id: u32,
    /// HEADERS and CONTINUATION: bytes of the block in the frame. `RST_STREAM` and GOAWAY: error code.
    /// `KIND_SOCKET`: `SOCKET_*`.
    pub value: u32,
    /// GOAWAY: the last stream that is taken.
    pub last_stream: u32,
    /// Ordinal of the record on its way, from 0.
    pub index: u32,
    /// Thread that wrote, 0 when unknown; as in `ExchangeRecord`.
    pub tid: u32,
    /// Valid bytes that follow.
    pub block_len: u16,
    /// `FRAME_*` or `KIND_*`.
    pub kind: u8,
    /// The frame's flags.
    pub flags: u8,
    /// `SIDE_*` of the socket.
    pub side: u8,
    /// `WAY_*`.
    pub way: u8,
    /// Zero.
    pub _reserved: [u8; 2],
}

/// Bytes of a record without its block.
pub const HTTP2_LEN: usize = size_of::<Http2Record>();

const _: () = assert!(HTTP2_LEN == 48);

/// Every way in which the HTTP/2 programs lose something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Http2Loss {
    /// The ring was full: one record lost.
    RingFull = 0,
    /// No memory for a connection's state: it is not followed.
    SocketStateFull = 1,
    /// The header of a frame was in a segment that came out of order or was never seen: frames are
    /// lost until one is recognised again.
    PositionLost = 2,
    /// A segment had more frames than are looked at, likewise.
    TooManyFrames = 3,
    /// What should be the header of a frame is none, likewise.
    MalformedFrame = 4,
    /// A part of a header block is not in the records.
    BlockCut = 5,
}

/// Slots of the per-CPU counter array, in this order. Append only.
pub const HTTP2_LOSS_SLOTS: u32 = 6;

impl Http2Loss {
    /// Every slot in index order.
    pub const ALL: [Self; HTTP2_LOSS_SLOTS as usize] = [
        Self::RingFull,
        Self::SocketStateFull,
        Self::PositionLost,
        Self::TooManyFrames,
        Self::MalformedFrame,
        Self::BlockCut,
    ];

    /// Value of the `reason` label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingFull => "http2_ring_full",
            Self::SocketStateFull => "http2_socket_state_full",
            Self::PositionLost => "http2_position_lost",
            Self::TooManyFrames => "http2_too_many_frames",
            Self::MalformedFrame => "http2_malformed_frame",
            Self::BlockCut => "http2_block_cut",
        }
    }
}
