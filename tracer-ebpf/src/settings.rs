//! What the agent decides at load time: read-only globals, so the verifier removes dead branches.

use aya_ebpf::Global;

/// 1: a read hook is attached, client exchanges end at the read; 0: at the response's first byte.
#[unsafe(no_mangle)]
static READ_HOOK: Global<u8> = Global::new(1);

/// 1: the read hook tells a thread by its task's address, as the egress program does; 0: by its `pid`.
#[unsafe(no_mangle)]
static THREAD_BY_TASK: Global<u8> = Global::new(0);

/// Plaintext headers are kept: 0 nowhere, 1 on loopback legs, 2 on every leg the app itself speaks.
#[unsafe(no_mangle)]
static HEADERS: Global<u8> = Global::new(2);

/// Port on which an inbound sidecar receives: its leg is the wire, not the app's.
#[unsafe(no_mangle)]
static SIDECAR_INBOUND_PORT: Global<u16> = Global::new(15006);

#[inline(always)]
pub(crate) fn read_hook() -> bool {
    READ_HOOK.load() != 0
}

#[inline(always)]
pub(crate) fn thread_by_task() -> bool {
    THREAD_BY_TASK.load() != 0
}

#[inline(always)]
pub(crate) fn headers_on_loopback() -> bool {
    HEADERS.load() >= 1
}

#[inline(always)]
pub(crate) fn headers_on_app_legs() -> bool {
    HEADERS.load() >= 2
}

#[inline(always)]
pub(crate) fn sidecar_inbound_port() -> u16 {
    SIDECAR_INBOUND_PORT.load()
}
