//! Where things are: the workspace, its build products, and what setup fetched once.

use std::env;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};

/// The root of the workspace, from where this crate was compiled.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Build products; one place for all, whatever `CARGO_TARGET_DIR` says, for those that other
/// crates look for by path.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn cargo_target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(target, |dir| root().join(dir))
}

/// The eBPF object that the agent embeds; `tracer-user/build.rs` looks for it here.
pub(crate) fn ebpf_object() -> PathBuf {
    target().join("bpf").join("hoptrace.o")
}

/// The one of the pod boundary, likewise.
pub(crate) fn boundary_object() -> PathBuf {
    target().join("bpf").join("hoptrace-boundary.o")
}

/// The one of HTTP/2, likewise.
pub(crate) fn http2_object() -> PathBuf {
    target().join("bpf").join("hoptrace-http2.o")
}

/// What setup builds or fetches once per user; the lab looks for its programs there too.
pub(crate) use hoptrace_lab::pinned::cache;

/// The first executable of that name on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Removes a directory with all that is in it; none is as good.
///
/// # Errors
/// Something of it stays.
pub(crate) fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
