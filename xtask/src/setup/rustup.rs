//! A pinned nightly, for machines where rustup can fetch one.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::NIGHTLY;
use crate::{paths, run};

/// Installs the nightly with core's sources.
pub(super) fn install_nightly() -> Result<()> {
    if paths::on_path("rustup").is_none() {
        bail!("rustup is not on PATH: install it, or run `cargo xtask setup --toolchain debian`");
    }
    let mut command = Command::new("rustup");
    command
        .args(["toolchain", "install", NIGHTLY, "--profile", "minimal"])
        .args(["--component", "rust-src", "--component", "clippy"]);
    run::quiet(&format!("rustup toolchain {NIGHTLY}"), &mut command).map(drop).context(
        "rustup could not install the nightly; on Debian 12 `cargo xtask setup --toolchain debian` \
         does without",
    )
}

/// Installs the standard library for another target into the toolchain that is in use here.
pub(super) fn install_target(target: &str) -> Result<()> {
    if paths::on_path("rustup").is_none() {
        bail!("rustup is not on PATH: install it, or Rust's standard library for {target}");
    }
    let mut command = Command::new("rustup");
    command
        .current_dir(paths::root())
        .args(["target", "add", target]);
    run::quiet(&format!("rustup target {target}"), &mut command)
        .map(drop)
        .context("rustup could not fetch it: check the network, then run setup again")
}
