//! bpf-linker, built once from source into the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::LLVM_MAJOR;
use crate::{ebpf, paths, run};

pub(super) const VERSION: &str = "0.13.0";

/// Whether a linker of this version is there and starts; it does not without its LLVM.
pub(super) fn is_current() -> Result<bool> {
    let Some(linker) = ebpf::find_linker()? else {
        return Ok(false);
    };
    let output = Command::new(linker).arg("--version").output();
    let expected = format!("bpf-linker {VERSION}");
    Ok(output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == expected))
}

/// Builds and installs it; about a minute.
pub(super) fn install() -> Result<()> {
    let prefix = llvm_prefix();
    if !prefix.join("lib").is_dir() {
        bail!(
            "no LLVM {LLVM_MAJOR} at {}: install llvm-{LLVM_MAJOR}-dev, or set LLVM_PREFIX",
            prefix.display()
        );
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        // Not from the workspace: its configuration is not the linker's.
        .current_dir("/")
        .env("LLVM_PREFIX", &prefix)
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--force",
            "--no-default-features",
        ])
        .args(["--version", &format!("={VERSION}")])
        .args(["--features", &format!("llvm-{LLVM_MAJOR}")])
        .arg("--root")
        .arg(paths::cache()?);
    run::quiet(&format!("bpf-linker {VERSION}"), &mut command)
        .map(drop)
        .context(
            "bpf-linker could not be built; when the reason is the network, check it or cargo's \
         proxy settings, then run `cargo xtask setup` again",
        )
}

fn llvm_prefix() -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(
        || Path::new("/usr/lib").join(format!("llvm-{LLVM_MAJOR}")),
        PathBuf::from,
    )
}
