//! Names of processes from `/proc/<tgid>/comm` (proc(5)).

use hashbrown::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Processes remembered.
const MAX_PROCESSES: usize = 8_192;
/// A name may change by `execve`, and a number may come back: names are read again after this.
const REFRESH: Duration = Duration::from_secs(10);
/// The kernel cuts names to this many bytes (TASK_COMM_LEN without its NUL).
const COMM_LEN: usize = 15;

struct Process {
    name: Option<Arc<str>>,
    /// Effective user.
    uid: Option<u32>,
    read: Instant,
}

/// Names of processes, remembered for a while.
pub(super) struct Processes {
    proc_root: PathBuf,
    proxy_names: Vec<String>,
    known: HashMap<u32, Process>,
}

impl Processes {
    pub(super) fn new(proc_root: PathBuf, proxy_names: Vec<String>) -> Self {
        Self {
            proc_root,
            proxy_names,
            known: HashMap::new(),
        }
    }

    /// Name of a process; 0 is nobody.
    pub(super) fn name(&mut self, tgid: u32, now: Instant) -> Option<Arc<str>> {
        if tgid == 0 {
            return None;
        }
        let known = self.known.get(&tgid);
        if let Some(process) = known
            && now.saturating_duration_since(process.read) < REFRESH
        {
            return process.name.clone();
        }
        let name = self.read(tgid);
        if name.is_some() || known.is_none() {
            if self.known.len() >= MAX_PROCESSES {
                self.known.clear();
            }
            self.known.insert(
                tgid,
                Process {
                    name: name.clone(),
                    uid: self.uid(tgid),
                    read: now,
                },
            );
            return name;
        }
        // It ended while its last records wait, or cannot be seen from here: it keeps the name it
        // had, and is not looked for again at once.
        let process = self.known.get_mut(&tgid)?;
        process.read = now;
        process.name.clone()
    }

    /// Whether a process has the name of a sidecar proxy.
    pub(super) fn is_proxy(&mut self, tgid: u32, now: Instant) -> Option<bool> {
        let name = self.name(tgid, now)?;
        let is = |proxy: &String| proxy.bytes().take(COMM_LEN).eq(name.bytes());
        Some(self.proxy_names.iter().any(is))
    }

    /// Whether a process of this user has this number.
    pub(super) fn is_uid(&mut self, tgid: u32, uid: u32, now: Instant) -> Option<bool> {
        // A name says that the process can be seen, and was looked at not long ago.
        self.name(tgid, now)?;
        Some(self.known.get(&tgid)?.uid? == uid)
    }

    fn uid(&self, tgid: u32) -> Option<u32> {
        // Its directory belongs to the effective user (proc(5)).
        let found = std::fs::metadata(self.proc_root.join(tgid.to_string())).ok()?;
        Some(found.uid())
    }

    fn read(&self, tgid: u32) -> Option<Arc<str>> {
        let path = self.proc_root.join(tgid.to_string()).join("comm");
        let comm = std::fs::read(path).ok()?;
        let name = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
        (!name.is_empty()).then(|| name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_are_read_again_and_outlive_their_process() {
        let root = tempfile::tempdir().unwrap();
        let write = |comm: &str| {
            fs::create_dir_all(root.path().join("7")).unwrap();
            fs::write(root.path().join("7/comm"), comm).unwrap();
        };
        let names = vec!["envoy".to_owned(), "a-very-long-proxy-name".to_owned()];
        let mut processes = Processes::new(root.path().into(), names);
        let start = Instant::now();

        write("pilot-agent\n");
        assert_eq!(processes.is_proxy(7, start), Some(false));
        write("envoy\n");
        assert_eq!(processes.is_proxy(7, start), Some(false), "remembered");
        assert_eq!(
            processes.is_proxy(7, start + REFRESH),
            Some(true),
            "after execve"
        );
        fs::remove_dir_all(root.path().join("7")).unwrap();
        assert_eq!(
            processes.is_proxy(7, start + REFRESH * 3),
            Some(true),
            "after its end"
        );
        write("a-very-long-pro\n");
        assert_eq!(
            processes.is_proxy(7, start + REFRESH * 5),
            Some(true),
            "cut by the kernel"
        );

        assert_eq!(processes.is_proxy(0, start), None);
        assert_eq!(processes.is_proxy(8, start), None);
    }
}
