//! Reads the ring in bounded batches.

use aya::maps::{MapData, RingBuf};

/// Records taken in one go before other tasks may run.
pub const BATCH: usize = 4096;

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
