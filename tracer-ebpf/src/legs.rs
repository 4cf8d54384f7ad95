//! On which legs plaintext may be looked at, as the agent decides at load time.

use aya_ebpf::Global;
use tracer_common::SocketInfo;

use crate::endpoint::{is_mapped, words_of};

/// Plaintext headers are kept: 0 nowhere, 1 on loopback legs, 2 on every leg the app itself speaks.
#[unsafe(no_mangle)]
static HEADERS: Global<u8> = Global::new(2);

/// Port on which an inbound sidecar receives: its leg is the wire, not the app's.
#[unsafe(no_mangle)]
static SIDECAR_INBOUND_PORT: Global<u16> = Global::new(15006);

/// Privacy: plaintext is looked at on the app's own legs only, never between pods of a mesh.
#[inline(always)]
pub(crate) fn keeps_headers(info: &SocketInfo) -> bool {
    let loopback = is_loopback(&info.saddr) || is_loopback(&info.daddr);
    if loopback {
        return HEADERS.load() >= 1;
    }
    HEADERS.load() >= 2 && info.sport != SIDECAR_INBOUND_PORT.load()
}

#[inline(always)]
fn is_loopback(address: &[u8; 16]) -> bool {
    if is_mapped(address) {
        return address[12] == 127;
    }
    let [a, b, c, d] = words_of(address);
    // ::1, and ::6 from which an inbound sidecar speaks to its app.
    a | b | c == 0 && (u32::from_be(d) == 1 || u32::from_be(d) == 6)
}
