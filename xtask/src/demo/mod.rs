//! `cargo xtask demo`: what does a mesh cost? The article's experiment, without and with sidecars.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Mode, Prometheus, signals};

use experiment::Traced;
use model::{Experiment, Findings};
use progress::step;
use ready::Ports;
use traffic::Volume;

mod experiment;
use hoptrace_report::figures;
mod measure;
mod model;
mod progress;
mod promql;
pub(crate) mod ready;
mod report;
mod table;
mod traffic;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Calls in a run.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls: u64,
    /// Runs of GET, and of POST.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Connections of the load, each with one call in flight.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// How sidecars talk to each other.
    #[arg(long, value_enum, default_value_t = Sidecars::Mtls)]
    mode: Sidecars,
    /// Use this port and the two after it: agent without, agent with sidecars, Prometheus
    /// [default: free ones].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    listen_port: Option<u16>,
    /// Leave the mesh with sidecars, its agent and Prometheus running under a light load, until
    /// Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Write the figures to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sidecars {
    /// In clear text.
    Plain,
    /// Mutual TLS.
    Mtls,
}

/// Calls a second while it is kept running.
const KEPT_RATE: f64 = 50.0;
/// How long each of its runs lasts, seconds.
const KEPT_RUN: f64 = 60.0;

/// Shows it. Whatever was started has ended when this returns, by success, error or signal.
pub(crate) fn run(options: &Options) -> Result<()> {
    signals::on_interrupt()?;
    let done = show(options);
    if done.is_err() && signals::interrupted() {
        bail!("interrupted by a signal; everything that was started has been removed");
    }
    done
}

fn show(options: &Options) -> Result<()> {
    ready::machine()?;
    let ports = ready::ports(options.listen_port)?;
    options.json.as_deref().map(check_place).transpose()?;
    let programs = ready::programs()?;
    let volume = Volume {
        calls: options.calls,
        runs: options.runs,
        connections: options.connections.into(),
    };
    let home = Home::make()?;
    let prometheus = step("Prometheus, which scrapes every second", || {
        let agents = [ports.without, ports.with].map(|port| ([127, 0, 0, 1], port).into());
        Prometheus::start(&home.0, ports.prometheus, &agents)
    })?;
    let bare = Traced::up(&programs, Mode::None, ports.without, volume)?;
    let without = bare.measure(&prometheus, volume)?;
    bare.down()?;
    let mode = match options.mode {
        Sidecars::Plain => Mode::Plain,
        Sidecars::Mtls => Mode::Mtls,
    };
    let meshed = Traced::up(&programs, mode, ports.with, volume)?;
    let with = meshed.measure(&prometheus, volume)?;
    let findings = Findings {
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        calls: volume.calls,
        runs: volume.runs,
        connections: volume.connections,
        without,
        with,
    };
    println!("\n{}", report::text(&findings));
    if let Some(path) = &options.json {
        write(path, &findings)?;
    }
    let counted = [&findings.without, &findings.with]
        .into_iter()
        .try_for_each(|experiment| check_counts(experiment, volume));
    if options.keep && counted.is_ok() {
        keep(&meshed, ports)?;
    }
    step("everything removed", || {
        meshed.down()?;
        drop(prometheus);
        drop(home);
        Ok(())
    })?;
    counted
}

/// # Errors
/// A pair was not counted as often as it was called.
fn check_counts(experiment: &Experiment, volume: Volume) -> Result<()> {
    for pair in [&experiment.outer, &experiment.inner] {
        for (method, total) in [("GET", &pair.get), ("POST", &pair.post)] {
            ensure!(
                total.requests == volume.of_each(),
                "{} {method} calls were made and {} were counted from {} to {} (mode {}): the \
                 figures above are not to be trusted",
                volume.of_each(),
                total.requests,
                pair.source,
                pair.destination,
                experiment.mode
            );
        }
    }
    Ok(())
}

/// Says where everything is, and lets it move until a signal comes.
fn keep(meshed: &Traced, ports: Ports) -> Result<()> {
    println!("\nStill running, with {KEPT_RATE} calls a second:");
    println!("  agent       {}", meshed.metrics_url());
    println!("  Prometheus  http://127.0.0.1:{}/graph", ports.prometheus);
    println!("              {}", report::EXAMPLE_QUERY);
    println!("  lab         {}", meshed.lab.state().name);
    println!("Ctrl-C ends and removes all of it.");
    let schedule = Schedule::Rate {
        per_second: KEPT_RATE,
        seconds: KEPT_RUN,
    };
    while !signals::interrupted() {
        let sent = traffic::send(&meshed.lab, traffic::GET, 2, schedule);
        if let Err(error) = sent
            && !signals::interrupted()
        {
            return Err(error);
        }
    }
    Ok(())
}

/// The directory of Prometheus' data.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hoptrace-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Makes sure, before minutes are spent, that the file can be there.
fn check_place(path: &Path) -> Result<()> {
    let absolute = std::path::absolute(path).context("--json")?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    ensure!(
        directory.is_dir() && !path.is_dir(),
        "--json: {} cannot be written: name a file in a directory that is there",
        path.display()
    );
    Ok(())
}

fn write(path: &Path, findings: &Findings) -> Result<()> {
    let mut text = serde_json::to_string_pretty(findings).context("writing JSON")?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
