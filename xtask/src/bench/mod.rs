//! `cargo xtask bench`: what tracing costs the traced.
//!
//! Three phases on one lab: [`pairs`] compares latency, throughput and processor time with and
//! without an agent; [`accounting`] asks the kernel what each eBPF program takes, and the agent
//! what it does; [`targets`] judges both.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;
use hoptrace_lab::signals;
use serde::Serialize;

use crate::paths;

mod accounting;
mod cost;
mod hooks_table;
mod machine;
pub(crate) mod mesh;
mod pairs;
mod pairs_table;
mod stats;
mod stretch;
mod targets;
mod yardstick;

use accounting::Window;
use machine::Machine;
use mesh::Mesh;
use pairs::{Pair, Plan, Subject};
use targets::{STATED_RATE, Target};

/// Of what saturates the mesh, the share that a fixed rate takes: busy, and no queue grows.
const FIXED_SHARE: f64 = 0.55;
/// The same for accounting, where latency does not matter and the stated rate is wanted.
const ACCOUNTING_SHARE: f64 = 0.7;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the accounting of the eBPF programs, in about 30 s: for work on the kernel side.
    #[arg(long)]
    hooks_only: bool,
    /// What the pairs compare nothing with; with empty programs there is no accounting.
    #[arg(long, value_enum, default_value_t, conflicts_with = "hooks_only")]
    subject: Subject,
    /// The agent's --trace-windows, such as 100ms/5s
    #[arg(long, value_name = "WINDOWS", conflicts_with = "hooks_only")]
    trace_windows: Option<String>,
    /// Pairs of runs with and without the subject.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Seconds of each stretch of load; a pair has four.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Requests a second [default: 55 % of what saturates the mesh, for accounting up to 5,000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// A smoke test: two pairs of two seconds. Its figures mean nothing.
    #[arg(long, conflicts_with_all = ["pairs", "seconds"])]
    quick: bool,
    /// Where the results go as JSON [default: target/bench/TIME.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that was measured, for machines.
#[derive(Debug, Serialize)]
struct Results {
    started: String,
    machine: Machine,
    /// Requests a second.
    saturation: f64,
    plan: Option<Plan>,
    pairs: Vec<Pair>,
    accounting_rate: f64,
    windows: Vec<Window>,
    targets: Vec<Target>,
}

/// Runs the benchmark. A missed target is a result, not an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    hoptrace_lab::need_root()?;
    mesh::build()?;
    signals::on_interrupt()?;
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let machine = Machine::look();
    println!("{machine}");
    let windows = options.trace_windows.as_deref();
    let mesh = Mesh::up(windows.map(|windows| format!("--trace-windows={windows}")))?;
    let results = measure(options, &mesh, started, machine)?;
    mesh.lab.down()?;
    if !results.targets.is_empty() {
        println!("\n{:<44}{:<18}{:<14}found, median [95 %]", "", "target", "");
        for target in &results.targets {
            println!("{target}");
        }
    }
    let path = write(options, &results)?;
    println!("\nraw values: {}", path.display());
    Ok(())
}

fn measure(options: &Options, mesh: &Mesh, started: String, machine: Machine) -> Result<Results> {
    let saturation = mesh.saturation()?;
    println!("saturated at {saturation:.0} requests/s without an agent\n");
    let rate_of = |share| options.rate.map_or(saturation * share, f64::from);
    let plan = (!options.hooks_only).then(|| Plan {
        subject: options.subject,
        pairs: if options.quick { 2 } else { options.pairs },
        seconds: if options.quick {
            2.0
        } else {
            f64::from(options.seconds)
        },
        rate: rate_of(FIXED_SHARE),
    });
    let mut pairs = Vec::new();
    if let Some(plan) = plan {
        eprintln!(
            "… {} pairs with and without {}, four stretches of {} s each",
            plan.pairs, plan.subject, plan.seconds
        );
        pairs = pairs::measure(mesh, plan)?;
        println!("{}", pairs_table::show(&pairs, plan));
    }
    let accounting_rate = match options.rate {
        Some(rate) => f64::from(rate),
        None => STATED_RATE.min(saturation * ACCOUNTING_SHARE),
    };
    let windows = match options.subject {
        Subject::Agent => account(options, mesh, accounting_rate)?,
        Subject::Empty => Vec::new(),
    };
    Ok(Results {
        started,
        machine,
        saturation,
        targets: targets::judge(&pairs, &windows),
        plan,
        pairs,
        accounting_rate,
        windows,
    })
}

/// Measures the accounting and tells it.
fn account(options: &Options, mesh: &Mesh, rate: f64) -> Result<Vec<Window>> {
    let (number, seconds) = match (options.quick, options.hooks_only) {
        (true, _) => (2, 1.5),
        (false, true) => (4, 2.0),
        (false, false) => (5, 5.0),
    };
    eprintln!("… accounting, {number} windows of {seconds} s");
    let windows = accounting::measure(mesh, number, rate, seconds)?;
    println!("Accounting, {number} windows of {seconds} s at {rate:.0} requests/s (bpf_stats on)");
    print!("{}", hooks_table::show(&windows));
    if rate < STATED_RATE {
        println!("The agent's CPU at {STATED_RATE} requests/s is scaled up from this rate.");
    }
    Ok(windows)
}

fn write(options: &Options, results: &Results) -> Result<PathBuf> {
    let path = options.json.clone().unwrap_or_else(|| {
        // Colons are no part of a file's name everywhere.
        let name = format!("{}.json", results.started.replace(':', "-"));
        paths::target().join("bench").join(name)
    });
    let writing = || format!("cannot write {}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(writing)?;
    }
    let text = serde_json::to_string_pretty(results).with_context(writing)?;
    fs::write(&path, text + "\n").with_context(writing)?;
    Ok(path)
}
