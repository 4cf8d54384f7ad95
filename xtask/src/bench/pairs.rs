//! The latency phase: the same load with and without tracing, in turns. The kernel's accounting
//! of eBPF programs stays off, because it is slower than some of what it would account.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use hoptrace_lab::AgentProcess;
use hoptrace_lab::load::Schedule;
use serde::Serialize;

use super::mesh::{self, Mesh};
use super::stretch::{self, Stretch};
use super::yardstick::{Kind, Yardstick};

/// What the kernel names a program of the agent's: its first 15 bytes at most.
const OURS: &str = "hoptrace_";
/// Load before each side: connections are open and caches warm when its clock starts.
const WARM_UP_SECONDS: f64 = 0.5;

/// What stands on the hooks on the one side of each pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// The agent.
    #[default]
    Agent,
    /// Programs that do nothing: the price of the hooks themselves, which no tracer on them goes below.
    Empty,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "an agent",
            Self::Empty => "empty programs",
        })
    }
}

/// How to run them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Plan {
    pub(super) subject: Subject,
    pub(super) pairs: u32,
    /// Of each stretch of load.
    pub(super) seconds: f64,
    /// Requests a second of the fixed rate.
    pub(super) rate: f64,
}

/// Both sides of one comparison, one right after the other.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub(super) traced_first: bool,
    pub(super) without: Side,
    pub(super) with: Side,
}

/// What was measured with the subject, or with nothing attached at all.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Side {
    /// Open loop.
    pub(super) fixed: Stretch,
    /// Closed loop.
    pub(super) saturated: Stretch,
    /// Somebody on this machine had the kernel's accounting switched on: the times contain it.
    pub(super) accounted: bool,
}

/// Runs all pairs in the order ABBA: a drift of the machine, in either direction, then spoils as
/// many pairs for the one side as for the other.
///
/// # Errors
/// The agent or the load does not run.
pub(super) fn measure(mesh: &Mesh, plan: Plan) -> Result<Vec<Pair>> {
    (0..plan.pairs)
        .map(|number| {
            let traced_first = number % 2 == 1;
            let first = side(mesh, plan, traced_first)?;
            let second = side(mesh, plan, !traced_first)?;
            let (without, with) = if traced_first {
                (second, first)
            } else {
                (first, second)
            };
            let pair = Pair {
                traced_first,
                without,
                with,
            };
            tell(plan, number, &pair);
            Ok(pair)
        })
        .collect()
}

/// What is attached during one side.
enum Attached {
    Nothing,
    Agent(AgentProcess),
    Programs(Yardstick),
}

impl Attached {
    fn start(mesh: &Mesh, subject: Option<Subject>) -> Result<Self> {
        let attached = match subject {
            // An agent has settled when it is handed over.
            Some(Subject::Agent) => return Ok(Self::Agent(mesh.agent(&[])?)),
            Some(Subject::Empty) => {
                Self::Programs(Yardstick::attach(Kind::Empty, mesh.lab.cgroup_root())?)
            }
            None => Self::Nothing,
        };
        mesh::sleep(mesh::SETTLE)?;
        Ok(attached)
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Agent(agent) => Some(agent.pid()),
            Self::Nothing | Self::Programs(_) => None,
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Agent(agent) => mesh::end(agent),
            Self::Programs(programs) => {
                drop(programs);
                Ok(())
            }
            Self::Nothing => Ok(()),
        }
    }
}

fn side(mesh: &Mesh, plan: Plan, traced: bool) -> Result<Side> {
    let attached = Attached::start(mesh, traced.then_some(plan.subject))?;
    let rate = |seconds| Schedule::Rate {
        per_second: plan.rate,
        seconds,
    };
    mesh.load(rate(WARM_UP_SECONDS))?;
    let before = accounted_runs();
    let fixed = stretch::run(mesh, attached.pid(), rate(plan.seconds))?;
    let saturated = stretch::run(mesh, attached.pid(), Schedule::Seconds(plan.seconds))?;
    let accounted = accounted_runs()
        .into_iter()
        .any(|(id, runs)| before.get(&id).is_some_and(|earlier| runs > *earlier));
    attached.end()?;
    Ok(Side {
        fixed,
        saturated,
        accounted,
    })
}

/// Runs of each loaded program of an agent, by the program's id. They grow only while somebody has
/// the accounting switched on.
fn accounted_runs() -> BTreeMap<u32, u64> {
    let programs = aya::programs::loaded_programs().flatten();
    programs
        .filter(|it| it.name_as_str().is_some_and(|name| name.starts_with(OURS)))
        .map(|it| (it.id(), it.run_count()))
        .collect()
}

/// One line a pair, so that a long run shows that it lives.
fn tell(plan: Plan, number: u32, pair: &Pair) {
    let Pair { without, with, .. } = pair;
    eprintln!(
        "  pair {} of {}: p50 {:.0} and {:.0} µs, {:.0} and {:.0} requests/s, without and with",
        number + 1,
        plan.pairs,
        without.fixed.latency_p50_us,
        with.fixed.latency_p50_us,
        without.saturated.throughput,
        with.saturated.throughput
    );
    if without.accounted || with.accounted {
        eprintln!(
            "  warning: another program has bpf_stats switched on: the times of this pair contain it"
        );
    }
}
