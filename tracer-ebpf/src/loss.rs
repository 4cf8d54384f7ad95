//! The one writer of the loss counters.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use aya_log_ebpf::warn;
use tracer_common::{LOSS_SLOTS, Loss};

use crate::{PASS, counter};

/// Key: `Loss` as an index. Size: its slots. Never full; per CPU so that CPUs do not share.
#[btf_map]
static LOSSES: PerCpuArray<u64, { LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    counter::step(&LOSSES, loss as u32);
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
