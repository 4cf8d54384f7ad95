//! The kernel side: built for BPF, linted, and staged where the agent embeds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::{paths, run};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "tracer-ebpf";
/// The objects, by what cargo calls them.
const BINARIES: [&str; 3] = ["hoptrace-ebpf", "hoptrace-boundary", "hoptrace-http2"];
/// The profile of that name in the workspace's manifest.
const PROFILE: &str = "ebpf";

/// Builds the objects and stages them; a staged file is written only when its content changed, so
/// that the agent is not rebuilt for nothing.
pub(crate) fn build() -> Result<()> {
    let toolchain = Toolchain::need()?;
    let mut command = cargo(&toolchain, "build", &linker()?);
    run::shown(
        &format!("eBPF objects with {}", toolchain.name),
        &mut command,
    )?;
    let staged = [
        paths::ebpf_object(),
        paths::boundary_object(),
        paths::http2_object(),
    ];
    for (binary, staged) in BINARIES.into_iter().zip(staged) {
        let built = target_dir().join(TARGET).join(PROFILE).join(binary);
        let (state, bytes) = stage(&built, &staged)?;
        let shown = staged
            .strip_prefix(paths::root())
            .unwrap_or(&staged)
            .display();
        eprintln!("  {shown}: {bytes} bytes, {state}");
    }
    Ok(())
}

/// Lints the kernel side; warnings are errors.
pub(crate) fn clippy() -> Result<()> {
    let toolchain = Toolchain::need()?;
    if !toolchain.has("clippy") {
        bail!(
            "{} has no clippy: add that component, or run `cargo xtask setup`",
            toolchain.name
        );
    }
    let mut command = cargo(&toolchain, "clippy", &linker()?);
    command.args(["--", "-D", "warnings"]);
    run::shown("clippy of the eBPF side", &mut command)
}

/// The linker that setup installed, else one on `PATH`.
pub(crate) fn find_linker() -> Result<Option<PathBuf>> {
    let ours = paths::cache()?.join("bin").join("bpf-linker");
    Ok(if ours.is_file() {
        Some(ours)
    } else {
        paths::on_path("bpf-linker")
    })
}

fn linker() -> Result<PathBuf> {
    match find_linker()? {
        Some(linker) => Ok(linker),
        None => bail!("bpf-linker is not installed: run `cargo xtask setup`"),
    }
}

/// A target directory of its own: another compiler and other flags would evict the agent's.
fn target_dir() -> PathBuf {
    paths::target().join("ebpf")
}

fn cargo(toolchain: &Toolchain, subcommand: &str, linker: &Path) -> Command {
    // `--btf` needs debug info; together they describe the socket storage map to the kernel.
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
    ];
    let mut command = toolchain.cargo(subcommand);
    command
        .current_dir(paths::root())
        .env("CARGO_TARGET_DIR", target_dir())
        // Encoded, so that a path may hold a space.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["--package", PACKAGE, "--bins", "--profile", PROFILE])
        .args(["-Zbuild-std=core", "--target", TARGET]);
    command
}

/// Copies the object, in one step for readers, when its content differs.
fn stage(built: &Path, staged: &Path) -> Result<(&'static str, usize)> {
    let content = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(staged).is_ok_and(|old| old == content) {
        return Ok(("unchanged", content.len()));
    }
    let partial = staged.with_extension("o.partial");
    let written = || format!("writing {}", staged.display());
    fs::create_dir_all(staged.parent().unwrap_or(Path::new("."))).with_context(written)?;
    fs::write(&partial, &content).with_context(written)?;
    fs::rename(&partial, staged).with_context(written)?;
    Ok(("updated", content.len()))
}
