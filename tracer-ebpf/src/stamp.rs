//! The two clocks of a segment, which are one.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SkBuffContext;

/// Now.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// When TCP took the segment up for sending: it left that moment in the packet, in the same clock
/// (`tcp_mstamp_refresh` and `skb_mstamp_ns` in net/ipv4/tcp_output.c), which spares asking again.
#[inline(always)]
pub(crate) fn departure(ctx: &SkBuffContext) -> u64 {
    // SAFETY: a field of the program's own context.
    let stamp = unsafe { (*ctx.skb.skb).tstamp };
    if stamp != 0 {
        return stamp;
    }
    now()
}
