//! What the obvious tracer does: a record of 576 bytes for every packet, each of which may wake the
//! reader. Only the benchmark loads it, as the yardstick at the other end of [`crate::empty`].

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_ringbuf_discard, bpf_ringbuf_reserve,
    bpf_ringbuf_submit, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::{btf_tracepoint, cgroup_skb};
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};

use crate::segment::{self, Kind};
use crate::{PASS, emit};

/// Of the payload, as far as the packet goes.
const PREFIX_LEN: usize = 512;

/// One packet.
#[repr(C)]
struct Packet {
    ktime_ns: u64,
    sock_cookie: u64,
    cgroup_id: u64,
    seq: u32,
    len: u32,
    addresses: [u8; 32],
    prefix: [u8; PREFIX_LEN],
}

const _: () = assert!(size_of::<Packet>() == 576);

#[cgroup_skb(egress)]
pub fn naive_egress(ctx: SkBuffContext) -> i32 {
    record(&ctx);
    PASS
}

#[cgroup_skb(ingress)]
pub fn naive_ingress(ctx: SkBuffContext) -> i32 {
    record(&ctx);
    PASS
}

/// One read.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn naive_read(ctx: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = ctx.arg(0);
    // SAFETY: the context's socket; what is reserved is submitted.
    unsafe {
        let cookie = bpf_get_socket_cookie(sk);
        let read: *mut [u64; 2] = bpf_ringbuf_reserve(emit::ring(), 16, 0).cast();
        if !read.is_null() {
            *read = [bpf_ktime_get_ns(), cookie];
            bpf_ringbuf_submit(read.cast(), 0);
        }
    }
    0
}

#[inline(always)]
fn record(ctx: &SkBuffContext) {
    const ADDRESSES: u32 = 12;
    let Ok(Kind::Payload(segment)) = segment::parse(ctx) else {
        return;
    };
    let skb = ctx.skb.skb;
    // SAFETY: what is reserved is written inside of its size, and submitted or discarded.
    unsafe {
        let packet: *mut Packet =
            bpf_ringbuf_reserve(emit::ring(), size_of::<Packet>() as u64, 0).cast();
        if packet.is_null() {
            return;
        }
        (*packet).ktime_ns = bpf_ktime_get_ns();
        (*packet).sock_cookie = bpf_get_socket_cookie(skb.cast());
        (*packet).cgroup_id = bpf_skb_cgroup_id(skb);
        (*packet).seq = segment.seq;
        (*packet).len = segment.len;
        let addresses = (&raw mut (*packet).addresses).cast();
        let prefix = (&raw mut (*packet).prefix).cast();
        let len = segment::bounded(segment.len, PREFIX_LEN as u32);
        if bpf_skb_load_bytes(skb.cast(), ADDRESSES, addresses, 32) == 0
            && bpf_skb_load_bytes(skb.cast(), segment.offset, prefix, len) == 0
        {
            bpf_ringbuf_submit(packet.cast(), 0);
        } else {
            bpf_ringbuf_discard(packet.cast(), 0);
        }
    }
}
