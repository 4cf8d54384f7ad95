//! `cargo xtask lint`: every check that needs no kernel. All of them run; the failed are named.

use std::process::Command;

use anyhow::{Result, bail};

use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

pub(crate) mod members;
mod size;

/// A name for people, and what to run.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    setup::ensure()?;
    // The agent embeds the object, so even its lints need one.
    ebpf::build()?;
    let checks: [Check; 7] = [
        ("lint table", members::inherit_lints),
        ("file size", size::check),
        ("fmt", fmt),
        ("clippy", clippy),
        ("clippy-ebpf", ebpf::clippy),
        ("doc", doc),
        ("licences", licences),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            failed.push(format!("  {name}: {error:#}"));
        }
    }
    if failed.is_empty() {
        eprintln!("✓ lint: {} checks passed", checks.len());
        return Ok(());
    }
    bail!(
        "{} of {} checks failed:\n{}",
        failed.len(),
        checks.len(),
        failed.join("\n")
    )
}

fn fmt() -> Result<()> {
    run::shown(
        "formatting (`cargo fmt --all` mends it)",
        host_cargo("fmt").args(["--all", "--check"]),
    )
}

fn clippy() -> Result<()> {
    let mut command = host_cargo("clippy");
    command.args(["--workspace", "--exclude", "tracer-ebpf", "--all-targets"]);
    run::shown("clippy", command.args(["--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    let mut command = host_cargo("doc");
    command.args(["--workspace", "--exclude", "tracer-ebpf", "--no-deps"]);
    run::shown("documentation", command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences and sources of the dependencies, where cargo-deny is at hand; its advisories need the
/// network and are left to a scheduled job.
fn licences() -> Result<()> {
    let in_home = paths::cargo_home().map(|home| home.join("bin/cargo-deny"));
    let Some(deny) = in_home
        .filter(|p| p.is_file())
        .or_else(|| paths::on_path("cargo-deny"))
    else {
        eprintln!("- licences: skipped, cargo-deny is not installed");
        return Ok(());
    };
    let mut command = Command::new(deny);
    command
        .current_dir(paths::root())
        .args(["check", "bans", "licenses", "sources"]);
    run::shown("cargo deny", &mut command)
}
