//! `cargo xtask report`: `hoptrace report` of the article's experiment, on labs without sidecars, with sidecars
//! in clear text, and with mutual TLS. `docs/report-example.md` is what it wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hoptrace_lab::{AgentProcess, Lab, LabOptions, Mode, Pod, Target, free_port, signals};

use crate::demo::ready::{self, Programs};
use crate::paths;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Calls in a run.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    calls: u64,
    /// Runs of GET, and of POST.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u64,
    /// Connections of the load, each with one call in flight.
    #[arg(long, value_name = "N", default_value_t = 10)]
    connections: u16,
    /// Where the pages go [default: target/report].
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// One more capital.
const BODY: &str = r#"{"country": "France", "city": "Paris"}"#;

/// What stands before the reports. `busy` is the load average before the first run: other work of the machine is
/// in the figures, and in their intervals.
fn opening(cpus: usize, busy: &str) -> String {
    format!(
        "# One report\n\n\
         What `cargo xtask report --out docs` wrote on a machine of {cpus} processors, whose load average was\n\
         {busy} before the first run. It brings the lab up three times, with one agent each, and runs\n\
         [`hoptrace report`](report.md) in its load pod: the article's experiment, from outside of the mesh to\n\
         the gateway and the service behind it. The processors are never idle in it, so bytes queue. There are\n\
         pages with charts too: [mTLS](report-example-mtls.html), [clear text](report-example-plain.html).\n"
    )
}

/// Measures, and writes the pages.
///
/// # Errors
/// A lab, an agent or a report does not come about; or a signal came.
pub(crate) fn run(options: &Options) -> Result<()> {
    signals::on_interrupt()?;
    ready::machine()?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => paths::cargo_target().join("report"),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let programs = ready::programs()?;
    let scratch = Scratch::make()?;
    let busy = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let busy = busy.split(' ').next().unwrap_or_default().to_owned();
    let bare = scratch.0.join("none.json");
    let files = [bare.clone()];
    measured(&programs, Mode::None, options, &Wanted::without(&files))?;
    let cpus = std::thread::available_parallelism().map_or(1, Into::into);
    let mut page = opening(cpus, &busy);
    for (mode, name, html) in [
        (
            Mode::Mtls,
            "with sidecars, mTLS",
            "report-example-mtls.html",
        ),
        (
            Mode::Plain,
            "with sidecars, clear text",
            "report-example-plain.html",
        ),
    ] {
        let text = scratch.0.join(format!("{mode}.md"));
        let files = [text.clone(), out.join(html)];
        let wanted = Wanted {
            side: "--with",
            name: Some(name),
            baseline: Some(&bare),
            files: &files,
        };
        measured(&programs, mode, options, &wanted)?;
        let text = fs::read_to_string(&text).context("reading the report")?;
        page.push('\n');
        page.push_str(&below(&text, name));
    }
    let path = out.join("report-example.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("✓ {}", path.display());
    Ok(())
}

/// One run of the command.
struct Wanted<'a> {
    side: &'static str,
    name: Option<&'a str>,
    baseline: Option<&'a Path>,
    files: &'a [PathBuf],
}

impl<'a> Wanted<'a> {
    fn without(files: &'a [PathBuf]) -> Self {
        Self {
            side: "--without",
            name: None,
            baseline: None,
            files,
        }
    }
}

/// Brings a lab and its agent up, and runs the command in the load pod.
fn measured(programs: &Programs, mode: Mode, options: &Options, wanted: &Wanted<'_>) -> Result<()> {
    signals::check()?;
    let name = format!("report-{mode}-{}", std::process::id());
    let mut lab_options = LabOptions::new(name, &programs.envoy, &programs.lab);
    lab_options.mode = mode;
    let lab = Lab::up(&lab_options)?;
    let agent = AgentProcess::start(&lab.agent_options(&programs.agent, free_port()?))?;
    let reach = lab.reach(Pod::Load, agent.address())?;
    let mut command = Command::new(&programs.agent);
    command.arg("report");
    command.arg(wanted.side);
    command.arg(lab.url(Pod::Load, Target::Gateway) + "capitols");
    if let Some(name) = wanted.name {
        command.args(["--with-name", name]);
    }
    if let Some(baseline) = wanted.baseline {
        command.arg("--baseline").arg(baseline);
    }
    for file in wanted.files {
        command.arg("--out").arg(file);
    }
    command.args(["--agent", &reach.address().to_string(), "--body", BODY]);
    command.args(["--calls", &options.calls.to_string()]);
    command.args(["--runs", &options.runs.to_string()]);
    command.args(["--connections", &options.connections.to_string()]);
    command.stdin(Stdio::null());
    let status = lab.start_in(Pod::Load, &mut command)?.wait()?;
    signals::check()?;
    ensure!(
        status.success(),
        "`hoptrace report` ended with {status} in the lab of mode {mode}; what it says is above"
    );
    drop(reach);
    let ended = agent.terminate()?;
    ensure!(ended.success(), "the agent did not end well ({ended})");
    lab.down()
}

/// A report as a part of a page: under a heading of its own, and every other one level lower.
fn below(report: &str, name: &str) -> String {
    let lines = report.lines().map(|line| match line.strip_prefix("# ") {
        Some(title) => format!("## {title}: {name}\n"),
        None if line.starts_with('#') => format!("#{line}\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// A directory for what is not kept.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hoptrace-report-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_part_of_a_page() {
        let text = below("# What\n\ntext\n\n## GET\n\n| # |\n", "mTLS");
        assert_eq!(text, "## What: mTLS\n\ntext\n\n### GET\n\n| # |\n");
    }
}
