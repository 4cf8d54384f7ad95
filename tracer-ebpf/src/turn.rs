//! The turn machine: a run of payload one way is a turn, a request and a response an exchange.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_tcp_sock};
use aya_ebpf::programs::SkBuffContext;
use tracer_common::Loss;
use tracer_common::record::{
    FLAG_AFTER_HANDSHAKE, FLAG_HANDSHAKE, FLAG_NO_RESPONSE, FLAG_PREVIOUS_SEGMENTS,
    FLAG_REQUEST_SEGMENTS, FLAG_RETRANSMIT, PAYLOAD_TLS, SIDE_CLIENT, SIDE_SERVER,
};

use crate::segment::{Kind, Segment, parse};
use crate::socket::{
    ANSWERED, IDLE, RECEIVED, REQUEST, RESPONDED, RESPONSE_SEGMENTS, SENT, SocketState,
};
use crate::{emit, header, loss, settings, socket, stamp, thread, window};

/// The kernel's smoothed round trip time is read once in so many exchanges.
const SRTT_EVERY: u32 = 16;

/// Way of a packet through the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the network to the socket.
    Ingress,
    /// From the socket to the network.
    Egress,
}

/// A packet leaves; `writer` tells the thread that runs.
#[inline(always)]
pub(crate) fn on_departure(
    ctx: &SkBuffContext,
    writer: impl Fn() -> u32,
    log: bool,
) -> Result<(), Loss> {
    on_segment(ctx, Direction::Egress, writer, log)
}

/// A packet arrives, and whoever runs has nothing to do with it.
#[inline(always)]
pub(crate) fn on_arrival(ctx: &SkBuffContext, log: bool) -> Result<(), Loss> {
    on_segment(ctx, Direction::Ingress, thread::unknown, log)
}

#[inline(always)]
fn on_segment(
    ctx: &SkBuffContext,
    direction: Direction,
    writer: impl Fn() -> u32,
    log: bool,
) -> Result<(), Loss> {
    let Some(window) = window::open() else {
        return Ok(());
    };
    let segment = match parse(ctx)? {
        Kind::Nothing => return Ok(()),
        Kind::Syn if direction == Direction::Egress => {
            return on_connect(ctx, window, writer, log);
        }
        Kind::Syn => return Ok(()),
        Kind::Payload(segment) => segment,
    };
    // SAFETY: the socket field of the program's own context.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return Ok(());
    }
    let state = match socket::find(sk.cast()) {
        Some(state) => state,
        None => match socket::create(ctx, sk, false, log)? {
            Some(state) => state,
            None => return Ok(()),
        },
    };
    window::take_over(state, window);
    if !advance(state, &segment, direction) {
        return Ok(());
    }
    let now = match direction {
        Direction::Egress => stamp::departure(ctx),
        Direction::Ingress => stamp::now(),
    };
    let server = state.record.side == SIDE_SERVER;
    if server == (direction == Direction::Ingress) {
        on_request(ctx, sk, state, &segment, now, writer);
    } else {
        on_response(ctx, state, &segment, now, writer);
    }
    Ok(())
}

/// `connect` was called: the state begins with the SYN, so that the agent knows which read made an
/// Envoy open a new upstream connection.
#[inline(always)]
fn on_connect(
    ctx: &SkBuffContext,
    window: u32,
    writer: impl Fn() -> u32,
    log: bool,
) -> Result<(), Loss> {
    // SAFETY: the socket field of the program's own context.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return Ok(());
    }
    if let Some(state) = socket::create(ctx, sk, true, log)? {
        window::take_over(state, window);
        if state.info.open_ktime_ns == 0 {
            // SAFETY: takes nothing.
            state.info.open_ktime_ns = unsafe { bpf_ktime_get_ns() };
        }
        state.record.write_tid = writer();
    }
    Ok(())
}

/// Moves the stream position; false when the segment brings no new byte (a retransmission).
#[inline(always)]
fn advance(state: &mut SocketState, segment: &Segment, direction: Direction) -> bool {
    let end = segment.seq.wrapping_add(segment.len);
    let (next, bit) = match direction {
        Direction::Ingress => (&mut state.record.receive_next, RECEIVED),
        Direction::Egress => (&mut state.record.send_next, SENT),
    };
    if state.record.control & bit != 0 && (end.wrapping_sub(*next) as i32) <= 0 {
        state.record.flags |= FLAG_RETRANSMIT;
        return false;
    }
    *next = end;
    state.record.control |= bit;
    true
}

#[inline(always)]
fn on_request(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    state: &mut SocketState,
    segment: &Segment,
    now: u64,
    writer: impl Fn() -> u32,
) {
    if state.record.phase == REQUEST {
        let second = state.record.flags & FLAG_REQUEST_SEGMENTS == 0;
        // Behind a handshake's last flight it is the second segment that begins the request.
        if second || state.record.handshake != 1 {
            state.record.request_last_ktime_ns = now;
            state.request_last_seq = segment.seq;
        }
        state.record.flags |= FLAG_REQUEST_SEGMENTS;
        return;
    }
    if state.record.payload == PAYLOAD_TLS && header::is_alert(ctx, segment) {
        return;
    }
    if state.record.phase == RESPONDED {
        // Nobody was seen reading the last response: it went by another way than recvmsg.
        emit::exchange(state);
    }
    start(state, segment, now);
    if state.record.side == SIDE_CLIENT {
        state.record.write_tid = writer();
        if state.record.index.is_multiple_of(SRTT_EVERY) {
            // SAFETY: `sk` is the context's non-null socket; the helper checks that it is TCP.
            let tcp = unsafe { bpf_tcp_sock(sk) };
            if !tcp.is_null() {
                // SAFETY: not null. The kernel keeps eight times the smoothed value.
                state.record.srtt_us = unsafe { (*tcp).srtt_us } >> 3;
            }
        }
    }
    header::request(ctx, segment, state);
    if state.record.handshake > 0 {
        state.record.flags |= FLAG_HANDSHAKE;
    }
}

/// Opens an exchange.
#[inline(always)]
fn start(state: &mut SocketState, segment: &Segment, now: u64) {
    let segments = state.record.control & RESPONSE_SEGMENTS != 0;
    state.record.control &= !RESPONSE_SEGMENTS;
    state.record.flags = if segments { FLAG_PREVIOUS_SEGMENTS } else { 0 };
    state.record.request_first_ktime_ns = now;
    clear(&mut state.record.response_first_ktime_ns);
    clear(&mut state.record.read_ktime_ns);
    state.record.request_seq = segment.seq;
    state.record.phase = REQUEST;
}

/// Volatile: the compiler would join two of these in a call of memset, a loop over single bytes
/// that the verifier refuses to a process without CAP_PERFMON.
#[inline(always)]
fn clear(stamp: &mut u64) {
    // SAFETY: a reference is valid for writes.
    unsafe { core::ptr::from_mut(stamp).write_volatile(0) };
}

#[inline(always)]
fn on_response(
    ctx: &SkBuffContext,
    state: &mut SocketState,
    segment: &Segment,
    now: u64,
    writer: impl Fn() -> u32,
) {
    if state.record.phase == IDLE {
        // Counted once; what follows is the rest of the same response.
        state.record.phase = ANSWERED;
        loss::count(Loss::RequestUnseen);
        return;
    }
    if state.record.phase != REQUEST {
        state.record.response_last_ktime_ns = now;
        state.record.control |= RESPONSE_SEGMENTS;
        return;
    }
    state.record.response_first_ktime_ns = now;
    if state.record.handshake == 1 && header::is_application_data(ctx, segment) {
        unshare(state);
    }
    if state.record.side == SIDE_SERVER {
        // A worker answers in the thread that reads, so the reader's name is enough.
        if !settings::read_hook() {
            state.record.write_tid = writer();
        }
        header::response(ctx, segment, state);
        finish(state);
    } else if settings::read_hook() {
        state.record.phase = RESPONDED;
    } else {
        finish(state);
    }
}

/// The handshake's last flight and the first request came in one turn: what is answered is the
/// request, which began with the turn's second segment. On a server socket it must have been read
/// since.
#[inline(always)]
fn unshare(state: &mut SocketState) {
    let request = state.record.request_last_ktime_ns;
    let read = state.record.side == SIDE_CLIENT
        || !settings::read_hook()
        || state.record.read_ktime_ns >= request;
    if state.record.flags & FLAG_REQUEST_SEGMENTS != 0 && read {
        state.record.request_first_ktime_ns = request;
        state.record.request_seq = state.request_last_seq;
        state.record.flags = FLAG_AFTER_HANDSHAKE;
    }
}

#[inline(always)]
fn finish(state: &mut SocketState) {
    emit::exchange(state);
    state.record.phase = ANSWERED;
    if state.record.handshake > 0 {
        state.record.handshake -= 1;
    }
}

/// The state of a socket, where it is of the open window.
#[inline(always)]
fn found<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    let window = window::open()?;
    socket::find(sk).filter(|state| window::is_of(state, window))
}

/// A thread copied data out of the socket. Process context: `current` is the reader.
#[inline(always)]
pub(crate) fn on_read(sk: *mut c_void) -> Result<(), Loss> {
    let Some(state) = found(sk) else {
        return Ok(());
    };
    let server = state.record.side == SIDE_SERVER;
    if server && state.record.phase == REQUEST {
        // Behind a handshake's last flight it is the read after the request's arrival that counts.
        let behind = state.record.handshake == 1
            && state.record.flags & FLAG_REQUEST_SEGMENTS != 0
            && state.record.read_ktime_ns < state.record.request_last_ktime_ns;
        if state.record.read_ktime_ns == 0 || behind {
            stamp_read(state);
        }
    } else if !server && state.record.phase == RESPONDED {
        stamp_read(state);
        finish(state);
    }
    Ok(())
}

#[inline(always)]
fn stamp_read(state: &mut SocketState) {
    // SAFETY: takes nothing.
    state.record.read_ktime_ns = unsafe { bpf_ktime_get_ns() };
    // The same kind of key as the egress program's: the agent compares them.
    let reader = if settings::thread_by_task() {
        thread::by_task()
    } else {
        thread::by_pid()
    };
    if reader != state.record.read_tid {
        state.record.read_tid = reader;
        state.info.tgid = thread::process();
    }
}

/// The socket closed: an exchange still open gets its record now.
#[inline(always)]
pub(crate) fn on_close(sk: *mut c_void) -> Result<(), Loss> {
    let Some(state) = found(sk) else {
        return Ok(());
    };
    if state.record.phase == REQUEST {
        state.record.flags |= FLAG_NO_RESPONSE;
        finish(state);
    } else if state.record.phase == RESPONDED {
        finish(state);
    }
    Ok(())
}
