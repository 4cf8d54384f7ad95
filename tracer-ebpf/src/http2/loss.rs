//! The counters of what is lost of HTTP/2.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use tracer_common::{HTTP2_LOSS_SLOTS, Http2Loss};

use crate::counter;

/// Key: `Http2Loss` as an index. Size: its slots. Never full; per CPU so that CPUs do not share.
#[btf_map]
static HTTP2_LOSSES: PerCpuArray<u64, { HTTP2_LOSS_SLOTS as usize }> = PerCpuArray::new();

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn count(loss: Http2Loss) {
    counter::step(&HTTP2_LOSSES, loss as u32);
}

/// Counts what was lost, if anything was.
#[inline(always)]
pub(crate) fn settle(result: Result<(), Http2Loss>) {
    if let Err(loss) = result {
        count(loss);
    }
}
