//! What a lab made, on disk: whoever comes later can take it down when its creator cannot.
//!
//! Names of namespaces and cgroups follow from the lab's name, so the file is complete from the
//! moment it exists; only processes are added.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;
use crate::topology::{Container, Mode, Pod};

/// Where the files are.
const DIRECTORY: &str = "/run/hoptrace-lab";

/// One container's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProcess {
    /// In this pod.
    pub pod: Pod,
    /// In this container.
    pub container: Container,
    /// The process.
    #[serde(flatten)]
    pub process: ProcessId,
}

/// A lab as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Its name.
    pub name: String,
    /// How it is meshed.
    pub mode: Mode,
    /// Whether the load pod has a sidecar.
    pub load_meshed: bool,
    /// Whether IPv6 is redirected to the sidecars.
    pub ipv6_meshed: bool,
    /// Who made it.
    pub creator: ProcessId,
    /// Whether it is meant to outlive its creator.
    pub kept: bool,
    /// Its work directory.
    pub dir: PathBuf,
    /// Whether the work directory was made for it, and goes with it.
    pub owns_dir: bool,
    /// Its root in the cgroup v2 hierarchy.
    pub cgroup_root: PathBuf,
    /// Cgroups that limit CPU in cgroup v1, where that is where the controller is.
    pub cpu_cgroups: Vec<PathBuf>,
    /// Processes of its containers.
    pub processes: Vec<ContainerProcess>,
}

impl LabState {
    /// Whether nobody is left who would take it down.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.kept && !self.creator.is_alive()
    }

    /// Claims the name: of two who try, one succeeds.
    ///
    /// # Errors
    /// Another lab has the name, or the file cannot be written.
    pub(crate) fn claim(&self) -> Result<Claim> {
        let path = file(&self.name);
        let partial = self.write_beside(&path)?;
        let linked = fs::hard_link(&partial, &path);
        let _gone = fs::remove_file(&partial);
        match linked {
            Ok(()) => Ok(Claim::Ours),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Claim::Taken),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Writes it again, in one step for readers.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self) -> Result<()> {
        let path = file(&self.name);
        let partial = self.write_beside(&path)?;
        fs::rename(partial, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_beside(&self, path: &Path) -> Result<PathBuf> {
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let writing = || format!("cannot write {}", partial.display());
        fs::create_dir_all(DIRECTORY).with_context(writing)?;
        let text = serde_json::to_string_pretty(self).with_context(writing)?;
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&partial)
            .with_context(writing)?;
        file.write_all(text.as_bytes()).with_context(writing)?;
        Ok(partial)
    }
}

/// Keeps others from claiming and forgetting names while it is open.
///
/// # Errors
/// The file cannot be made or locked.
pub(crate) fn lock() -> Result<fs::File> {
    let path = Path::new(DIRECTORY).join("lock");
    let locking = || format!("cannot lock {}", path.display());
    fs::create_dir_all(DIRECTORY).with_context(locking)?;
    let file = fs::File::create(&path).with_context(locking)?;
    file.lock().with_context(locking)?;
    Ok(file)
}

/// Whether a name could be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Ours,
    Taken,
}

fn file(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.json"))
}

/// Where a lab works when nobody says where.
pub(crate) fn default_dir(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// A lab's state, if there is one of this name.
///
/// # Errors
/// The file cannot be read or understood.
pub(crate) fn load(name: &str) -> Result<Option<LabState>> {
    let path = file(name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let state = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is not a lab's state: remove it, then `cargo xtask lab down --name {name}`",
            path.display()
        )
    })?;
    Ok(Some(state))
}

/// Forgets a lab; the last step of taking it down.
pub(crate) fn forget(name: &str) -> Result<()> {
    let path = file(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Names of all labs there are.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            Some(name.to_str()?.strip_suffix(".json")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// # Errors
/// The name cannot be part of the names of namespaces, files and cgroups.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.bytes().all(fits) {
        bail!(
            "`{name}` is no name for a lab: use up to 32 lower-case letters, digits and hyphens, \
             not starting with a hyphen"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (name, good) in [
            ("a", true),
            ("t-1", true),
            ("", false),
            ("-a", false),
            ("a/b", false),
            ("A", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = LabState {
            name: "a".into(),
            mode: Mode::Mtls,
            load_meshed: false,
            ipv6_meshed: true,
            creator: ProcessId::me(),
            kept: false,
            dir: "/d".into(),
            owns_dir: true,
            cgroup_root: "/c".into(),
            cpu_cgroups: vec!["/cpu/x".into()],
            processes: vec![ContainerProcess {
                pod: Pod::Info,
                container: Container::Sidecar,
                process: ProcessId::me(),
            }],
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<LabState>(&text).unwrap(), state);
        assert!(!state.is_stale());
        let creator = ProcessId {
            start_time: 0,
            ..state.creator
        };
        let orphan = LabState { creator, ..state };
        assert!(orphan.is_stale());
        assert!(
            !LabState {
                kept: true,
                ..orphan
            }
            .is_stale()
        );
    }
}
