//! `cargo xtask test`: every test there is, what was skipped and why, and what was left behind.
//!
//! A test that cannot run here appends a line `SKIP <name>: <reason>` to the file named by
//! [`SKIP_FILE`] and returns; printing that line works too in the serial phase.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::lint::members;
use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

mod durations;
mod leaks;
mod tally;

use durations::Durations;
use tally::Tally;

/// To the test harness: one test after the other.
const SERIALLY: &str = "--test-threads=1";
/// Names the file to which tests append their skips.
const SKIP_FILE: &str = "HOPTRACE_SKIP_FILE";
/// Names the agent's binary, for tests of other crates.
const AGENT: &str = "HOPTRACE_BIN";
/// Names the directory of the lab's programs.
const LAB_PROGRAMS: &str = "HOPTRACE_LAB_BIN";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only the tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Leave out the tests of the kernel and the lab, which need root and minutes.
    #[arg(long)]
    unit: bool,
    /// Test what is shipped: optimised builds.
    #[arg(long)]
    release: bool,
}

/// Builds everything, runs every test, and ends with `N passed, N failed, N skipped`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    setup::ensure()?;
    ebpf::build()?;
    build_programs(options.release)?;
    let skips = paths::target().join("test-skips.txt");
    fs::write(&skips, "").with_context(|| format!("writing {}", skips.display()))?;

    let before = leaks::Snapshot::take();
    let mut tally = Tally::default();
    phase(options, &mut tally, "unit tests", &["--lib", "--bins"], &[])?;
    phase(options, &mut tally, "documentation tests", &["--doc"], &[])?;
    if !options.unit && has_integration_tests()? {
        // They share the kernel, the CPUs and the network: one at a time.
        let harness = [SERIALLY, "--nocapture"];
        let what = "kernel and lab tests";
        phase(options, &mut tally, what, &["--test", "*"], &harness)?;
    }
    tally.left_behind(before.wait_for_cleanup());
    let text = fs::read_to_string(&skips).unwrap_or_default();
    text.lines().for_each(|line| tally.line(line));

    tally.print_details();
    println!("tests took {:.0} s", started.elapsed().as_secs_f64());
    println!("{tally}");
    if tally.is_failure() {
        bail!("tests failed");
    }
    Ok(())
}

/// Cargo fails when a pattern matches no test target at all.
fn has_integration_tests() -> Result<bool> {
    let directories = members::directories()?;
    Ok(directories.iter().any(|directory| {
        fs::read_dir(directory.join("tests"))
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok()))
    }))
}

/// Tests of one crate start programs of another, which cargo does not build for them.
pub(crate) fn build_programs(release: bool) -> Result<()> {
    let mut command = host_cargo("build");
    command.args([
        "--package",
        "tracer-user",
        "--package",
        "hoptrace-lab",
        "--bins",
    ]);
    run::shown("agent and lab", profile(&mut command, release))
}

fn phase(
    options: &Options,
    tally: &mut Tally,
    what: &str,
    targets: &[&str],
    harness: &[&str],
) -> Result<()> {
    let programs = paths::cargo_target().join(if options.release { "release" } else { "debug" });
    let mut command = host_cargo("test");
    command
        .env(SKIP_FILE, paths::target().join("test-skips.txt"))
        .env(leaks::RUN, leaks::run_id())
        .env(AGENT, programs.join("hoptrace"))
        .env(LAB_PROGRAMS, &programs)
        .args(["--workspace", "--exclude", "tracer-ebpf", "--no-fail-fast"])
        .args(targets);
    profile(&mut command, options.release)
        .arg("--")
        .args(&options.filter)
        .args(harness);
    let failed_before = tally.failed();
    let mut durations = Durations::default();
    let status = run::lines(what, &mut command, |line| {
        tally.line(line);
        durations.line(line, Instant::now());
    })?;
    if harness.contains(&SERIALLY) {
        println!("the longest of the {what}:");
        durations.print();
    }
    if !status.success() && tally.failed() == failed_before {
        tally.broken(what);
    }
    Ok(())
}

fn profile(command: &mut std::process::Command, release: bool) -> &mut std::process::Command {
    if release {
        command.arg("--release")
    } else {
        command
    }
}
