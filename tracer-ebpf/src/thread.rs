//! Which thread runs now. `cgroup_skb` programs of old kernels may ask for less, so there are three
//! answers, and an egress program for each.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task};

/// The thread's `pid`; in `cgroup_skb` from Linux 6.10 on.
#[inline(always)]
pub(crate) fn by_pid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_current_pid_tgid() as u32 }
}

/// As much of its task's address as tells it from every other; takes CAP_PERFMON.
#[inline(always)]
pub(crate) fn by_task() -> u32 {
    // A task begins at a cache line, so the lowest six bits say nothing.
    // SAFETY: takes nothing.
    (unsafe { bpf_get_current_task() } >> 6) as u32
}

/// Nobody may be asked for.
#[inline(always)]
pub(crate) fn unknown() -> u32 {
    0
}

/// Its process; in tracing programs, everywhere.
#[inline(always)]
pub(crate) fn process() -> u32 {
    // SAFETY: takes nothing.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}
