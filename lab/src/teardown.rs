//! Taking a lab down, by whoever does it, however far it came; doing it twice does no harm.

use std::fs;
use std::io;

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;

use crate::state::{self, LabState};
use crate::{cgroup, netns};

/// Removes everything a lab made, then forgets it.
///
/// # Errors
/// Something stays; all the rest is removed all the same, and the state is kept for another try.
pub(crate) fn all(state: &LabState) -> Result<()> {
    objects(state)?;
    if state.owns_dir {
        remove_dir(state)?;
    }
    state::forget(&state.name)
}

/// Removes processes, namespaces and cgroups.
///
/// # Errors
/// Some stay.
pub(crate) fn objects(state: &LabState) -> Result<()> {
    let mut problems = Vec::new();
    let mut attempt = |result: Result<()>| {
        if let Err(error) = result {
            problems.push(format!("{error:#}"));
        }
    };
    attempt(cgroup::end_processes(&state.cgroup_root));
    // Normally none is left: somebody would have had to move it to another cgroup.
    for entry in &state.processes {
        entry.process.signal(Signal::KILL);
    }
    attempt(netns::remove(&state.name));
    attempt(cgroup::remove(&state.cgroup_root));
    for path in &state.cpu_cgroups {
        attempt(cgroup::remove(path));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(anyhow!(problems.join("; ")))
        .with_context(|| format!("lab `{}` is not entirely down", state.name))
}

fn remove_dir(state: &LabState) -> Result<()> {
    match fs::remove_dir_all(&state.dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", state.dir.display()))
        }
        _ => Ok(()),
    }
}
