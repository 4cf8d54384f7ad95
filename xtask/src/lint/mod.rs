//! `cargo xtask lint`: every check that needs no kernel. All of them run; the failed are named.

use anyhow::{Result, bail};

use crate::toolchain::host_cargo;
use crate::{book, ebpf, run, setup};

mod licences;
pub(crate) mod members;
mod size;

/// A name for people, and what to run.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    setup::ensure()?;
    // The agent embeds the object, so even its lints need one.
    ebpf::build()?;
    let checks: [Check; 8] = [
        ("lint table", members::inherit_lints),
        ("file size", size::check),
        ("fmt", fmt),
        ("clippy", clippy),
        ("clippy-ebpf", ebpf::clippy),
        ("doc", doc),
        ("licences", licences::check),
        ("book", book::lint),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            failed.push(format!("  {name}: {error:#}"));
        }
    }
    if failed.is_empty() {
        eprintln!("✓ lint: {} checks passed", checks.len());
        eprintln!("  not looked at: known vulnerabilities, whose list is on the network");
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
