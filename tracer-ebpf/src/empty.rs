//! Programs that do nothing: what the kernel itself charges for a hook. Only the benchmark loads
//! them, to subtract that from the cost of ours.

use aya_ebpf::macros::{btf_tracepoint, cgroup_skb};
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};

use crate::PASS;

#[cgroup_skb(egress)]
pub fn empty_egress(_ctx: SkBuffContext) -> i32 {
    PASS
}

#[cgroup_skb(ingress)]
pub fn empty_ingress(_ctx: SkBuffContext) -> i32 {
    PASS
}

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn empty_read(_ctx: BtfTracePointContext) -> i32 {
    0
}
