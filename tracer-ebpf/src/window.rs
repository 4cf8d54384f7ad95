//! Whether the hooks look, where the agent traces in windows and rests between them.

use core::ptr;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;

use crate::settings;
use crate::socket::{ANSWERED, KEEP_HEADERS, SocketState};

/// Key: 0. Value: the number of the open window, counted from 1; 0 between two.
#[btf_map]
static WINDOW: Array<u32, 1> = Array::new();

/// Stands for the one window of an agent that never rests.
const ALWAYS: u32 = 0;

/// The number of the open window; `None` between two, when a hook is to end at once.
#[inline(always)]
pub(crate) fn open() -> Option<u32> {
    if !settings::windows() {
        return Some(ALWAYS);
    }
    let map = ptr::from_ref(&WINDOW).cast_mut().cast();
    // As wide as in `loss::count`, for the same reason.
    let mut key = 0_u64;
    // SAFETY: the map takes keys of four bytes, and eight are valid.
    let number = unsafe { bpf_map_lookup_elem(map, ptr::from_mut(&mut key).cast()) }.cast::<u32>();
    if number.is_null() {
        return None;
    }
    // SAFETY: the value is aligned and lives as long as the map.
    match unsafe { number.read_volatile() } {
        0 => None,
        number => Some(number),
    }
}

/// Whether the state is of this window: what it says of an exchange is of no use otherwise.
#[inline(always)]
pub(crate) fn is_of(state: &SocketState, window: u32) -> bool {
    !settings::windows() || state.window == window
}

/// Takes a state over into this window. What is known of the socket stays; an exchange that was open
/// when the last window closed is forgotten, and what passes before the next request is its rest.
#[inline(always)]
pub(crate) fn take_over(state: &mut SocketState, window: u32) {
    if is_of(state, window) {
        return;
    }
    state.window = window;
    state.record.phase = ANSWERED;
    state.record.flags = 0;
    // Nor is it known what passed meanwhile.
    state.record.control &= KEEP_HEADERS;
    state.record.handshake = 0;
    state.info.open_ktime_ns = 0;
}
