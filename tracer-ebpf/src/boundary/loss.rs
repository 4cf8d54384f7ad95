//! The counters of what is lost at the boundary.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use tracer_common::{BOUNDARY_LOSS_SLOTS, BoundaryLoss};

use crate::{NEXT, counter};

/// Key: `BoundaryLoss` as an index. Size: its slots. Never full; per CPU so that CPUs do not share.
#[btf_map]
static BOUNDARY_LOSSES: PerCpuArray<u64, { BOUNDARY_LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Counts what was lost, if anything was; returns the verdict.
#[inline(always)]
pub(crate) fn settle(result: Result<(), BoundaryLoss>) -> i32 {
    if let Err(loss) = result {
        counter::step(&BOUNDARY_LOSSES, loss as u32);
    }
    NEXT
}
