//! From cgroup v2 ids to paths. The id is the inode number of the cgroup's directory
//! (`kernfs_ino` in include/linux/kernfs.h, on 64-bit kernels from 5.5 on).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Walking a hierarchy of a thousand directories takes some milliseconds: not more than this often.
const RESCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Directories remembered. A node has a few hundred; the hierarchy may grow without our doing.
const MAX_PATHS: usize = 32_768;
/// Ids remembered as unknown: sockets of cgroups outside the root, or removed before the walk.
const MAX_UNKNOWN: usize = 8_192;
/// Deeper nesting than any runtime makes.
const MAX_DEPTH: usize = 32;

/// Known cgroups below a root.
pub(super) struct CgroupTree {
    root: PathBuf,
    /// Removed cgroups stay: their last sockets are still to be named, and ids never come back.
    paths: HashMap<u64, Arc<str>>,
    unknown: HashSet<u64>,
    last_scan: Option<Instant>,
}

impl CgroupTree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            paths: HashMap::new(),
            unknown: HashSet::new(),
            last_scan: None,
        }
    }

    /// Path of a cgroup relative to the root; the root's own is empty.
    pub(super) fn path(&mut self, id: u64, now: Instant) -> Option<Arc<str>> {
        if let Some(path) = self.paths.get(&id) {
            return Some(Arc::clone(path));
        }
        if id == 0 || self.unknown.contains(&id) || !self.scan_is_due(now) {
            return None;
        }
        self.scan(now);
        let found = self.paths.get(&id).cloned();
        if found.is_none() {
            if self.unknown.len() >= MAX_UNKNOWN {
                self.unknown.clear();
            }
            // A socket is younger than its cgroup, so what this walk did not find never comes.
            self.unknown.insert(id);
        }
        found
    }

    fn scan_is_due(&self, now: Instant) -> bool {
        self.last_scan
            .is_none_or(|last| now.saturating_duration_since(last) >= RESCAN_INTERVAL)
    }

    fn scan(&mut self, now: Instant) {
        self.last_scan = Some(now);
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
        }
        if let Ok(root) = fs::metadata(&self.root) {
            self.paths.insert(root.ino(), "".into());
        }
        let mut pending = vec![(self.root.clone(), 0)];
        while let Some((directory, depth)) = pending.pop() {
            // A directory removed while we walk is no error.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if self.paths.len() >= MAX_PATHS {
                    return;
                }
                let path = entry.path();
                if let Some(relative) = self.relative(&path) {
                    self.paths.insert(entry.ino(), relative);
                }
                if depth < MAX_DEPTH {
                    pending.push((path, depth + 1));
                }
            }
        }
    }

    fn relative(&self, path: &Path) -> Option<Arc<str>> {
        Some(path.strip_prefix(&self.root).ok()?.to_string_lossy().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ino(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn ids_become_paths_and_walks_are_rare() {
        let root = tempfile::tempdir().unwrap();
        let service = root.path().join("system.slice/a.service");
        fs::create_dir_all(&service).unwrap();
        fs::write(service.join("cgroup.procs"), "").unwrap();
        let mut tree = CgroupTree::new(root.path().into());
        let start = Instant::now();

        assert_eq!(
            tree.path(ino(&service), start).as_deref(),
            Some("system.slice/a.service")
        );
        assert_eq!(tree.path(ino(root.path()), start).as_deref(), Some(""));

        let late = root.path().join("late.scope");
        fs::create_dir(&late).unwrap();
        assert_eq!(
            tree.path(ino(&late), start),
            None,
            "the next walk is not due"
        );
        let later = start + RESCAN_INTERVAL;
        assert_eq!(tree.path(ino(&late), later).as_deref(), Some("late.scope"));

        let much_later = later + RESCAN_INTERVAL;
        assert_eq!(tree.path(u64::MAX, much_later), None);
        assert_eq!(tree.path(u64::MAX, much_later + RESCAN_INTERVAL), None);
        assert_eq!(
            tree.last_scan,
            Some(much_later),
            "an unknown id is walked for once"
        );
    }

    #[test]
    fn a_removed_cgroup_keeps_its_name() {
        let root = tempfile::tempdir().unwrap();
        let gone = root.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let id = ino(&gone);
        let mut tree = CgroupTree::new(root.path().into());
        let start = Instant::now();
        assert!(tree.path(id, start).is_some());
        fs::remove_dir(&gone).unwrap();
        tree.path(u64::MAX, start + RESCAN_INTERVAL);
        assert_eq!(
            tree.path(id, start + RESCAN_INTERVAL).as_deref(),
            Some("gone")
        );
    }

    #[test]
    fn a_root_that_is_not_there_knows_nobody() {
        let mut tree = CgroupTree::new("/does/not/exist".into());
        assert_eq!(tree.path(7, Instant::now()), None);
    }
}
