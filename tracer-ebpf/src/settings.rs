//! What the agent decides at load time: read-only globals, so the verifier removes dead branches.

use aya_ebpf::Global;

/// 1: a read hook is attached, client exchanges end at the read; 0: at the response's first byte.
#[unsafe(no_mangle)]
static READ_HOOK: Global<u8> = Global::new(1);

/// 1: the read hook tells a thread by its task's address, as the egress program does; 0: by its `pid`.
#[unsafe(no_mangle)]
static THREAD_BY_TASK: Global<u8> = Global::new(0);

/// 1: the hooks look only while a window is open.
#[unsafe(no_mangle)]
static WINDOWS: Global<u8> = Global::new(0);

#[inline(always)]
pub(crate) fn read_hook() -> bool {
    READ_HOOK.load() != 0
}

#[inline(always)]
pub(crate) fn windows() -> bool {
    WINDOWS.load() != 0
}

#[inline(always)]
pub(crate) fn thread_by_task() -> bool {
    THREAD_BY_TASK.load() != 0
}
