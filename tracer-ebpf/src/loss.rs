//! The one writer of the loss counters.

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;
use aya_log_ebpf::warn;
use tracer_common::{LOSS_SLOTS, Loss};

use crate::PASS;

/// Key: `Loss` as an index. Size: its slots. Never full; per CPU so that no atomic is needed.
#[btf_map]
static LOSSES: PerCpuArray<u64, { LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    let map = ptr::from_ref(&LOSSES).cast_mut().cast();
    // Eight bytes for a key of four, of which a little-endian machine reads the right ones: if they
    // overwrite a pointer, then the whole of it. The verifier refuses the rest to a process without
    // CAP_PERFMON.
    let mut key = u64::from(loss as u32);
    // SAFETY: the map takes keys of four bytes, and eight are valid.
    let slot = unsafe { bpf_map_lookup_elem(map, ptr::from_mut(&mut key).cast()) }.cast::<u64>();
    if !slot.is_null() {
        // SAFETY: the slot is aligned and lives as long as the map. The add is atomic because a
        // softirq may interrupt a process-context hook on the same CPU, and the books are exact.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
}

/// Counts the reason of a failed hook, and tells it where diagnostics are on; returns the verdict.
#[inline(always)]
pub(crate) fn settle(result: Result<(), Loss>, log: bool) -> i32 {
    if let Err(loss) = result {
        count(loss);
        if log {
            tell(loss as u32);
        }
    }
    PASS
}

#[inline(never)]
fn tell(loss: u32) {
    warn!((), "loss {}", loss);
}
