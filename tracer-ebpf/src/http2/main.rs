//! HTTP/2 on plaintext legs: an object of its own, which the agent loads only where `--http2` asks
//! for it.
//!
//! Both programs sit beside those of the main object. [`connection`] recognises connections and
//! keeps their state, [`walk`] goes from frame to frame, [`emit`] tells of those that begin or end a
//! stream, [`loss`] counts what went wrong. What is not HTTP/2 costs a look at its first bytes.
#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "entry points are public for their macros"
)]
#![allow(
    internal_features,
    reason = "the target has atomic add but not core's atomic types"
)]

use aya_ebpf::macros::{btf_tracepoint, cgroup_skb};
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};

mod connection;
#[path = "../counter.rs"]
mod counter;
mod emit;
#[path = "../endpoint.rs"]
mod endpoint;
mod frame;
#[path = "../legs.rs"]
mod legs;
mod loss;
#[path = "../segment.rs"]
mod segment;
#[path = "../stamp.rs"]
mod stamp;
#[path = "../thread.rs"]
#[allow(dead_code, reason = "the main object has a use for all of it")]
mod thread;
mod walk;

/// `cgroup_skb` verdict: let the packet go.
const PASS: i32 = 1;

/// Payload leaves a socket. One of three is loaded, by how the thread may be asked for, as of the main
/// object's.
#[cgroup_skb(egress)]
pub fn hoptrace_http2_out(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_packet::<{ connection::OUT }>(&ctx, thread::by_pid));
    PASS
}

#[cgroup_skb(egress)]
pub fn hoptrace_http2_out_by_task(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_packet::<{ connection::OUT }>(
        &ctx,
        thread::by_task,
    ));
    PASS
}

#[cgroup_skb(egress)]
pub fn hoptrace_http2_out_blind(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_packet::<{ connection::OUT }>(
        &ctx,
        thread::unknown,
    ));
    PASS
}

/// The rest of a segment with many frames, called by the program before.
#[cgroup_skb(egress)]
pub fn hoptrace_http2_out_more(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_rest::<{ connection::OUT }>(&ctx));
    PASS
}

/// Payload arrives at a socket. Runs in softirq: `current` is a stranger.
#[cgroup_skb(ingress)]
pub fn hoptrace_http2_in(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_packet::<{ connection::IN }>(&ctx, thread::unknown));
    PASS
}

/// The rest of a segment with many frames, called by the program before.
#[cgroup_skb(ingress)]
pub fn hoptrace_http2_in_more(ctx: SkBuffContext) -> i32 {
    loss::settle(walk::on_rest::<{ connection::IN }>(&ctx));
    PASS
}

/// A socket changed state (`inet_sock_set_state`); only the change to closed matters.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn hoptrace_http2_close(ctx: BtfTracePointContext) -> i32 {
    const TCP_CLOSE: i32 = 7;
    if ctx.arg::<i32>(2) == TCP_CLOSE {
        loss::settle(connection::on_close(ctx.arg(0)));
    }
    0
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
