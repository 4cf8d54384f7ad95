//! One mesh under the article's load, with the agent beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use hoptrace_exposition::Hop;
use hoptrace_lab::{AccessDirection, AgentProcess, Lab, LabOptions, Mode, Pod, Prometheus};

use super::measure::{self, Moments};
use super::model::{Experiment, SidecarLog};
use super::progress::step;
use super::promql::{self, Agent};
use super::ready::Programs;
use super::traffic::{self, GET, POST, Volume};
use crate::usage::ProcessUsage;

/// The first scrape, and the last lines of the access logs.
const LIMIT: Duration = Duration::from_secs(15);

/// A lab with an agent. The agent ends first: fields are dropped in order.
#[derive(Debug)]
pub(super) struct Traced {
    agent: AgentProcess,
    pub(super) lab: Lab,
}

impl Traced {
    /// Brings a lab up, warms it up, then starts the agent: connections between the services are
    /// older than it, and what it counts is the experiment and nothing else.
    pub(super) fn up(programs: &Programs, mode: Mode, port: u16, volume: Volume) -> Result<Self> {
        let what = match mode {
            Mode::None => "lab without sidecars, warmed up, and agent".to_owned(),
            Mode::Plain | Mode::Mtls => format!("lab with sidecars ({mode}), warmed up, and agent"),
        };
        step(&what, || {
            let name = format!("demo-{mode}-{}", std::process::id());
            let mut options = LabOptions::new(name, &programs.envoy, &programs.lab);
            options.mode = mode;
            let lab = Lab::up(&options)?;
            traffic::warm_up(&lab, volume)?;
            lab.clear_access_logs()?;
            let mut options = lab.agent_options(&programs.agent, port);
            options.args.push("--bpf-stats".to_owned());
            let agent = AgentProcess::start(&options)?;
            Ok(Self { agent, lab })
        })
    }

    /// Drives the load, and asks everybody who saw it.
    pub(super) fn measure(&self, prometheus: &Prometheus, volume: Volume) -> Result<Experiment> {
        let agent = Agent(self.agent.address().to_string());
        let pair = |source: Pod, destination: Pod| promql::Pair {
            agent: agent.clone(),
            source: source.workload(),
            destination: destination.workload(),
        };
        let (outer, inner) = (pair(Pod::Load, Pod::Client), pair(Pod::Client, Pod::Info));
        // A Prometheus that has just started takes five seconds to take up its targets.
        let scraped = || prometheus.wait_for(&agent.scraped(), LIMIT);
        step("the agent's first scrape", scraped)?;
        let start = measure::now(prometheus)?;
        // Asked of the kernel: what Prometheus has of it may be a second old, and this over within one.
        let cpu_before = ProcessUsage::of(self.agent.pid())?;
        let run = |call: traffic::Call, so_far: u64| {
            let Volume { calls, runs, .. } = volume;
            let method = call.method;
            let what = format!("{method}: {runs} runs of {calls} calls, scraped and counted");
            step(&what, || {
                let done = traffic::runs(&self.lab, call, volume)?;
                let at = measure::settle(prometheus, [&outer, &inner], so_far + volume.of_each())?;
                Ok((done, at))
            })
        };
        let ((mut load, get_seconds), between) = run(GET, 0)?;
        let ((posts, post_seconds), end) = run(POST, volume.of_each())?;
        let used = ProcessUsage::of(self.agent.pid())?.since(cpu_before);
        let load_seconds = get_seconds + post_seconds;
        load.extend(posts);
        let at = Moments {
            start,
            between,
            end,
        };
        let told = measure::Told::ask(prometheus, &agent, at)?;
        Ok(Experiment {
            mode: self.lab.state().mode.to_string(),
            outer: told.pair(&outer)?,
            inner: told.pair(&inner)?,
            coverage: told.coverage,
            pending: measure::pending(prometheus, &agent)?,
            cost: measure::cost(prometheus, &agent, at, used.cpu_seconds, load_seconds)?,
            envoy: self.access_logs(2 * volume.of_each())?,
            load,
        })
    }

    /// The sums of what Envoy wrote of the same calls: one line a call and sidecar passed.
    fn access_logs(&self, calls: u64) -> Result<Vec<SidecarLog>> {
        if self.lab.state().mode == Mode::None {
            return Ok(Vec::new());
        }
        let mut logs = Vec::new();
        for (pod, passes) in [(Pod::Client, 2), (Pod::Info, 1)] {
            let lines = usize::try_from(passes * calls).context("so many calls")?;
            let mut legs: BTreeMap<Hop, Vec<u64>> = BTreeMap::new();
            for entry in self.lab.wait_access_log(pod, lines, LIMIT)? {
                let hop = match entry.direction {
                    AccessDirection::In => Hop::SidecarInbound,
                    AccessDirection::Out => Hop::SidecarOutbound,
                };
                let both = entry.req_leg_us.zip(entry.resp_leg_us);
                legs.entry(hop)
                    .or_default()
                    .extend(both.map(|(out, back)| out + back));
            }
            logs.extend(legs.into_iter().map(|(hop, legs)| SidecarLog {
                pod: pod.workload(),
                hop,
                requests: legs.len() as u64,
                mean_us: legs.iter().sum::<u64>() as f64 / legs.len() as f64,
            }));
        }
        Ok(logs)
    }

    /// Where the agent answers.
    pub(super) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.agent.address())
    }

    /// Takes both down, and says when one of them did not end as it should.
    pub(super) fn down(self) -> Result<()> {
        let log = self.agent.log().to_path_buf();
        let status = self.agent.terminate()?;
        anyhow::ensure!(
            status.success(),
            "the agent did not end well ({status}); its log: {}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        self.lab.down()
    }
}
