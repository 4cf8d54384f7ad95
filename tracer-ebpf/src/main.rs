//! hoptrace's kernel side: one state per TCP socket, one record per exchange.
//!
//! Read in the order of a packet: [`segment`] finds the payload, [`socket`] finds the state,
//! [`turn`] moves it, [`header`] keeps a plaintext prefix, [`emit`] sends the record, [`loss`]
//! counts what went wrong; [`window`] tells whether to look at all. Every program lets every packet pass.
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

mod counter;
mod emit;
mod empty;
mod endpoint;
mod header;
mod legs;
mod loss;
mod naive;
mod segment;
mod settings;
mod socket;
mod stamp;
mod thread;
mod turn;
mod window;

/// `cgroup_skb` verdict: let the packet go.
const PASS: i32 = 1;

/// The program tells what it does, where the agent asks for it.
const LOG: bool = true;
/// The program has no code to tell anything.
const SILENT: bool = false;

/// Payload leaves a socket. Runs in the sending thread, but for retransmissions and for data that
/// waited for the congestion window, which leave in softirq.
///
/// One of six is loaded, by how the thread may be asked for and by whether anything is logged. They
/// are not one with settings, because of a process without CAP_PERFMON the verifier follows branches
/// that are never taken as well, as a processor might (`sanitize_speculative_path` in
/// kernel/bpf/verifier.c): what it refuses on one of them refuses the program.
#[cgroup_skb(egress)]
pub fn hoptrace_egress(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::by_pid, SILENT), SILENT)
}

#[cgroup_skb(egress)]
pub fn hoptrace_egress_log(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::by_pid, LOG), LOG)
}

#[cgroup_skb(egress)]
pub fn hoptrace_egress_by_task(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::by_task, SILENT), SILENT)
}

#[cgroup_skb(egress)]
pub fn hoptrace_egress_by_task_log(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::by_task, LOG), LOG)
}

#[cgroup_skb(egress)]
pub fn hoptrace_egress_blind(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::unknown, SILENT), SILENT)
}

#[cgroup_skb(egress)]
pub fn hoptrace_egress_blind_log(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_departure(&ctx, thread::unknown, LOG), LOG)
}

/// Payload arrives at a socket. Runs in softirq: `current` is a stranger.
#[cgroup_skb(ingress)]
pub fn hoptrace_ingress(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_arrival(&ctx, SILENT), SILENT)
}

#[cgroup_skb(ingress)]
pub fn hoptrace_ingress_log(ctx: SkBuffContext) -> i32 {
    loss::settle(turn::on_arrival(&ctx, LOG), LOG)
}

/// A thread copied data out of a socket (`tcp_rcv_space_adjust` in net/ipv4/tcp_input.c).
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn hoptrace_read(ctx: BtfTracePointContext) -> i32 {
    loss::settle(turn::on_read(ctx.arg(0)), LOG);
    0
}

/// A socket changed state (`inet_sock_set_state`); only the change to closed matters.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn hoptrace_close(ctx: BtfTracePointContext) -> i32 {
    const TCP_CLOSE: i32 = 7;
    if ctx.arg::<i32>(2) == TCP_CLOSE {
        loss::settle(turn::on_close(ctx.arg(0)), LOG);
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
