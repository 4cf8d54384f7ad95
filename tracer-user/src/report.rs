//! `hoptrace report`: what the mesh costs, from runs of load with and without the sidecars.
//!
//! `load` calls, `agents` look before and after each run, and `hoptrace_report` makes figures, verdicts and
//! pages of it. What has to be so is looked at before the first call: an hour of load for a file that cannot
//! be written would be wasted.

use anyhow::{Context, Result, ensure};
use hoptrace_report::{Measured, Report, SCHEMA, Settings, Side, Window, compare, side};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

mod agents;
mod load;
mod output;

use agents::Agents;
use load::{Call, Target};
pub use output::{Format, Outputs};

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// The target with sidecars.
    pub with: Option<Asked>,
    /// The one without.
    pub without: Option<Asked>,
    /// An earlier report that has the other one.
    pub baseline: Option<PathBuf>,
    /// Agents of all nodes on the load's way.
    pub agents: Vec<String>,
    /// A file with the token to show them.
    pub token_file: Option<PathBuf>,
    /// Whose load it is.
    pub load: Load,
    /// How often.
    pub runs: usize,
    /// How long agents may take to settle.
    pub settle: Duration,
    /// Least share, 0 to 1.
    pub min_coverage: f64,
    /// Of the intervals, 0 to 1.
    pub confidence: f64,
    /// Only pairs with this in a name.
    pub filter: String,
    /// Where the report goes.
    pub outputs: Outputs,
}

/// One target as it was named.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How it is called in the report.
    pub name: String,
    /// A URL; with the user's own load a text in the names of its pairs.
    pub target: String,
}

/// Whose load it is.
#[derive(Debug)]
pub enum Load {
    /// Ours.
    Own {
        /// In each run.
        calls: u64,
        /// Each with one call in flight.
        connections: usize,
        /// Calls of each kind before anything is measured.
        warm_up: u64,
        /// Request headers.
        headers: Vec<(String, String)>,
        /// POST is called with it too.
        body: Option<String>,
    },
    /// The user's, for so long in each run.
    Yours(Duration),
}

/// What `run` says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Every conclusion is carried.
    All,
    /// One of them is refused; the report says why.
    Refused,
}

/// Measures, and writes the report.
///
/// # Errors
/// An agent or a target does not answer, an agent was started again meanwhile, every call of a run failed,
/// the baseline cannot be used, or a file cannot be written.
pub fn run(options: &Options) -> Result<Told> {
    options.outputs.check()?;
    let baseline = options.baseline.as_ref().map(baseline).transpose()?;
    let agents = Agents::new(&options.agents, options.token_file.as_ref(), options.settle)?;
    let (without, with) = match &options.load {
        Load::Own { .. } => own(options, &agents)?,
        Load::Yours(time) => yours(options, &agents, *time)?,
    };
    let (without, with) = complete(without, with, baseline)?;
    let report = compare(env!("CARGO_PKG_VERSION"), settings(options), without, with);
    options.outputs.write(&report)?;
    Ok(if report.is_refused() {
        Told::Refused
    } else {
        Told::All
    })
}

fn settings(options: &Options) -> Settings {
    let (calls, connections) = match &options.load {
        Load::Own {
            calls, connections, ..
        } => (Some(*calls), Some(*connections)),
        Load::Yours(_) => (None, None),
    };
    Settings {
        runs: options.runs,
        calls,
        connections,
        min_coverage: options.min_coverage,
        confidence: options.confidence,
    }
}

/// An earlier report.
fn baseline(path: &PathBuf) -> Result<Report> {
    let place = || format!("the baseline {}", path.display());
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", place()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} is no report: write one with `--output json`", place()))?;
    ensure!(
        report.schema == SCHEMA,
        "{} is of hoptrace {} and has another shape: measure it again",
        place(),
        report.hoptrace
    );
    Ok(report)
}

/// Fills the target that was not measured now from the baseline.
fn complete(
    without: Option<Side>,
    with: Option<Side>,
    baseline: Option<Report>,
) -> Result<(Option<Side>, Option<Side>)> {
    let Some(baseline) = baseline else {
        return Ok((without, with));
    };
    let (without, with) = match (without, with) {
        (None, with) => (baseline.without, with),
        (without, None) => (without, baseline.with),
        both => both,
    };
    ensure!(
        without.is_some() && with.is_some(),
        "the baseline has not the target that was not measured now: it was made with the same of --with and \
         --without"
    );
    Ok((without, with))
}

/// Both targets in turns, so that what the machines do meanwhile is in both.
fn own(options: &Options, agents: &Agents) -> Result<(Option<Side>, Option<Side>)> {
    let calls = Call::all(&options.load);
    let open = |asked: &Option<Asked>| -> Result<Option<Target>> {
        let asked = asked.as_ref();
        asked
            .map(|asked| Target::open(asked, &options.load))
            .transpose()
    };
    let targets = [open(&options.without)?, open(&options.with)?];
    for target in targets.iter().flatten() {
        for call in &calls {
            target.warm_up(call)?;
        }
        eprintln!("✓ {}: warmed up", target.name());
    }
    agents.settled()?;
    let mut measured = [Vec::new(), Vec::new()];
    for call in &calls {
        let mut windows = [Vec::new(), Vec::new()];
        let mut all = [None, None];
        for number in 1..=options.runs {
            for ((target, windows), all) in targets.iter().zip(&mut windows).zip(&mut all) {
                let Some(target) = target else { continue };
                let before = agents.look()?;
                let (load, times) = target.run(call)?;
                let (totals, coverage) = agents.settled()?.since(&before)?;
                eprintln!(
                    "✓ {}, {} {number} of {}: {} calls, mean {:.1} µs",
                    target.name(),
                    call.method(),
                    options.runs,
                    load.succeeded + load.failed,
                    load.latency.mean_ns / 1e3
                );
                load::add(all, times);
                windows.push(Window {
                    totals,
                    coverage,
                    load: Some(load),
                });
            }
        }
        for ((measured, windows), all) in measured.iter_mut().zip(windows).zip(all) {
            measured.push(Measured {
                method: call.method().to_owned(),
                windows,
                all: all.map(|times| times.latency()),
            });
        }
    }
    let [from, to] = measured;
    let side = |asked: &Option<Asked>, measured: &[Measured]| {
        let asked = asked.as_ref()?;
        Some(side(
            &asked.name,
            Some(&asked.target),
            measured,
            &options.filter,
        ))
    };
    Ok((side(&options.without, &from), side(&options.with, &to)))
}

/// Watches while others call; targets are told apart by names.
fn yours(
    options: &Options,
    agents: &Agents,
    time: Duration,
) -> Result<(Option<Side>, Option<Side>)> {
    let mut windows = Vec::new();
    for number in 1..=options.runs {
        eprintln!(
            "… watching for {}, {number} of {}",
            humantime::format_duration(time),
            options.runs
        );
        let before = agents.look()?;
        thread::sleep(time);
        let (totals, coverage) = agents.look()?.since(&before)?;
        windows.push(Window {
            totals,
            coverage,
            load: None,
        });
    }
    let measured = [Measured {
        method: "any".to_owned(),
        windows,
        all: None,
    }];
    let side = |asked: &Option<Asked>| {
        let asked = asked.as_ref()?;
        Some(side(&asked.name, None, &measured, &asked.target))
    };
    Ok((side(&options.without), side(&options.with)))
}
