//! `cargo xtask e2e`: hoptrace on a real Kubernetes, as its users have it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hoptrace_lab::{need_root, signals};

use crate::{paths, setup};
use bed::Bed;
use progress::Progress;

mod addresses;
mod away;
mod bed;
mod crowd;
mod disturb;
mod guard;
mod history;
mod load;
mod manifests;
mod names;
mod node;
mod progress;
mod prometheus;
mod rights;
mod scene;
mod uninstall;
mod witness;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these checks, in this order [default: all].
    #[arg(long, value_enum, value_name = "CHECK")]
    only: Vec<Check>,
    /// Only what is quick, with fewer restarts; says what it leaves out.
    #[arg(long, conflicts_with_all = ["only", "agent_restarts"])]
    core: bool,
    /// Leave the cluster running afterwards, with the demo and the agent.
    #[arg(long)]
    keep: bool,
    /// How often both services are restarted under load, without and with the agent.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    restarts: u32,
    /// How often the agent is restarted under load.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    agent_restarts: u32,
    /// How long the API server is away.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    away: Duration,
    /// Requests a second while something is restarted.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: u32,
}

impl Options {
    /// The checks that are asked for.
    fn checks(&self) -> Vec<Check> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let all = Check::value_variants().iter().copied();
        all.filter(|check| !self.core || CORE.contains(check))
            .collect()
    }

    fn agent_restarts(&self) -> u32 {
        if self.core {
            CORE_AGENT_RESTARTS
        } else {
            self.agent_restarts
        }
    }
}

/// What most changes could break, in two minutes.
const CORE: [Check; 5] = [
    Check::Manifests,
    Check::Names,
    Check::Uninstall,
    Check::Addresses,
    Check::Agent,
];
const CORE_AGENT_RESTARTS: u32 = 2;

/// Something that must be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Every overlay is taken by a real API server.
    Manifests,
    /// The first hop with all its names within 30 s; the sums are those of Envoy's log.
    Names,
    /// `helm uninstall` leaves the node as it was before.
    Uninstall,
    /// Both services are restarted again and again under load.
    Pods,
    /// Addresses go from one short-lived caller to the next.
    Addresses,
    /// The agent is restarted again and again under load.
    Agent,
    /// The API server is away.
    Api,
    /// The agent is killed and starts while the API server is away.
    AwayStart,
    /// The container runtime is restarted.
    Runtime,
    /// The node is drained.
    Drain,
    /// Each right of the agent is taken away.
    Rights,
    /// Each capability of the agent is taken away.
    Capabilities,
    /// The API says who may see the metrics.
    TokenReview,
    /// The cluster has thousands of pods: what the agent takes of memory.
    Crowd,
}

impl Check {
    fn run(self, bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
        match self {
            Self::Manifests => manifests::check(bed, figures),
            Self::Names => names::check(bed, figures),
            Self::Uninstall => uninstall::check(bed, figures),
            Self::Pods => disturb::pods(bed, options, figures),
            Self::Agent => disturb::agent(bed, options, figures),
            Self::Addresses => addresses::check(bed, figures),
            Self::Api => away::api(bed, options, figures),
            Self::AwayStart => away::start(bed, options, figures),
            Self::Runtime => disturb::runtime(bed, options, figures),
            Self::Drain => disturb::drain(bed, options, figures),
            Self::Rights => rights::rights(bed, figures),
            Self::Capabilities => rights::capabilities(bed, figures),
            Self::TokenReview => guard::check(bed, figures),
            Self::Crowd => crowd::check(bed, figures),
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// What a check found, in sentences.
#[derive(Debug, Default)]
struct Figures(Vec<String>);

impl Figures {
    fn say(&mut self, sentence: String) {
        eprintln!("           {sentence}");
        self.0.push(sentence);
    }
}

/// Runs the checks. Whatever was started has ended when this returns, but with `--keep`.
pub(crate) fn run(options: &Options) -> Result<()> {
    need_root()?;
    signals::on_interrupt()?;
    let logs = paths::target().join("e2e");
    let done = checked(options, &logs);
    if done.is_err() && signals::interrupted() {
        bail!("interrupted by a signal; everything that was started has been removed");
    }
    done.with_context(|| format!("logs are in {}", logs.display()))
}

fn checked(options: &Options, logs: &Path) -> Result<()> {
    let progress = Progress::start();
    // What it takes is quickly asked, and long in the making.
    setup::ensure()?;
    hoptrace_cluster::check_permitted()?;
    empty(logs)?;
    let bed = Bed::up(logs, &progress)?;
    let checks = options.checks();
    let mut failed = Vec::new();
    let mut summary = String::new();
    for check in &checks {
        let name = check.name();
        progress.step(&format!("{name} …"));
        let started = Instant::now();
        let done = check.run(&bed, options, &mut Figures::default());
        signals::check()?;
        let took = started.elapsed().as_secs_f64();
        let result = if done.is_ok() { "passed" } else { "FAILED" };
        summary += &format!("{name:14} {took:6.1} s  {result}\n");
        if let Err(error) = done {
            eprintln!("           error: {error:#}");
            // The next check begins with what this one left: its logs are kept apart.
            let dir = logs.join(&name);
            empty(&dir)?;
            bed.save(&dir);
            bed.mend();
            failed.push(name);
        }
    }
    let seconds = progress.seconds();
    if options.keep {
        keep(bed)?;
    } else {
        let Bed {
            history, cluster, ..
        } = bed;
        drop(history);
        cluster.down()?;
        progress.step("everything is taken down");
    }
    println!("\n{summary}");
    if options.core {
        let left_out = Check::value_variants()
            .iter()
            .filter(|check| !checks.contains(check));
        println!(
            "left out: {}; the agent was restarted {CORE_AGENT_RESTARTS} times, not {}: `cargo xtask \
             e2e` does all of it",
            left_out
                .map(|check| check.name())
                .collect::<Vec<_>>()
                .join(", "),
            options.agent_restarts
        );
    }
    if failed.is_empty() {
        println!("✓ e2e: {} checks passed in {seconds:.0} s", checks.len());
        return Ok(());
    }
    bail!(
        "{} of {} checks failed: {}",
        failed.len(),
        checks.len(),
        failed.join(", ")
    )
}

fn keep(bed: Bed) -> Result<()> {
    let Bed {
        history, cluster, ..
    } = bed;
    drop(history);
    cluster.keep()?;
    println!("the cluster is left running: `cargo xtask cluster status` says how to use it");
    Ok(())
}

fn empty(dir: &Path) -> Result<()> {
    let emptying = || format!("cannot empty {}", dir.display());
    paths::remove_tree(dir)?;
    fs::create_dir_all(dir).with_context(emptying)
}
