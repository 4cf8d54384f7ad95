//! The one writer of the loss counters.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use aya_log_ebpf::warn;
use tracer_common::{LOSS_SLOTS, Loss};

/// Key: `Loss` as an index. Size: its slots. Never full; per CPU so that no atomic is needed.
#[btf_map]
static LOSSES: PerCpuArray<u64, { LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    if let Some(slot) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: the slot is aligned and lives as long as the map. The add is atomic because a
        // softirq may interrupt a process-context hook on the same CPU, and the books are exact.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
}

/// Counts the reason of a failed hook, and tells it where diagnostics are on.
#[inline(always)]
pub(crate) fn count_error(ctx: &impl EbpfContext, result: Result<(), Loss>) {
    if let Err(loss) = result {
        count(loss);
        warn!(ctx, "loss {}", loss as u32);
    }
}
