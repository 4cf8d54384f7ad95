//! Reads the ring in bounded batches.

use aya::maps::{MapData, RingBuf};
use tracer_common::record::SHORT_LEN;

/// Records taken in one go before other tasks may run.
pub const BATCH: usize = 4096;

/// Batches that empty a ring of `bytes`, however short its records are: each takes its own length
/// and eight bytes of header (`struct bpf_ringbuf_hdr` in kernel/bpf/ringbuf.c).
#[must_use]
pub const fn batches(bytes: u32) -> usize {
    bytes as usize / (SHORT_LEN + 8) / BATCH + 1
}

/// Hands up to [`BATCH`] raw records to `each`; true when more may be waiting.
pub fn drain(ring: &mut RingBuf<MapData>, mut each: impl FnMut(&[u8])) -> bool {
    for _ in 0..BATCH {
        match ring.next() {
            Some(item) => each(&item),
            None => return false,
        }
    }
    true
}
