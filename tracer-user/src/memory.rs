//! What the allocator keeps and what goes back: the agent stays on a node for months, and needs much
//! memory only for moments.

/// Blocks of this size and above get pages of their own, which go back when they are freed.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 256 << 10;

/// By itself glibc raises that size up to 32 MiB when it has seen one of that size freed, and keeps
/// twice as much at the end of each heap: one page of a list from the API, and it would stay. For the
/// beginning, when there is one thread.
pub(crate) fn keep_large_blocks_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two integers; no other thread exists yet. Refused, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

/// Gives back what is free: reading the kernel's type information, a list of a large cluster, or a scrape
/// of many label sets took megabytes.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
