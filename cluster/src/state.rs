//! What is known of a cluster on disk, so that others can find and end it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hoptrace_lab::ProcessId;
use serde::{Deserialize, Serialize};

use crate::components::Component;
use crate::layout::Layout;
use crate::teardown;

const DIRECTORY: &str = "/run/hoptrace-cluster";

/// A cluster as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Who made it.
    pub creator: ProcessId,
    /// Whether it is meant to outlive its creator.
    pub kept: bool,
    /// Its work directory, removed with it.
    pub dir: PathBuf,
    /// Its logs, which stay.
    pub logs: PathBuf,
    /// Who holds the node's mount namespace.
    pub holder: Option<ProcessId>,
    /// Its programs.
    pub processes: Vec<(Component, ProcessId)>,
}

impl ClusterState {
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            dir: self.dir.clone(),
            logs: self.logs.clone(),
        }
    }

    /// Whether nobody is left who would take it down.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.kept && !self.creator.is_alive()
    }

    /// The kubeconfig of who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout().admin()
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = file();
        let writing = || format!("cannot write {}", path.display());
        fs::create_dir_all(DIRECTORY).with_context(writing)?;
        let partial = path.with_extension("partial");
        let text = serde_json::to_string_pretty(self).with_context(writing)?;
        fs::write(&partial, text).with_context(writing)?;
        fs::rename(&partial, &path).with_context(writing)
    }
}

fn file() -> PathBuf {
    Path::new(DIRECTORY).join("state.json")
}

/// Keeps others from making and ending clusters while it is open.
///
/// # Errors
/// The file cannot be made or locked.
pub(crate) fn lock() -> Result<fs::File> {
    let path = Path::new("/run/hoptrace-cluster.lock");
    let locking = || format!("cannot lock {}", path.display());
    let file = fs::File::create(path).with_context(locking)?;
    file.lock().with_context(locking)?;
    Ok(file)
}

/// The cluster of this machine, if there is one.
///
/// # Errors
/// Its file cannot be read or understood.
pub fn status() -> Result<Option<ClusterState>> {
    let path = file();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let state = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no cluster's state: remove it, then `cargo xtask cluster down`",
            path.display()
        )
    })?;
    Ok(Some(state))
}

/// Takes down what a killed program left; whether there was anything.
///
/// # Errors
/// Something of it stays.
pub fn clean_stale() -> Result<bool> {
    let _lock = lock()?;
    match status()? {
        Some(state) if state.is_stale() => {
            teardown::all(&state)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Forgets it; the last step of taking it down.
pub(crate) fn forget() -> Result<()> {
    match fs::remove_dir_all(DIRECTORY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {DIRECTORY}"))
        }
        _ => Ok(()),
    }
}
