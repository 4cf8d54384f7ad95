//! Control groups of containers, and the processes in them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::process;
use crate::wait;

/// A cgroup is busy for a moment after its last process went.
const RMDIR_PATIENCE: Duration = Duration::from_secs(2);
/// How long a process has to end by itself.
const TERM_PATIENCE: Duration = Duration::from_secs(1);
/// How long the kernel has to end it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Makes a cgroup and those above it; returns its `cgroup.procs`, open for joining it.
pub fn create(path: &Path) -> Result<File> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make control group {}", path.display()))?;
    join_file(path)
}

/// The file to which a process writes `0` to join a cgroup.
pub fn join_file(path: &Path) -> Result<File> {
    let procs = path.join("cgroup.procs");
    File::options()
        .write(true)
        .open(&procs)
        .with_context(|| format!("cannot open {}", procs.display()))
}

/// The processes in a cgroup; none when there is no such cgroup.
pub fn pids(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A cgroup and all below it, those below first.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    found.push(root.to_path_buf());
    found
}

fn pids_below(root: &Path) -> Vec<u32> {
    tree(root).iter().flat_map(|path| pids(path)).collect()
}

/// Ends every process in a cgroup and below it: politely, then not, and waits for it.
///
/// # Errors
/// Some do not end.
pub fn end_processes(root: &Path) -> Result<()> {
    for (signal, patience) in [(Signal::TERM, TERM_PATIENCE), (Signal::KILL, KILL_PATIENCE)] {
        let mut signalled = Vec::new();
        let ended = wait::regardless(patience, || {
            let pids = pids_below(root);
            // A process may have started another since the last look.
            for &pid in pids.iter().filter(|pid| !signalled.contains(*pid)) {
                process::signal_if(pid, signal, || pids_below(root).contains(&pid));
            }
            signalled.extend(&pids);
            pids.is_empty()
        });
        if ended {
            return Ok(());
        }
    }
    let left = pids_below(root);
    anyhow::bail!(
        "processes {left:?} in {} did not end: look at them with `ps`, then take the lab down again",
        root.display()
    )
}

/// Removes a cgroup and all below it; none there is as good.
///
/// # Errors
/// It stays busy.
pub fn remove(root: &Path) -> Result<()> {
    if !root.is_dir() {
        return Ok(());
    }
    let mut last = None;
    let gone = wait::regardless(RMDIR_PATIENCE, || {
        last = tree(root)
            .iter()
            .filter_map(|path| fs::remove_dir(path).err())
            .find(|error| error.kind() != io::ErrorKind::NotFound);
        last.is_none()
    });
    match last {
        Some(error) if !gone => {
            Err(error).with_context(|| format!("cannot remove control group {}", root.display()))
        }
        _ => Ok(()),
    }
}
