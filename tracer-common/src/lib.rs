//! Wire records shared by the kernel side (`tracer-ebpf`) and the agent (`tracer-user`).
//!
//! Data only: fixed-width integers, explicit padding, no `bool`, no `Option`, no enum in a field.
//! Times are `bpf_ktime_get_ns` (CLOCK_MONOTONIC) in nanoseconds; addresses are in network byte
//! order, ports in host byte order.
#![no_std]

pub mod boundary;
pub mod http2;
pub mod loss;
pub mod record;

pub use boundary::{BOUNDARY_LOSS_SLOTS, BoundaryLoss, BoundaryRecord};
pub use http2::{HTTP2_LOSS_SLOTS, Http2Loss, Http2Record};
pub use loss::{LOSS_SLOTS, Loss};
pub use record::{ExchangeRecord, Heads, REQUEST_PREFIX_LEN, RESPONSE_PREFIX_LEN, SocketInfo};
