//! The counters of what is lost of HTTP/2.

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;
use tracer_common::{HTTP2_LOSS_SLOTS, Http2Loss};

/// Key: `Http2Loss` as an index. Size: its slots. Never full; per CPU so that CPUs do not share.
#[btf_map]
static HTTP2_LOSSES: PerCpuArray<u64, { HTTP2_LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn count(loss: Http2Loss) {
    let map = ptr::from_ref(&HTTP2_LOSSES).cast_mut().cast();
    // Eight bytes for a key of four, as in the main object's counters.
    let mut key = u64::from(loss as u32);
    // SAFETY: the map takes keys of four bytes, and eight are valid.
    let slot = unsafe { bpf_map_lookup_elem(map, ptr::from_mut(&mut key).cast()) }.cast::<u64>();
    if !slot.is_null() {
        // SAFETY: the slot is aligned and lives as long as the map. The add is atomic because a
        // softirq may interrupt a sending thread on the same CPU.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
}

/// Counts what was lost, if anything was.
#[inline(always)]
pub(crate) fn settle(result: Result<(), Http2Loss>) {
    if let Err(loss) = result {
        count(loss);
    }
}
