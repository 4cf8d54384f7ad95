//! `cargo xtask soak`: very many requests of every kind, with one agent: each of its exchanges explained,
//! and its memory flat.
//!
//! [`kinds`] says what is asked, and what must become of it; [`clients`] asks; [`memory`] watches the
//! agent meanwhile; [`judge`] holds what it counted against what was asked. A round has two halves: in the
//! first all kinds run at once whose exchanges are known to the integer, in the second the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hoptrace_lab::{
    AgentProcess, Flavour, Lab, LabOptions, Mode, envoy, free_port, need_root, signals, wait,
};

use crate::bench::mesh;
use crate::paths;
use hoptrace_exposition::Exposition;

mod clients;
mod judge;
mod kinds;
mod memory;

use judge::{Fates, Half};
use kinds::Kind;

/// Requests of a round.
const ROUND: u64 = 50_000;
/// Longer than a server works for a client that is gone, and than the agent sleeps.
const REST: Duration = Duration::from_millis(400);
/// Until nothing waits for its neighbours.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many, over all kinds
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    requests: u64,
}

/// Runs it.
///
/// # Errors
/// An exchange is not explained, memory grows, or something does not run.
pub(crate) fn run(options: &Options) -> Result<()> {
    need_root()?;
    mesh::build()?;
    signals::on_interrupt()?;
    for name in hoptrace_lab::clean_stale()? {
        eprintln!("  lab `{name}`, whose creator is gone, is taken down");
    }
    let release = paths::cargo_target().join("release");
    let name = format!("soak-{}", std::process::id());
    let mut lab = LabOptions::new(name, envoy::find()?, &release);
    lab.mode = Mode::Mtls;
    lab.flavour = Flavour::Wire;
    lab.load_meshed = true;
    // A line for each of a million requests, in each of two sidecars.
    lab.access_log = false;
    let lab = Lab::up(&lab)?;
    let agent = AgentProcess::start(&lab.agent_options(release.join("hoptrace"), free_port()?))?;
    mesh::sleep(mesh::SETTLE)?;
    let wrong = ask(options.requests, &lab, agent)?;
    lab.down()?;
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("; "))
}

fn ask(requests: u64, lab: &Lab, agent: AgentProcess) -> Result<Vec<String>> {
    let (exact, other): (Vec<_>, Vec<_>) = kinds::ALL.into_iter().partition(Kind::is_exact);
    let mut halves = [
        Half::new("All kinds whose exchanges are known to the integer, at once"),
        Half::new("Kinds of which some exchanges are a matter of a millisecond, at once"),
    ];
    let done = AtomicBool::new(false);
    let watched = thread::scope(|scope| {
        let watch = scope.spawn(|| memory::watch(&agent, &done));
        let all = rounds(requests, lab, &agent, &mut halves, [&exact, &other]);
        done.store(true, Ordering::Release);
        let watched = watch.join().ok().context("the watch panicked")?;
        all.and(watched)
    })?;
    let log = agent.log().to_path_buf();
    mesh::end(agent)?;
    let log = std::fs::read_to_string(&log).context("reading the agent's log")?;
    let mut wrong = Vec::new();
    for half in &halves {
        wrong.extend(half.judge());
    }
    wrong.extend(judge::books(&halves, &log)?);
    wrong.extend(watched.judge());
    Ok(wrong)
}

fn rounds(
    requests: u64,
    lab: &Lab,
    agent: &AgentProcess,
    halves: &mut [Half; 2],
    kinds: [&[Kind]; 2],
) -> Result<()> {
    let rounds = requests.div_ceil(ROUND);
    let (started, mut count) = (Instant::now(), 0);
    let mut before = settled(agent)?;
    let mut connections = 0;
    for round in 0..rounds {
        let now = ROUND.min(requests - round * ROUND);
        for (half, kinds) in halves.iter_mut().zip(kinds) {
            let asked = clients::round(lab, kinds, now)?;
            count += asked.iter().map(|(_, count)| count).sum::<u64>();
            mesh::sleep(REST)?;
            let all = clients::connections(lab)?;
            let after = settled(agent)?;
            half.add(&asked, all - connections, &after, &before);
            (connections, before) = (all, after);
        }
        if (round + 1).is_multiple_of(rounds.div_ceil(10)) || round + 1 == rounds {
            let rate = count as f64 / started.elapsed().as_secs_f64();
            let (rss, _) = crate::usage::resident_mib(agent.pid())?;
            println!("{count:>10} requests, {rate:.0}/s, the agent has {rss:.1} MiB");
        }
    }
    Ok(())
}

/// What the agent counted, once nothing waits for its neighbours any more.
fn settled(agent: &AgentProcess) -> Result<Fates> {
    let mut last = f64::NAN;
    wait::until("an agent with nothing pending", SETTLE_LIMIT, || {
        let exposition = Exposition::parse(&agent.metrics()?);
        let records = exposition.sum("hoptrace_records_total")?;
        let rests = records == last && exposition.sum("hoptrace_exchanges_pending")? == 0.0;
        last = records;
        if !rests {
            // Longer than the agent sleeps between two looks into the ring.
            thread::sleep(REST);
        }
        Ok(rests.then(|| Fates::of(&exposition)))
    })
}
