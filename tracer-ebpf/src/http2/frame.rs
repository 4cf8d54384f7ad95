//! The header of a frame (RFC 9113, section 4.1), and whether nine bytes are one.

use tracer_common::http2::{
    FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY, FRAME_DATA, FRAME_GOAWAY,
    FRAME_HEADERS, FRAME_RST_STREAM,
};

/// Bytes of a header.
pub(crate) const HEADER_LEN: u32 = 9;
/// Greatest payload until the receiver allows more (section 4.2).
const USUAL_MOST: u32 = 16_384;

const FRAME_PRIORITY: u8 = 2;
const FRAME_SETTINGS: u8 = 4;
const FRAME_PING: u8 = 6;
const FRAME_WINDOW_UPDATE: u8 = 8;
/// Beyond the standard's ten there are ALTSVC, ORIGIN and PRIORITY_UPDATE.
const LAST_KNOWN: u8 = 0x10;

/// A header taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub len: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream_id: u32,
    reserved: bool,
}

impl Header {
    /// Of its first eight bytes, the first one highest, and its last.
    #[inline(always)]
    pub(crate) fn of(first: u64, last: u8) -> Self {
        let id = ((first as u32) << 8) | u32::from(last);
        Self {
            len: (first >> 40) as u32,
            kind: (first >> 32) as u8,
            flags: (first >> 24) as u8,
            stream_id: id & 0x7fff_ffff,
            reserved: id >> 31 != 0,
        }
    }

    #[inline(always)]
    pub(crate) fn of_bytes(bytes: &[u8; HEADER_LEN as usize]) -> Self {
        let [a, b, c, d, e, f, g, h, last] = *bytes;
        Self::of(u64::from_be_bytes([a, b, c, d, e, f, g, h]), last)
    }

    /// Whether a frame may be like this: what a position that is right never fails.
    #[inline(always)]
    pub(crate) fn is_possible(self) -> bool {
        self.kind <= LAST_KNOWN
            && !(self.kind == FRAME_HEADERS && self.stream_id == 0)
            && !(self.kind == FRAME_DATA && self.stream_id == 0)
    }

    /// Whether a frame is likely to be like this.
    #[inline(always)]
    pub(crate) fn is_plausible(self) -> bool {
        if self.len > USUAL_MOST || self.reserved {
            return false;
        }
        let stream = self.stream_id != 0;
        match self.kind {
            FRAME_DATA => stream && self.flags & !(FLAG_END_STREAM | FLAG_PADDED) == 0,
            FRAME_HEADERS => stream && self.has_header_flags() && self.len > 0,
            FRAME_PRIORITY => stream && self.len == 5,
            FRAME_RST_STREAM => stream && self.len == 4,
            FRAME_SETTINGS => !stream && self.flags <= 1 && self.len <= 128,
            FRAME_PING => !stream && self.flags <= 1 && self.len == 8,
            FRAME_GOAWAY => !stream && self.len >= 8,
            FRAME_WINDOW_UPDATE => self.len == 4 && self.flags == 0,
            _ => false,
        }
    }

    /// Whether it begins a stream, or answers on one: all of its block in one frame, on a stream of
    /// the client's.
    #[inline(always)]
    pub(crate) fn is_opening(self) -> bool {
        self.kind == FRAME_HEADERS
            && self.is_plausible()
            && self.flags & FLAG_END_HEADERS != 0
            && self.stream_id & 1 != 0
    }

    #[inline(always)]
    fn has_header_flags(self) -> bool {
        self.flags & !(FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY) == 0
    }
}
