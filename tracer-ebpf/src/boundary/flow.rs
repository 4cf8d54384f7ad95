//! The turns of a connection at one veth: who has the word, and since when.

use core::{mem, ptr};

use aya_ebpf::bindings::{BPF_ANY, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{LruHashMap, RingBuf};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_output};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::TcContext;
use tracer_common::boundary::{POD_OF_CLIENT, POD_OF_SERVER};
use tracer_common::{BoundaryLoss, BoundaryRecord};

use crate::segment::{self, Segment};

/// Way of a packet: out of the pod.
pub(crate) const OUT: u8 = 1;
/// Into the pod.
pub(crate) const IN: u8 = 2;

const FLOWS_MOST: usize = 32_768;
const RING_BYTES: usize = 1 << 20;

/// Turns at the beginning of a connection whose second segment is stamped as well: a TLS handshake
/// has up to four before the request that shares the last of them.
const EARLY_TURNS: u8 = 8;

/// One connection at one veth.
#[derive(Clone, Copy)]
#[repr(C)]
struct Key {
    pod: [u32; 4],
    peer: [u32; 4],
    pod_port: u16,
    peer_port: u16,
    /// Pods of different networks may have the same address.
    ifindex: u32,
}

/// The turn in progress.
///
/// Programs of one connection may run on two CPUs at once. A stamp may be lost then, or a record
/// have one of another turn; the agent takes none that does not lie between the sockets' own.
#[derive(Clone, Copy)]
#[repr(C)]
struct Flow {
    first_ktime_ns: u64,
    second_ktime_ns: u64,
    first_seq: u32,
    second_seq: u32,
    /// Sequence number after the last payload byte, out and in.
    out_next: u32,
    in_next: u32,
    /// Which way payload went last; 0 when there was none.
    turn: u8,
    /// Ways in which payload was seen, `OUT | IN`.
    seen: u8,
    /// Which way the SYN went; 0 when it was not seen.
    syn: u8,
    /// Turns so far, up to `EARLY_TURNS`.
    turns: u8,
    _padding: u32,
}

const NEW: Flow = Flow {
    first_ktime_ns: 0,
    second_ktime_ns: 0,
    first_seq: 0,
    second_seq: 0,
    out_next: 0,
    in_next: 0,
    turn: 0,
    seen: 0,
    syn: 0,
    turns: 0,
    _padding: 0,
};

/// Key: a connection at a veth. Size: two for each connection between pods of the node, 32,768 of
/// 130 bytes with the kernel's own part. Full: the connection that was quiet for longest is
/// forgotten, and when it goes on, the agent misses its next turn and counts that.
#[btf_map]
static FLOWS: LruHashMap<Key, Flow, FLOWS_MOST> = LruHashMap::new();

/// One record an answered turn. Full: counted as `boundary_ring_full`. The reader polls.
#[btf_map]
static BOUNDARIES: RingBuf<BoundaryRecord, RING_BYTES> = RingBuf::new();

/// A packet passes.
#[inline(always)]
pub(crate) fn on_packet(ctx: &TcContext, way: u8) -> Result<(), BoundaryLoss> {
    let Some(segment) = segment::parse(ctx)? else {
        return Ok(());
    };
    // SAFETY: a field of the program's own context.
    let key = &key(&segment, way, unsafe { (*ctx.skb.skb).ifindex });
    if segment.len == 0 {
        // Also when the ports were another connection's before.
        return keep(key, &Flow { syn: way, ..NEW });
    }
    match FLOWS.get_ptr_mut(key) {
        // SAFETY: the value stays mapped while the program runs; see `Flow` for who else writes.
        Some(flow) => advance(unsafe { &mut *flow }, &segment, key, way),
        None => {
            let mut flow = NEW;
            begin(&mut flow, &segment, way, now());
            keep(key, &flow)
        }
    }
}

#[inline(always)]
fn key(segment: &Segment, way: u8, ifindex: u32) -> Key {
    let tuple = &segment.tuple;
    let (source, destination) = (
        (tuple.source, tuple.source_port),
        (tuple.destination, tuple.destination_port),
    );
    let (pod, peer) = if way == OUT {
        (source, destination)
    } else {
        (destination, source)
    };
    Key {
        pod: pod.0,
        peer: peer.0,
        pod_port: pod.1,
        peer_port: peer.1,
        ifindex,
    }
}

#[inline(always)]
fn keep(key: &Key, flow: &Flow) -> Result<(), BoundaryLoss> {
    let kept = FLOWS.insert(key, flow, u64::from(BPF_ANY));
    kept.map_err(|_full| BoundaryLoss::FlowsFull)
}

/// Payload of a known connection.
#[inline(always)]
fn advance(flow: &mut Flow, segment: &Segment, key: &Key, way: u8) -> Result<(), BoundaryLoss> {
    let end = segment.seq.wrapping_add(segment.len);
    let next = if way == OUT {
        flow.out_next
    } else {
        flow.in_next
    };
    if flow.seen & way != 0 && (end.wrapping_sub(next) as i32) <= 0 {
        // A retransmission: its first way through here counts.
        return Ok(());
    }
    if flow.turn == way {
        if flow.turns < EARLY_TURNS && flow.second_ktime_ns == 0 {
            flow.second_ktime_ns = now();
            flow.second_seq = segment.seq;
        }
        forward(flow, way, end);
        return Ok(());
    }
    let now = now();
    // Where the SYN was seen it is known which turns are requests.
    let told = if flow.turn != 0 && (flow.syn == 0 || flow.syn == flow.turn) {
        tell(flow, key, now)
    } else {
        Ok(())
    };
    begin(flow, segment, way, now);
    told
}

/// A turn begins.
#[inline(always)]
fn begin(flow: &mut Flow, segment: &Segment, way: u8, now: u64) {
    forward(flow, way, segment.seq.wrapping_add(segment.len));
    flow.first_ktime_ns = now;
    flow.first_seq = segment.seq;
    flow.second_ktime_ns = 0;
    flow.turn = way;
    if flow.turns < EARLY_TURNS {
        flow.turns += 1;
    }
}

#[inline(always)]
fn forward(flow: &mut Flow, way: u8, end: u32) {
    if way == OUT {
        flow.out_next = end;
    } else {
        flow.in_next = end;
    }
    flow.seen |= way;
}

/// Sends the record of the turn that is answered now.
#[inline(always)]
fn tell(flow: &Flow, key: &Key, now: u64) -> Result<(), BoundaryLoss> {
    let client = if flow.turn == OUT {
        (key.pod, key.pod_port, POD_OF_CLIENT)
    } else {
        (key.peer, key.peer_port, POD_OF_SERVER)
    };
    let record = BoundaryRecord {
        // SAFETY: same size, any bits are valid.
        client_addr: unsafe { mem::transmute::<[u32; 4], [u8; 16]>(client.0) },
        client_port: client.1,
        pod: client.2,
        _reserved: 0,
        request_seq: flow.first_seq,
        request_ktime_ns: flow.first_ktime_ns,
        second_ktime_ns: flow.second_ktime_ns,
        response_ktime_ns: now,
        second_seq: flow.second_seq,
        _padding: 0,
    };
    let (map, from) = (ptr::from_ref(&BOUNDARIES), ptr::from_ref(&record));
    // SAFETY: the record is as long as told.
    let sent = unsafe {
        bpf_ringbuf_output(
            map.cast_mut().cast(),
            from.cast_mut().cast(),
            size_of::<BoundaryRecord>() as u64,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(BoundaryLoss::RingFull)
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}
