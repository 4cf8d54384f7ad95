//! The one writer of the ring of HTTP/2.

use core::ptr;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use aya_ebpf::macros::btf_map;
use tracer_common::http2::HTTP2_LEN;
use tracer_common::{Http2Loss, Http2Record, SocketInfo};

use crate::connection::Way;
use crate::loss;

const RING_BYTES: usize = 4 << 20;

/// Frames that begin or end streams. A ring of its own: what HTTP/2 has in excess pushes out no
/// exchange of the others. Size: the agent's `ring_size`; full: counted as `http2_ring_full`, and told
/// by the numbers of the records. The reader polls.
#[btf_map]
static HTTP2_FRAMES: RingBuf<Http2Record, RING_BYTES> = RingBuf::new();

/// Sends a record without a block.
#[inline(always)]
pub(crate) fn short(way: &mut Way) {
    output(way, HTTP2_LEN);
}

/// Sends a record with what a socket tells of itself.
#[inline(always)]
pub(crate) fn with_info(way: &mut Way) {
    output(way, HTTP2_LEN + size_of::<SocketInfo>());
}

/// Sends a record with `len` bytes of a block.
#[inline(always)]
pub(crate) fn with_block(way: &mut Way, len: u32) {
    output(way, HTTP2_LEN + len as usize);
}

/// Copies the first `len` bytes of the way, which is laid out as the wire is.
#[inline(always)]
fn output(way: &mut Way, len: usize) {
    let map = ptr::from_ref(&HTTP2_FRAMES).cast_mut().cast();
    let from = ptr::from_mut(way).cast();
    // SAFETY: `len` is at most the size of the way's wire part.
    let sent = unsafe { bpf_ringbuf_output(map, from, len as u64, u64::from(BPF_RB_NO_WAKEUP)) };
    way.record.index = way.record.index.wrapping_add(1);
    if sent != 0 {
        loss::count(Http2Loss::RingFull);
    }
}
