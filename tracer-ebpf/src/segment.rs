//! From a packet to its TCP payload.

use aya_ebpf::programs::SkBuffContext;
use tracer_common::Loss;

const IPPROTO_TCP: u8 = 6;
const MIN_HEADERS_LEN: usize = 40;
const IPV6_HEADER_LEN: usize = 40;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// The TCP segment of a packet; one may stand for many on the wire (GSO, GRO).
pub(crate) struct Segment {
    /// Sequence number of the first payload byte.
    pub seq: u32,
    /// Payload bytes, never 0 for [`Kind::Payload`].
    pub len: u32,
    /// Offset of the payload in the packet.
    pub offset: u32,
}

/// What a packet is to us.
pub(crate) enum Kind {
    /// Not TCP, or a bare acknowledgement: most packets end here, before any map is touched.
    Nothing,
    /// `connect` was called.
    Syn,
    /// Payload.
    Payload(Segment),
}

/// Reads the headers by direct access. TCP headers are linear on both paths: the kernel pulled
/// them (`tcp_v4_rcv`) or has just written them.
#[inline(always)]
pub(crate) fn parse(ctx: &SkBuffContext) -> Result<Kind, Loss> {
    // SAFETY: `skb` is the program's context, valid while it runs.
    let (data, end, len) = unsafe {
        let skb = ctx.skb.skb;
        ((*skb).data as usize, (*skb).data_end as usize, (*skb).len)
    };
    // One check for the fixed IPv4 and TCP headers: nothing shorter is TCP.
    if data + MIN_HEADERS_LEN > end {
        return Ok(Kind::Nothing);
    }
    let first = byte(data, 0);
    if first == 0x45 {
        if byte(data, 9) != IPPROTO_TCP {
            return Ok(Kind::Nothing);
        }
        return tcp(data, end, len, 20);
    }
    match first >> 4 {
        6 => match byte(data, 6) {
            IPPROTO_TCP => tcp(data, end, len, IPV6_HEADER_LEN),
            // Hop-by-hop, routing, fragment, authentication, destination options: TCP may follow.
            0 | 43 | 44 | 51 | 60 => Err(Loss::UnsupportedHeader),
            _ => Ok(Kind::Nothing),
        },
        4 => match (byte(data, 9), first & 0xf) {
            (IPPROTO_TCP, words) => ipv4_options(data, end, len, words),
            _ => Ok(Kind::Nothing),
        },
        _ => Err(Loss::MalformedHeader),
    }
}

/// IPv4 options are rare; constant offsets keep the verifier's and the CPU's work small.
#[inline(always)]
fn ipv4_options(data: usize, end: usize, len: u32, words: u8) -> Result<Kind, Loss> {
    match words {
        6 => tcp(data, end, len, 24),
        7 => tcp(data, end, len, 28),
        8..=15 => Err(Loss::UnsupportedHeader),
        _ => Err(Loss::MalformedHeader),
    }
}

#[inline(always)]
fn tcp(data: usize, end: usize, len: u32, header: usize) -> Result<Kind, Loss> {
    if data + header + 20 > end {
        return Err(Loss::MalformedHeader);
    }
    let tcp = (data + header) as *const u8;
    // SAFETY: 20 bytes from `tcp` were checked against the end of the linear data just above.
    let (seq, words, flags) = unsafe {
        (
            u32::from_be(word(tcp.add(4))),
            *tcp.add(12) >> 4,
            *tcp.add(13),
        )
    };
    let offset = header as u32 + (words as u32) * 4;
    if words < 5 {
        return Err(Loss::MalformedHeader);
    }
    if offset >= len {
        let syn = flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
        return Ok(if syn { Kind::Syn } else { Kind::Nothing });
    }
    Ok(Kind::Payload(Segment {
        seq,
        len: len - offset,
        offset,
    }))
}

/// A byte of the fixed headers, `at` below [`MIN_HEADERS_LEN`].
#[inline(always)]
fn byte(data: usize, at: usize) -> u8 {
    // SAFETY: `parse` checked the fixed headers against the end of the linear data.
    unsafe { *((data + at) as *const u8) }
}

/// A word of the packet at any alignment: the compiler would load it byte by byte, while every
/// machine with a BPF compiler of its own takes it in one load.
///
/// # Safety
/// Four bytes from `at` are within the packet.
#[inline(always)]
unsafe fn word(at: *const u8) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let word: u64;
        // SAFETY: the caller vouches for the bytes; the load has no other effect.
        unsafe {
            core::arch::asm!(
                "{word} = *(u32 *)({at} + 0)",
                word = out(reg) word,
                at = in(reg) at,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        word as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        at.cast::<u32>().read_unaligned()
    }
}

/// `min(len, max)` of a `len` of at least 1, in a way that every verifier sees: before Linux 6.8 it
/// learns no lower bound from a comparison with zero, so the bound is taken one below and one is added.
#[inline(always)]
pub(crate) fn bounded(len: u32, max: u32) -> u32 {
    let mut last = len.wrapping_sub(1);
    #[cfg(target_arch = "bpf")]
    // SAFETY: adds nothing; it only hides the value's origin from the optimiser, which would undo the
    // detour. An instruction and not an empty statement: that would give two lines of debug information
    // to the one that follows, which the kernel refuses.
    unsafe {
        core::arch::asm!("{0} += 0", inout(reg) last, options(nomem, nostack, preserves_flags));
    }
    if last > max - 1 {
        last = max - 1;
    }
    last + 1
}
