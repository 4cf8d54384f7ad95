//! `cargo xtask bench`: what tracing costs the traced.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use hoptrace_lab::signals;

mod accounting;
mod cost;
mod empty;
mod exposition;
mod hooks_table;
mod mesh;
mod stats;
mod usage;

use mesh::Mesh;

/// The rate that the agent's own cost is stated for, requests a second.
const STATED_RATE: f64 = 5_000.0;
/// Of what saturates the mesh, the share that a fixed rate takes: busy, and no queue grows.
const FIXED_SHARE: f64 = 0.55;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the accounting of the eBPF programs, in about 15 s: for work on the kernel side.
    #[arg(long)]
    hooks_only: bool,
    /// Requests a second of the fixed rate [default: 55 % of what saturates the mesh].
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
}

/// Runs the benchmark. A missed target is a result, not an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    mesh::build()?;
    signals::on_interrupt()?;
    let mesh = Mesh::up()?;
    let saturation = mesh.saturation(1.0)?;
    eprintln!("  saturated at {saturation:.0} requests/s");
    let rate = options
        .rate
        .map_or_else(|| STATED_RATE.min(saturation * FIXED_SHARE), f64::from);
    hooks(&mesh, rate, 4, Duration::from_millis(2_500))?;
    mesh.lab.down()
}

fn hooks(mesh: &Mesh, rate: f64, windows: u32, window: Duration) -> Result<()> {
    let seconds = window.as_secs_f64();
    eprintln!("… accounting: {windows} windows of {seconds} s at {rate:.0} requests/s");
    let windows = accounting::measure(mesh, windows, rate, seconds)?;
    print!("{}", hooks_table::show(&windows));
    Ok(())
}
