//! The state of a socket: found by the socket itself, freed by the kernel with it.

use core::{mem, ptr};

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_sk_fullsock, bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_get,
    bpf_skb_cgroup_id,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{ExchangeRecord, Heads, Loss, SocketInfo};

use crate::settings;

const AF_INET: u32 = 2;
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
    pub _reserved: u32,
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
    if unsafe { read(&raw const (*full).state) } == TCP_LISTEN {
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
    unsafe { addresses(&mut state.info, full) };
    let server = !connecting && has_listener(ctx, &state.info);
    state.record.side = if server { SIDE_SERVER } else { SIDE_CLIENT };
    if server && keeps_headers(&state.info) {
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

/// Copies the socket's own view of its connection, before any address translation.
#[inline(always)]
unsafe fn addresses(info: &mut SocketInfo, sk: *mut bpf_sock) {
    // SAFETY: the caller vouches for a full socket. Every element is read by its own constant
    // offset, as the verifier asks for context accesses.
    unsafe {
        info.sport = read(&raw const (*sk).src_port) as u16;
        info.dport = u16::from_be(read(&raw const (*sk).dst_port));
        // Both families' fields are read before the choice, for the same reason.
        let four = (
            read(&raw const (*sk).src_ip4),
            read(&raw const (*sk).dst_ip4),
        );
        let source = words((&raw const (*sk).src_ip6).cast());
        let destination = words((&raw const (*sk).dst_ip6).cast());
        let mapped = u32::from_be(0x0000_ffff);
        let (source, destination) = if read(&raw const (*sk).family) == AF_INET {
            ([0, 0, mapped, four.0], [0, 0, mapped, four.1])
        } else {
            (source, destination)
        };
        info.saddr = mem::transmute::<[u32; 4], [u8; 16]>(source);
        info.daddr = mem::transmute::<[u32; 4], [u8; 16]>(destination);
    }
}

/// Reads one context field. Volatile: merged loads would compute on the socket pointer, which the
/// verifier refuses.
#[inline(always)]
unsafe fn read<T>(field: *const T) -> T {
    // SAFETY: the caller points at a field of a full socket.
    unsafe { field.read_volatile() }
}

#[inline(always)]
unsafe fn words(field: *const u32) -> [u32; 4] {
    // SAFETY: the caller points at four words of a full socket.
    unsafe {
        [
            read(field),
            read(field.add(1)),
            read(field.add(2)),
            read(field.add(3)),
        ]
    }
}

#[inline(always)]
fn is_mapped(address: &[u8; 16]) -> bool {
    address[10] == 0xff && address[11] == 0xff && address[0] == 0 && address[8] == 0
}

/// Whether somebody listens on the local address: then `accept` made the socket. Needs no hook at
/// the opening, so it also tells for connections older than the tracer.
///
/// The peer is left zero: no established connection matches, only a listener can. The tuples are
/// `bpf_sock_tuple`'s two forms, word by word: the compiler would clear the union by a loop that
/// the verifier refuses to a process without CAP_PERFMON.
#[inline(always)]
fn has_listener(ctx: &SkBuffContext, info: &SocketInfo) -> bool {
    let local = words_of(&info.saddr);
    // Source port (zero), then destination port, both in network order.
    let ports = u32::from(info.sport.to_be()) << 16;
    if is_mapped(&info.saddr) {
        listens(ctx, [0, local[3], ports])
    } else {
        let [a, b, c, d] = local;
        let zero = hidden_zero();
        listens(ctx, [zero, zero, zero, zero, a, b, c, d, ports])
    }
}

#[inline(always)]
fn listens<const WORDS: usize>(ctx: &SkBuffContext, mut tuple: [u32; WORDS]) -> bool {
    let len = (WORDS * 4) as u32;
    // SAFETY: the tuple is as long as told, which selects its form; the reference is given back.
    unsafe {
        let skb = ctx.skb.skb.cast();
        let sk = bpf_sk_lookup_tcp(
            skb,
            tuple.as_mut_ptr().cast(),
            len,
            BPF_F_CURRENT_NETNS as u64,
            0,
        );
        if sk.is_null() {
            return false;
        }
        bpf_sk_release(sk.cast());
    }
    true
}

/// A zero that the compiler does not see as one; see [`has_listener`].
#[inline(always)]
fn hidden_zero() -> u32 {
    let zero = 0;
    // SAFETY: a reference is valid for reads.
    unsafe { read(&raw const zero) }
}

#[inline(always)]
fn words_of(address: &[u8; 16]) -> [u32; 4] {
    // SAFETY: same size, any bits are valid.
    unsafe { mem::transmute::<[u8; 16], [u32; 4]>(*address) }
}

/// Privacy: plaintext is looked at on the app's own legs only, never between pods of a mesh.
#[inline(always)]
fn keeps_headers(info: &SocketInfo) -> bool {
    let loopback = is_loopback(&info.saddr) || is_loopback(&info.daddr);
    if loopback {
        return settings::headers_on_loopback();
    }
    settings::headers_on_app_legs() && info.sport != settings::sidecar_inbound_port()
}

#[inline(always)]
fn is_loopback(address: &[u8; 16]) -> bool {
    if is_mapped(address) {
        return address[12] == 127;
    }
    let [a, b, c, d] = words_of(address);
    // ::1, and ::6 from which an inbound sidecar speaks to its app.
    a | b | c == 0 && (u32::from_be(d) == 1 || u32::from_be(d) == 6)
}
