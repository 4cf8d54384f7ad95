//! The pod boundary: an object of its own, which the agent loads only where `--pod-boundary` asks
//! for it.
//!
//! Both programs sit at the host's end of a pod's veth. They stamp the first segment of each turn,
//! and send a record when a turn is answered; [`segment`] finds the payload, [`flow`] keeps the turn.
//! Every packet passes, and what other programs there are at the veth decides about it.
#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]
#![feature(core_intrinsics)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "entry points are public for their macros"
)]
#![allow(
    internal_features,
    reason = "the target has atomic add but not core's atomic types"
)]

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

#[path = "../counter.rs"]
mod counter;
mod flow;
mod loss;
mod segment;

/// No verdict: the next program decides. TCX's `TCX_NEXT` and tc's `TC_ACT_UNSPEC` are the same.
const NEXT: i32 = -1;

/// A packet comes out of a pod. Runs in softirq.
#[classifier]
pub fn hoptrace_pod_out(ctx: TcContext) -> i32 {
    loss::settle(flow::on_packet(&ctx, flow::OUT))
}

/// A packet goes into a pod. Runs in softirq, or in the thread of a sender on this node.
#[classifier]
pub fn hoptrace_pod_in(ctx: TcContext) -> i32 {
    loss::settle(flow::on_packet(&ctx, flow::IN))
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The helpers used are GPL-only; the crate is dual licensed.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
