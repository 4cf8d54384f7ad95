//! One step of a counter in a per-CPU array: what each object's loss counters have in common.

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;

/// Adds one to a slot.
#[inline(always)]
pub(crate) fn step<const SLOTS: usize>(counters: &PerCpuArray<u64, SLOTS>, slot: u32) {
    let map = ptr::from_ref(counters).cast_mut().cast();
    // Eight bytes for a key of four, of which a little-endian machine reads the right ones: if they
    // overwrite a pointer, then the whole of it. The verifier refuses the rest to a process without
    // CAP_PERFMON.
    let mut key = u64::from(slot);
    // SAFETY: the map takes keys of four bytes, and eight are valid.
    let count = unsafe { bpf_map_lookup_elem(map, ptr::from_mut(&mut key).cast()) }.cast::<u64>();
    if !count.is_null() {
        // SAFETY: the slot is aligned and lives as long as the map. The add is atomic because a
        // softirq may interrupt a process-context hook on the same CPU, and the books are exact.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
    }
}
