//! The accounting phase: what the agent costs the kernel and itself, with the kernel's accounting
//! of eBPF programs switched on. Latencies are not looked at here: the accounting is a part of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use hoptrace_lab::AgentProcess;
use hoptrace_lab::load::Schedule;
use serde::Serialize;

use super::cost::{Accounts, Hook};
use super::mesh::{self, Mesh, SOCKETS};
use super::yardstick::{HookCosts, Kind, NaiveCost, Yardstick};
use crate::usage::{self, ProcessUsage};
use hoptrace_exposition::Exposition;

/// Longer than the agent holds an exchange back for its neighbours.
const HOLD: Duration = Duration::from_millis(400);

/// One stretch of load under accounting.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Window {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) hooks: Vec<Hook>,
    pub(super) naive: NaiveCost,
    pub(super) records_per_request: f64,
    /// Exchanges that the agent found neighbours for, in percent of all it settled.
    pub(super) paired_percent: f64,
    pub(super) lost_records: f64,
    pub(super) agent_cpu_percent: f64,
    pub(super) agent_cpu_us_per_request: f64,
    pub(super) agent_wakeups_per_second: f64,
    pub(super) agent_rss_mib: f64,
    pub(super) agent_rss_peak_mib: f64,
}

impl Window {
    /// Processor time of all hooks for one request, microseconds, as accounted.
    pub(super) fn kernel_us_raw(&self) -> f64 {
        self.hooks.iter().map(Hook::raw_us_per_request).sum()
    }

    /// The same, less what empty programs cost there.
    pub(super) fn kernel_us_net(&self) -> f64 {
        self.hooks.iter().map(Hook::net_us_per_request).sum()
    }

    pub(super) fn records_per_exchange(&self) -> f64 {
        self.records_per_request / SOCKETS
    }

    /// What the agent would take of a core at another rate, if each request costs it the same: an
    /// upper bound for a higher rate, because what it costs while idle is scaled as well.
    pub(super) fn agent_cpu_percent_at(&self, rate: f64) -> f64 {
        self.agent_cpu_us_per_request * rate / 1e4
    }
}

/// Runs so many windows at one rate, each first with empty programs, then with naive ones, then with the agent
/// alone: side by side the first to run would pay for the second's cold caches.
///
/// # Errors
/// The agent or the load does not run, or the kernel refuses.
pub(super) fn measure(mesh: &Mesh, windows: u32, rate: f64, seconds: f64) -> Result<Vec<Window>> {
    let schedule = Schedule::Rate {
        per_second: rate,
        seconds,
    };
    // Caches, and the agent's tables, are filled before a window.
    let warm_up = Schedule::Rate {
        per_second: rate,
        seconds: 0.5,
    };
    (1..=windows)
        .map(|_| {
            let (empty, _) = yardstick(mesh, Kind::Empty, warm_up, schedule)?;
            let (naive, requests) = yardstick(mesh, Kind::Naive, warm_up, schedule)?;
            let naive = NaiveCost::of(&naive, &empty, requests);

            let agent = mesh.agent(&["--bpf-stats"])?;
            mesh.load(warm_up)?;
            let measured = window(mesh, &agent, &empty, naive, schedule)?;
            mesh::end(agent)?;
            Ok(measured)
        })
        .collect()
}

/// What one end of the scale was accounted, and for how many requests.
fn yardstick(
    mesh: &Mesh,
    kind: Kind,
    warm_up: Schedule,
    schedule: Schedule,
) -> Result<(HookCosts, f64)> {
    let mut programs = Yardstick::attach(kind, mesh.lab.cgroup_root())?;
    programs.account()?;
    mesh.load(warm_up)?;
    let before = programs.costs()?;
    let report = mesh.load(schedule)?;
    let costs = programs.costs()?.since(&before);
    Ok((costs, (report.succeeded + report.failed) as f64))
}

fn window(
    mesh: &Mesh,
    agent: &AgentProcess,
    empty: &HookCosts,
    naive: NaiveCost,
    schedule: Schedule,
) -> Result<Window> {
    mesh::sleep(HOLD)?;
    // Scrapes are outside of the time in which the agent's own cost is taken: how often it is
    // scraped is not its choice.
    let exposition = Exposition::parse(&agent.metrics()?);
    let accounts = Accounts::read(&exposition)?;
    let (usage, started) = (ProcessUsage::of(agent.pid())?, Instant::now());
    let report = mesh.load(schedule)?;
    let spent = ProcessUsage::of(agent.pid())?.since(usage);
    let seconds = started.elapsed().as_secs_f64();
    mesh::sleep(HOLD)?;
    let after = Exposition::parse(&agent.metrics()?);
    let (rss, rss_peak) = usage::resident_mib(agent.pid())?;

    let requests = (report.succeeded + report.failed) as f64;
    let more = |name| Ok::<_, anyhow::Error>(after.sum(name)? - exposition.sum(name)?);
    let paired = |exposition: &Exposition| -> f64 {
        exposition
            .by_label("hoptrace_exchanges_total", "result")
            .filter(|(result, _)| *result == "paired")
            .map(|(_, count)| count)
            .sum()
    };
    let paired = paired(&after) - paired(&exposition);
    Ok(Window {
        requests: report.succeeded,
        requests_per_second: mesh::throughput(&report),
        hooks: Accounts::read(&after)?.since(&accounts, empty, requests)?,
        naive,
        records_per_request: more("hoptrace_records_total")? / requests,
        paired_percent: 100.0 * paired / more("hoptrace_exchanges_total")?,
        lost_records: more("hoptrace_records_lost_total")?,
        agent_cpu_percent: 100.0 * spent.cpu_seconds / seconds,
        agent_cpu_us_per_request: 1e6 * spent.cpu_seconds / requests,
        agent_wakeups_per_second: spent.switches / seconds,
        agent_rss_mib: rss,
        agent_rss_peak_mib: rss_peak,
    })
}
