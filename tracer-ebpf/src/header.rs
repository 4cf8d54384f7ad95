//! Prefixes of plaintext messages, and what the first payload tells of a socket.

use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use tracer_common::record::{PAYLOAD_HTTP, PAYLOAD_HTTP2, PAYLOAD_OTHER, PAYLOAD_TLS};
use tracer_common::{Loss, REQUEST_PREFIX_LEN, RESPONSE_PREFIX_LEN};

use crate::loss;
use crate::segment::{Segment, bounded};
use crate::socket::{KEEP_HEADERS, SocketState};

/// Turns of a TLS handshake: hello and finished.
const HANDSHAKE_TURNS: u8 = 2;
const TLS_CLIENT_HELLO: u8 = 1;
/// TLS record types (RFC 8446, section 5.1).
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;
const TLS_APPLICATION_DATA: u8 = 0x17;

/// First segment of a request: classifies the socket while it is unknown, then keeps the prefix.
#[inline(always)]
pub(crate) fn request(ctx: &SkBuffContext, segment: &Segment, state: &mut SocketState) {
    if state.record.payload <= PAYLOAD_OTHER {
        classify(ctx, segment, state);
    }
    if state.record.control & KEEP_HEADERS == 0 || state.record.payload != PAYLOAD_HTTP {
        return;
    }
    state.record.request_prefix_len = 0;
    state.record.response_prefix_len = 0;
    let len = bounded(segment.len, REQUEST_PREFIX_LEN as u32);
    // SAFETY: `len` is between 1 and the size of the destination.
    let result = unsafe {
        let to = state.heads.request.as_mut_ptr().cast();
        bpf_skb_load_bytes(ctx.skb.skb.cast(), segment.offset, to, len)
    };
    if result == 0 {
        state.record.request_prefix_len = len as u16;
    } else {
        loss::count(Loss::PrefixUnreadable);
    }
}

/// First segment of a response.
#[inline(always)]
pub(crate) fn response(ctx: &SkBuffContext, segment: &Segment, state: &mut SocketState) {
    if state.record.control & KEEP_HEADERS == 0
        || state.record.payload != PAYLOAD_HTTP
        || segment.len < RESPONSE_PREFIX_LEN as u32
    {
        return;
    }
    // SAFETY: the destination has exactly this size.
    let result = unsafe {
        let to = state.heads.response.as_mut_ptr().cast();
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            segment.offset,
            to,
            RESPONSE_PREFIX_LEN as u32,
        )
    };
    if result == 0 {
        state.record.response_prefix_len = RESPONSE_PREFIX_LEN as u8;
    } else {
        loss::count(Loss::PrefixUnreadable);
    }
}

/// Whether the segment is one TLS alert and nothing else: `close_notify` is no request. In TLS 1.3
/// it looks like application data of two bytes, a type and a tag (RFC 8446, sections 5.2 and 6).
#[inline(always)]
pub(crate) fn is_alert(ctx: &SkBuffContext, segment: &Segment) -> bool {
    const HEADER: u32 = 5;
    const SEALED: u32 = 2 + 1 + 16;
    const LONGEST: u32 = 64;
    if segment.len > LONGEST {
        return false;
    }
    let Ok([kind, _, _, high, low]) = ctx
        .skb
        .load::<[u8; HEADER as usize]>(segment.offset as usize)
    else {
        return false;
    };
    let len = u32::from(u16::from_be_bytes([high, low]));
    len + HEADER == segment.len
        && (kind == TLS_ALERT || (kind == TLS_APPLICATION_DATA && len == SEALED))
}

/// Whether the segment begins with a TLS record of application data: in TLS 1.3 whatever comes
/// after the hellos, in TLS 1.2 never a part of the handshake.
#[inline(always)]
pub(crate) fn is_application_data(ctx: &SkBuffContext, segment: &Segment) -> bool {
    let kind = ctx.skb.load::<u8>(segment.offset as usize);
    kind.is_ok_and(|kind| kind == TLS_APPLICATION_DATA)
}

#[inline(always)]
fn classify(ctx: &SkBuffContext, segment: &Segment, state: &mut SocketState) {
    state.record.payload = PAYLOAD_OTHER;
    if segment.len < 8 {
        return;
    }
    let Ok(head) = ctx.skb.load::<[u8; 8]>(segment.offset as usize) else {
        loss::count(Loss::PrefixUnreadable);
        return;
    };
    // Major version 3 in all of TLS.
    if (head[0] == TLS_HANDSHAKE || head[0] == TLS_APPLICATION_DATA) && head[1] == 3 {
        state.record.payload = PAYLOAD_TLS;
        if head[0] == TLS_HANDSHAKE && head[5] == TLS_CLIENT_HELLO {
            state.record.handshake = HANDSHAKE_TURNS;
        }
        return;
    }
    let method = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if is_method(method) {
        state.record.payload = PAYLOAD_HTTP;
    } else if method == u32::from_be_bytes(*b"PRI ") {
        state.record.payload = PAYLOAD_HTTP2;
    }
}

/// The methods of RFC 9110 and RFC 5789.
#[inline(always)]
fn is_method(head: u32) -> bool {
    const fn word(text: &[u8; 4]) -> u32 {
        u32::from_be_bytes(*text)
    }
    head == word(b"GET ")
        || head == word(b"POST")
        || head == word(b"PUT ")
        || head == word(b"HEAD")
        || head == word(b"DELE")
        || head == word(b"PATC")
        || head == word(b"OPTI")
        || head == word(b"CONN")
        || head == word(b"TRAC")
}
