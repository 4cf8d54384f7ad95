//! The one writer of the ring.

use core::ptr;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query};
use aya_ebpf::macros::btf_map;
use tracer_common::{ExchangeRecord, Loss, REQUEST_PREFIX_LEN};

use crate::socket::SocketState;
use crate::{loss, settings};

const RING_BYTES: usize = 4 << 20;
/// Records that may pass the wake level before the reader has drained: each wakes it once.
const WAKE_WINDOW: u64 = 2048;

/// One record an exchange. Size: the agent's `ring_size`; full: the record is counted as
/// `ring_full`. The reader polls; waking it costs more than a hundred records.
#[btf_map]
static EXCHANGES: RingBuf<ExchangeRecord, RING_BYTES> = RingBuf::new();

/// Sends the record of the exchange that just ended.
#[inline(always)]
pub(crate) fn exchange(state: &mut SocketState) {
    let ring = ptr::from_ref(&EXCHANGES).cast_mut().cast();
    state.record.index = state.index;
    state.index = state.index.wrapping_add(1);
    loss::count(Loss::Completed);
    // SAFETY: queries a map of this program.
    let waiting = unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) };
    let level = settings::wake_bytes();
    let wake = waiting >= level && waiting < level + WAKE_WINDOW;
    let flags = u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP });
    let mut prefix = u64::from(state.record.request_prefix_len);
    if prefix > REQUEST_PREFIX_LEN as u64 {
        prefix = REQUEST_PREFIX_LEN as u64;
    }
    let len = ExchangeRecord::FIXED_LEN as u64 + prefix;
    let from = ptr::from_mut(&mut state.record).cast();
    // SAFETY: `len` is at most the size of the record.
    if unsafe { bpf_ringbuf_output(ring, from, len, flags) } != 0 {
        loss::count(Loss::RingFull);
    }
}
