//! What a socket is: its addresses, and whether `accept` made it.

use core::mem;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release};
use aya_ebpf::programs::SkBuffContext;
use tracer_common::SocketInfo;

const AF_INET: u32 = 2;

/// Copies the socket's own view of its connection, before any address translation.
#[inline(always)]
pub(crate) unsafe fn addresses(info: &mut SocketInfo, sk: *mut bpf_sock) {
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
pub(crate) unsafe fn read<T>(field: *const T) -> T {
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
pub(crate) fn is_mapped(address: &[u8; 16]) -> bool {
    address[10] == 0xff && address[11] == 0xff && address[0] == 0 && address[8] == 0
}

/// Whether somebody listens on the local address: then `accept` made the socket. Needs no hook at
/// the opening, so it also tells for connections older than the tracer.
///
/// The peer is left zero: no established connection matches, only a listener can. The tuples are
/// `bpf_sock_tuple`'s two forms, word by word: the compiler would clear the union by a loop that
/// the verifier refuses to a process without CAP_PERFMON.
#[inline(always)]
pub(crate) fn has_listener(ctx: &SkBuffContext, info: &SocketInfo) -> bool {
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
pub(crate) fn words_of(address: &[u8; 16]) -> [u32; 4] {
    // SAFETY: same size, any bits are valid.
    unsafe { mem::transmute::<[u8; 16], [u32; 4]>(*address) }
}
