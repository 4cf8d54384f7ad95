//! Where the kernel's file systems are mounted, from `/proc/self/mountinfo` (proc(5)).

use std::path::{Path, PathBuf};

/// Why a mount was not found.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// The list of mounts could not be read.
    #[error("cannot read {path}; is /proc mounted?")]
    Read {
        /// The list.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted; mount it (`mount -t cgroup2 none /sys/fs/cgroup`) \
         or name one with --cgroup-root"
    )]
    NoCgroup2,
}

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directory of the file system that is the root of this mount.
    pub root: String,
    /// Where it is.
    pub target: PathBuf,
    /// Type, as in `cgroup2` or `tracefs`.
    pub kind: String,
}

/// Every mount this process sees.
///
/// # Errors
/// When `/proc/self/mountinfo` cannot be read.
pub fn list() -> Result<Vec<Mount>, MountsError> {
    let path = Path::new("/proc/self/mountinfo");
    // Lossy: a path that is not UTF-8 is none of those looked for.
    let bytes = std::fs::read(path).map_err(|source| MountsError::Read {
        path: path.into(),
        source,
    })?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// The cgroup v2 mount that shows most of the node.
///
/// # Errors
/// When the mounts cannot be read or there is no such mount.
pub fn cgroup2() -> Result<PathBuf, MountsError> {
    widest_cgroup2(list()?).ok_or(MountsError::NoCgroup2)
}

/// Where tracefs is mounted.
///
/// # Errors
/// When the mounts cannot be read.
pub fn tracefs() -> Result<Option<PathBuf>, MountsError> {
    Ok(list()?
        .into_iter()
        .find(|mount| mount.kind == "tracefs")
        .map(|mount| mount.target))
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /target rw,noatime master:1 - type source options`
fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    Some(Mount {
        root: unescape(fields.next()?),
        target: unescape(fields.next()?).into(),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// Undoes the kernel's octal escapes of blanks and backslashes (`mangle` in fs/seq_file.c).
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Inside a cgroup namespace the container's own mount has the root `/`, and the node's, mounted
/// from outside, one that climbs (`/../..`). A root that descends shows only a part.
fn widest_cgroup2(mounts: Vec<Mount>) -> Option<PathBuf> {
    let height = |mount: &Mount| {
        let part = |name| mount.root.split('/').filter(|&found| found == name).count();
        let descends = mount
            .root
            .split('/')
            .any(|name| !name.is_empty() && name != "..");
        (part(".."), !descends)
    };
    // `max_by_key` returns the last of equals; the first mount is the usual one.
    mounts
        .into_iter()
        .rev()
        .filter(|mount| mount.kind == "cgroup2")
        .max_by_key(height)
        .map(|mount| mount.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_shows_most_wins() {
        let cases = [
            ("", None),
            ("22 27 0:21 / /proc rw - proc proc rw", None),
            (
                "1 2 0:1 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate",
                Some("/sys/fs/cgroup"),
            ),
            (
                "1 2 0:1 / /sys/fs/cgroup rw - tmpfs t rw\n3 1 0:2 / /sys/fs/cgroup/unified rw - cgroup2 c rw",
                Some("/sys/fs/cgroup/unified"),
            ),
            // A pod with the node's hierarchy mounted beside its own.
            (
                "1 2 0:1 / /sys/fs/cgroup ro - cgroup2 c rw\n3 2 0:1 /../../.. /host/cgroup ro - cgroup2 c rw",
                Some("/host/cgroup"),
            ),
            (
                "1 2 0:1 /kubepods /mnt/part rw - cgroup2 c rw\n3 2 0:1 / /mnt/whole\\040one rw - cgroup2 c rw",
                Some("/mnt/whole one"),
            ),
            (
                "1 2 0:1 / /first rw - cgroup2 c rw\n3 2 0:1 / /second rw - cgroup2 c rw",
                Some("/first"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                widest_cgroup2(parse(text)).as_deref(),
                expected.map(Path::new),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _mounts = parse(&text);
        }
    }
}
