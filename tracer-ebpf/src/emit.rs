//! The one writer of the ring.

use core::ptr;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use aya_ebpf::macros::btf_map;
use tracer_common::record::{
    ANNOUNCE_EVERY, ANNOUNCE_FIRST, ANNOUNCED_LEN, FLAG_HANDSHAKE, HEADS_LEN, SHORT_LEN,
};
use tracer_common::{ExchangeRecord, Loss, REQUEST_PREFIX_LEN};

use crate::loss;
use crate::socket::SocketState;

const RING_BYTES: usize = 4 << 20;

/// One record an exchange. Size: the agent's `ring_size`; full: the record is counted as
/// `ring_full`. The reader polls and is never woken: a wake-up costs more than a hundred records.
#[btf_map]
static EXCHANGES: RingBuf<ExchangeRecord, RING_BYTES> = RingBuf::new();

/// Sends the record of the exchange that just ended.
#[inline(always)]
pub(crate) fn exchange(state: &mut SocketState) {
    let index = state.record.index;
    let announce = index < ANNOUNCE_FIRST || index.is_multiple_of(ANNOUNCE_EVERY);
    // A handshake's records are settled without knowing the socket.
    let announce = announce && state.record.flags & FLAG_HANDSHAKE == 0;
    let prefix = state.record.request_prefix_len as usize;
    let sent = if prefix > 0 {
        let prefix = if prefix > REQUEST_PREFIX_LEN {
            REQUEST_PREFIX_LEN
        } else {
            prefix
        };
        output(state, HEADS_LEN + prefix)
    } else if announce {
        output(state, ANNOUNCED_LEN)
    } else {
        output(state, SHORT_LEN)
    };
    state.record.index = index.wrapping_add(1);
    if announce {
        // Only the first request of a connection waited for it to open.
        state.info.open_ktime_ns = 0;
    }
    if !sent {
        loss::count(Loss::RingFull);
    }
}

/// The ring, as helpers take it.
#[inline(always)]
pub(crate) fn ring() -> *mut c_void {
    ptr::from_ref(&EXCHANGES).cast_mut().cast()
}

/// Copies the first `len` bytes of the state, which is laid out as the wire is.
#[inline(always)]
fn output(state: &mut SocketState, len: usize) -> bool {
    let from = ptr::from_mut(state).cast();
    // SAFETY: `len` is at most the size of the state's wire part.
    unsafe { bpf_ringbuf_output(ring(), from, len as u64, u64::from(BPF_RB_NO_WAKEUP)) == 0 }
}
