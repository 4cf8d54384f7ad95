//! The counters of what is lost at the boundary.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use tracer_common::{BOUNDARY_LOSS_SLOTS, BoundaryLoss};

use crate::NEXT;

/// Key: `BoundaryLoss` as an index. Size: its slots. Never full; per CPU so that CPUs do not share.
#[btf_map]
static BOUNDARY_LOSSES: PerCpuArray<u64, { BOUNDARY_LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Counts what was lost, if anything was; returns the verdict.
#[inline(always)]
pub(crate) fn settle(result: Result<(), BoundaryLoss>) -> i32 {
    if let Err(loss) = result
        && let Some(slot) = BOUNDARY_LOSSES.get_ptr_mut(loss as u32)
    {
        // SAFETY: the slot lives as long as the map. The add is atomic because a softirq may
        // interrupt a sending thread on the same CPU.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
    NEXT
}
