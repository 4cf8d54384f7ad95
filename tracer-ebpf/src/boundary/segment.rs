//! From an Ethernet frame to its TCP payload.
//!
//! Headers are copied, not accessed in place: what another driver or a bridge hands over need not be
//! linear, and a program that must not change packets cannot pull them together.

use aya_ebpf::programs::TcContext;
use tracer_common::BoundaryLoss;

/// A veth is an Ethernet device, and both hooks see the frame from its first byte.
const ETHERNET_LEN: usize = 14;
/// EtherTypes as the context has them: in network order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
const IPPROTO_TCP: u8 = 6;
const IPV4_LEN: u32 = 20;
const IPV6_LEN: u32 = 40;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Addresses and ports as they are in the packet, in network order.
pub(crate) struct Tuple {
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: u16,
    pub destination_port: u16,
}

/// The TCP segment of a frame; one may stand for many on the wire (GSO, GRO).
pub(crate) struct Segment {
    pub tuple: Tuple,
    /// Sequence number of the first payload byte.
    pub seq: u32,
    /// Payload bytes; 0 for the SYN that `connect` sends.
    pub len: u32,
}

/// The payload or the SYN of a frame; `None` for anything else.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext) -> Result<Option<Segment>, BoundaryLoss> {
    // SAFETY: a field of the program's own context.
    let protocol = unsafe { (*ctx.skb.skb).protocol };
    if protocol == IPV4 {
        ipv4(ctx)
    } else if protocol == IPV6 {
        ipv6(ctx)
    } else {
        Ok(None)
    }
}

#[inline(always)]
fn ipv4(ctx: &TcContext) -> Result<Option<Segment>, BoundaryLoss> {
    // IPv4 without options and TCP; nothing shorter is TCP.
    let Ok(words) = ctx.load::<[u32; 10]>(ETHERNET_LEN) else {
        return Ok(None);
    };
    let [versions, flags, protocols, source, destination, ..] = words;
    let [_, protocol, _, _] = protocols.to_ne_bytes();
    if protocol != IPPROTO_TCP {
        return Ok(None);
    }
    let [_, _, fragment_high, fragment_low] = flags.to_ne_bytes();
    // More fragments, or an offset.
    if fragment_high & 0x3f != 0 || fragment_low != 0 {
        return Err(BoundaryLoss::UnsupportedHeader);
    }
    let [version, _, total_high, total_low] = versions.to_ne_bytes();
    let total = u32::from(u16::from_be_bytes([total_high, total_low]));
    let header = u32::from(version & 0xf) * 4;
    let mapped = 0xffff_u32.to_be();
    let addresses = ([0, 0, mapped, source], [0, 0, mapped, destination]);
    if header == IPV4_LEN {
        let [_, _, _, _, _, ports, seq, _, rest, _] = words;
        return Ok(tcp(ctx, addresses, [ports, seq, rest], header, total));
    }
    let Ok([ports, seq, _, rest]) = ctx.load::<[u32; 4]>(ETHERNET_LEN + header as usize) else {
        return Ok(None);
    };
    Ok(tcp(ctx, addresses, [ports, seq, rest], header, total))
}

#[inline(always)]
fn ipv6(ctx: &TcContext) -> Result<Option<Segment>, BoundaryLoss> {
    let Ok(words) = ctx.load::<[u32; 15]>(ETHERNET_LEN) else {
        return Ok(None);
    };
    let [
        _,
        lengths,
        sa,
        sb,
        sc,
        sd,
        da,
        db,
        dc,
        dd,
        ports,
        seq,
        _,
        rest,
        _,
    ] = words;
    let [payload_high, payload_low, next, _] = lengths.to_ne_bytes();
    match next {
        IPPROTO_TCP => {}
        // Hop-by-hop, routing, fragment, authentication, destination options: TCP may follow.
        0 | 43 | 44 | 51 | 60 => return Err(BoundaryLoss::UnsupportedHeader),
        _ => return Ok(None),
    }
    let payload = u32::from(u16::from_be_bytes([payload_high, payload_low]));
    let total = if payload == 0 { 0 } else { payload + IPV6_LEN };
    let addresses = ([sa, sb, sc, sd], [da, db, dc, dd]);
    Ok(tcp(ctx, addresses, [ports, seq, rest], IPV6_LEN, total))
}

/// `total` is the length that the IP header tells: a short frame is padded. It is 0 where a frame is
/// too long for it (GSO beyond 64 KiB).
#[inline(always)]
fn tcp(
    ctx: &TcContext,
    (source, destination): ([u32; 4], [u32; 4]),
    [ports, seq, rest]: [u32; 3],
    header: u32,
    total: u32,
) -> Option<Segment> {
    let [words, flags, _, _] = rest.to_ne_bytes();
    let headers = header + u32::from(words >> 4) * 4;
    let total = if total == 0 {
        ctx.len().wrapping_sub(ETHERNET_LEN as u32)
    } else {
        total
    };
    let len = total.saturating_sub(headers);
    if len == 0 && flags & (TCP_SYN | TCP_ACK) != TCP_SYN {
        return None;
    }
    let [source_high, source_low, destination_high, destination_low] = ports.to_ne_bytes();
    Some(Segment {
        tuple: Tuple {
            source,
            destination,
            source_port: u16::from_be_bytes([source_high, source_low]),
            destination_port: u16::from_be_bytes([destination_high, destination_low]),
        },
        seq: u32::from_be(seq),
        len,
    })
}
