//! The state of a socket: found by the socket itself, freed by the kernel with it.

use core::ptr;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_cgroup_id,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{ExchangeRecord, Heads, Loss, SocketInfo};

use crate::{endpoint, legs};

/// `BPF_TCP_LISTEN`.
const TCP_LISTEN: u32 = 10;

/// No exchange is open.
pub(crate) const IDLE: u8 = 0;
/// A request is passing; no response yet.
pub(crate) const REQUEST: u8 = 1;
/// Client side: the response began and nobody has read it yet.
pub(crate) const RESPONDED: u8 = 2;
/// The exchange's record has left.
pub(crate) const ANSWERED: u8 = 3;

/// State of one TCP socket: the wire parts under construction, in wire order, and the rest.
///
/// Hooks of one socket may run on two CPUs at once (an arrival against a write). Requests and
/// responses alternate, so they meet only when a peer breaks the turns; then a stamp may be lost,
/// never memory safety.
#[repr(C)]
pub(crate) struct SocketState {
    /// Sent as it is; must be first: the ring copies from here, and its first 56 bytes share the
    /// cache line of the storage's header.
    pub record: ExchangeRecord,
    /// Sent when the socket announces itself.
    pub info: SocketInfo,
    /// Sent with plaintext requests.
    pub heads: Heads,
    /// Sequence number of the last segment's first byte, of a request with several.
    pub request_last_seq: u32,
    /// Number of the window that the exchange is of; see [`crate::window`].
    pub window: u32,
}

/// `control`: something was sent, so `send_next` is valid.
pub(crate) const SENT: u8 = 1;
/// `control`: something was received, so `receive_next` is valid.
pub(crate) const RECEIVED: u8 = 2;
/// `control`: plaintext heads of this socket may be kept.
pub(crate) const KEEP_HEADERS: u8 = 4;
/// `control`: the response in progress has several segments.
pub(crate) const RESPONSE_SEGMENTS: u8 = 8;

/// Key: the socket. Size: one value a traced socket, so bounded by the node's sockets; when the
/// kernel has no memory the segment is counted as `socket_state_full`.
#[btf_map]
static SOCKETS: SkStorage<SocketState> = SkStorage::new();

#[inline(always)]
fn map() -> *mut c_void {
    ptr::from_ref(&SOCKETS).cast_mut().cast()
}

/// The state of a socket already traced.
#[inline(always)]
pub(crate) fn find<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    // SAFETY: `sk` is the socket pointer of the hook's context. The value lives as long as the
    // socket, which outlives the hook.
    unsafe {
        bpf_sk_storage_get(map(), sk, ptr::null_mut(), 0)
            .cast::<SocketState>()
            .as_mut()
    }
}

/// Makes the state of a socket at its first payload (or SYN).
#[inline(always)]
pub(crate) fn create<'a>(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    connecting: bool,
    log: bool,
) -> Result<Option<&'a mut SocketState>, Loss> {
    // SAFETY: helper on the context's own, non-null socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        // A request or time-wait socket carries no exchange.
        return Ok(None);
    }
    // SAFETY: `full` is a full socket.
    if unsafe { endpoint::read(&raw const (*full).state) } == TCP_LISTEN {
        // Data with the handshake's last packet passes the filter of the listener, before `accept`
        // makes a socket (`tcp_v4_rcv` in net/ipv4/tcp_ipv4.c). Its answer tells of the loss.
        return Ok(None);
    }
    // SAFETY: as in `find`; a null initial value means zeroed.
    let state = unsafe {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        bpf_sk_storage_get(map(), full.cast(), ptr::null_mut(), flags)
            .cast::<SocketState>()
            .as_mut()
    };
    let state = state.ok_or(Loss::SocketStateFull)?;
    let skb = ctx.skb.skb;
    // SAFETY: helpers on the program's own context.
    unsafe {
        state.record.sock_cookie = bpf_get_socket_cookie(skb.cast());
        state.info.cgroup_id = bpf_skb_cgroup_id(skb);
    }
    // SAFETY: `full` is a full socket, so every field of `bpf_sock` may be read.
    unsafe { endpoint::addresses(&mut state.info, full) };
    let server = !connecting && endpoint::has_listener(ctx, &state.info);
    state.record.side = if server { SIDE_SERVER } else { SIDE_CLIENT };
    if server && legs::keeps_headers(&state.info) {
        state.record.control |= KEEP_HEADERS;
    }
    if log {
        announce(state);
    }
    Ok(Some(state))
}

/// Tells of a new socket, where diagnostics are on.
#[inline(never)]
fn announce(state: &SocketState) {
    debug!(
        (),
        "socket {} side {} ports {} {} cgroup {}",
        state.record.sock_cookie,
        state.record.side,
        state.info.sport,
        state.info.dport,
        state.info.cgroup_id
    );
}
