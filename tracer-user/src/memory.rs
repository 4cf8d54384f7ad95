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

/// Gives back what was for the start, or for a list: also most of the program itself, options, the loader of
/// eBPF objects, the API's types. What is needed again comes out of the page cache.
pub(crate) fn give_back_code_too() {
    give_back();
    // Without /proc the code stays where it is.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, len) in maps.lines().filter_map(code) {
        give_back_code(start, len);
    }
}

fn give_back_code(start: usize, len: usize) {
    let address = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
    // SAFETY: the pages are a mapping of a file that cannot be written, so each is as it is in the file and
    // is mapped again when it is needed, under madvise(2). Refused, it changes nothing.
    unsafe {
        libc::madvise(address, len, libc::MADV_DONTNEED);
    }
}

/// Address and length of a mapping that is a file's code, of a line of /proc/self/maps (proc(5)).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
    let (start, end) = (start.ok()?, end.ok()?);
    is_code.then(|| (start, end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let line = "55d0-77d0 r-xp 00001000 fe:00 123   /usr/bin/hoptrace";
        assert_eq!(code(line), Some((0x55d0, 0x2200)));
        for other in [
            "55d0-77d0 r--p 00001000 fe:00 123   /usr/bin/hoptrace",
            "55d0-77d0 rw-p 00001000 fe:00 123   /usr/bin/hoptrace",
            "55d0-77d0 r-xp 00000000 00:00 0   [vdso]",
            "55d0-77d0 r-xp 00000000 00:00 0",
            "x-y r-xp 00001000 fe:00 123   /usr/bin/hoptrace",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_given_back_goes_on() {
        give_back_code_too();
        only_code_of_files_is_given_back();
    }
}
