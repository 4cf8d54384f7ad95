//! Taking a cluster down, however far it came; doing it twice does no harm.
//!
//! Everything that runs for it is below one cgroup: its own programs, the runtime's shims, and
//! what runs in pods. With the last of them its mount namespaces and its pods' networks end.

use std::fs;
use std::io;

use anyhow::{Context, Result, anyhow};
use hoptrace_lab::{cgroup, host, wait};
use std::time::Duration;

use crate::layout::CGROUP;
use crate::node;
use crate::state::{self, ClusterState};

/// The kernel ends a mount namespace a moment after its last process.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// Removes everything but the logs, then forgets it.
///
/// # Errors
/// Something stays; all the rest is removed all the same, and the state is kept for another try.
pub(crate) fn all(cluster: &ClusterState) -> Result<()> {
    objects()?;
    remove_dir(cluster)?;
    state::forget()
}

/// Removes processes, network and cgroups.
///
/// # Errors
/// Some stay.
pub(crate) fn objects() -> Result<()> {
    let mut problems = Vec::new();
    let mut attempt = |result: Result<()>| {
        if let Err(error) = result {
            problems.push(format!("{error:#}"));
        }
    };
    attempt(host::cgroup2().and_then(|root| cgroup::end_processes(&root.join(CGROUP))));
    attempt(node::remove_network());
    match node::cgroup_roots() {
        Ok(roots) => {
            for root in roots {
                attempt(cgroup::remove(&root.join(CGROUP)));
            }
        }
        Err(error) => attempt(Err(error)),
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(anyhow!(problems.join("; "))).context("the cluster is not entirely down")
}

fn remove_dir(cluster: &ClusterState) -> Result<()> {
    let mut last = None;
    let gone = wait::regardless(REMOVE_PATIENCE, || {
        last = match fs::remove_dir_all(&cluster.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Some(error),
            _ => None,
        };
        last.is_none()
    });
    match last {
        Some(error) if !gone => {
            Err(error).with_context(|| format!("cannot remove {}", cluster.dir.display()))
        }
        _ => Ok(()),
    }
}
