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
/// eBPF objects and they, the API's types. What is needed again comes out of the page cache.
pub(crate) fn give_back_code_too() {
    give_back();
    // Without /proc the program stays where it is.
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, len) in unchanged(&smaps) {
        let address = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
        // SAFETY: the pages are a mapping of a file, cannot be written, and none differs from the file: each is
        // mapped again when it is needed (madvise(2)). Refused, it changes nothing.
        unsafe {
            libc::madvise(address, len, libc::MADV_DONTNEED);
        }
    }
}

/// Address and length of each mapping of a file that cannot be written and has no page of its own, as
/// relocations leave some, of /proc/self/smaps (proc(5)).
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        if let Some(size) = ["Anonymous:", "Swap:"]
            .into_iter()
            .find_map(|name| line.strip_prefix(name))
        {
            last = last.filter(|_| size.trim() == "0 kB");
        } else if line.starts_with("VmFlags:") {
            found.extend(last.take());
        } else if let Some(mapping) = mapping(line) {
            last = mapping;
        }
    }
    found
}

/// The line that begins a mapping; inside, its address and length where it is a file that cannot be written.
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let is_fixed = fields
        .next()
        .is_some_and(|rights| rights.starts_with("r-") && rights.ends_with('p'));
    let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((is_fixed && is_file).then(|| (start, end.saturating_sub(start))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        let smaps = |line: &str, anonymous: u32, swap: u32| {
            format!(
                "{line}\nSize: 8 kB\nRss: 8 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\nVmFlags: rd mr\n"
            )
        };
        let code = "55d0-77d0 r-xp 00001000 fe:00 123   /usr/bin/hoptrace";
        let data = "1000-3000 r--p 00000000 fe:00 123   /usr/bin/hoptrace";
        let both = smaps(code, 0, 0) + &smaps(data, 0, 0);
        assert_eq!(unchanged(&both), [(0x55d0, 0x2200), (0x1000, 0x2000)]);
        assert!(unchanged(&smaps(data, 4, 0)).is_empty());
        assert!(unchanged(&smaps(data, 0, 4)).is_empty());
        for other in [
            "55d0-77d0 rw-p 00001000 fe:00 123   /usr/bin/hoptrace",
            "55d0-77d0 r--s 00001000 fe:00 123   /dev/shm/x",
            "55d0-77d0 r-xp 00000000 00:00 0   [vdso]",
            "55d0-77d0 r-xp 00000000 00:00 0",
            "x-y r-xp 00001000 fe:00 123   /usr/bin/hoptrace",
            "",
        ] {
            assert!(unchanged(&smaps(other, 0, 0)).is_empty(), "{other}");
        }
    }

    #[test]
    fn what_was_given_back_goes_on() {
        give_back_code_too();
        only_what_is_as_in_the_file_is_given_back();
    }
}
