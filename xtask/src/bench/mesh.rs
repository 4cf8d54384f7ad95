//! The lab under the benchmark: mutual TLS, both ends meshed, so that a request passes all six
//! sockets of one node.

use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hoptrace_lab::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_lab::{AgentProcess, Lab, LabOptions, Mode, Pod, Target, envoy, free_port, signals};

use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

/// Sockets that a request passes in this lab.
pub(super) const SOCKETS: f64 = 6.0;
/// Connections of the load; each has one request in flight at a time.
pub(super) const CONNECTIONS: usize = 16;
/// An answer from memory: the less a request costs by itself, the more the tracer shows.
const PATH: &str = "healthz";
/// Of a hundred requests, how many may fail before the run says nothing.
const MOST_FAILED_PERCENT: u64 = 1;
/// What an agent, and those it watches, get to come to rest.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
/// Looks for signals while it sleeps.
const STEP: Duration = Duration::from_millis(20);

/// Makes the machine ready and builds what is shipped, the lab's programs as well.
///
/// # Errors
/// Something cannot be installed or built.
pub(crate) fn build() -> Result<()> {
    setup::ensure()?;
    ebpf::build()?;
    let mut command = host_cargo("build");
    command.args(["--release", "--package", "tracer-user", "--bin", "hoptrace"]);
    run::shown("agent, optimised", &mut command)?;
    let mut command = host_cargo("build");
    command.args(["--release", "--package", "hoptrace-lab", "--bins"]);
    run::shown("lab, optimised", &mut command)
}

/// A running lab and the agent that may watch it.
pub(super) struct Mesh {
    pub(super) lab: Lab,
    agent: PathBuf,
    /// What every agent is told.
    agent_args: Vec<String>,
}

impl Mesh {
    /// Starts the lab; every agent gets the arguments.
    ///
    /// # Errors
    /// The lab does not come up.
    pub(super) fn up(agent_args: impl IntoIterator<Item = String>) -> Result<Self> {
        // A benchmark that was killed left its lab behind, which would go on taking the machine.
        for name in hoptrace_lab::clean_stale()? {
            eprintln!("  lab `{name}`, whose creator is gone, is taken down");
        }
        let release = paths::cargo_target().join("release");
        let name = format!("bench-{}", process::id());
        let mut options = LabOptions::new(name, envoy::find()?, &release);
        options.mode = Mode::Mtls;
        options.load_meshed = true;
        // Meshes are run without them, and they would hide some of the tracer's share.
        options.access_log = false;
        let lab = Lab::up(&options)?;
        eprintln!(
            "✓ lab with mutual TLS ({:.1} s)",
            lab.startup_time().as_secs_f64()
        );
        Ok(Self {
            lab,
            agent: release.join("hoptrace"),
            agent_args: agent_args.into_iter().collect(),
        })
    }

    /// Starts an agent and lets it settle.
    ///
    /// # Errors
    /// It does not become ready.
    pub(super) fn agent(&self, args: &[&str]) -> Result<AgentProcess> {
        let mut options = self.lab.agent_options(&self.agent, free_port()?);
        let args = args.iter().map(|&arg| arg.to_owned());
        options.args = args.chain(self.agent_args.iter().cloned()).collect();
        let agent = AgentProcess::start(&options)?;
        sleep(SETTLE)?;
        Ok(agent)
    }

    /// # Errors
    /// The load does not run, or too many of its requests fail.
    pub(super) fn load(&self, schedule: Schedule) -> Result<LoadReport> {
        let spec = LoadSpec {
            url: self.lab.url(Pod::Load, Target::Info) + PATH,
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            connections: CONNECTIONS,
            schedule,
            request_ids: false,
        };
        let report = self.lab.load(Pod::Load, &spec)?;
        let all = report.succeeded + report.failed;
        if report.succeeded == 0 || report.failed * 100 > all * MOST_FAILED_PERCENT {
            bail!(
                "{} of {all} requests failed, so the run says nothing: {}",
                report.failed,
                report.failures.join("; ")
            );
        }
        Ok(report)
    }

    /// Requests a second that the mesh answers when it is always asked: in the slowest of a few
    /// stretches, so that a share of it is borne all the time.
    ///
    /// # Errors
    /// As of [`Mesh::load`].
    pub(super) fn saturation(&self) -> Result<f64> {
        // The first requests open every connection of every sidecar.
        self.load(Schedule::Seconds(0.5))?;
        (0..3).try_fold(f64::INFINITY, |slowest, _| {
            let report = self.load(Schedule::Seconds(0.7))?;
            Ok(slowest.min(throughput(&report)))
        })
    }
}

/// Requests a second.
pub(super) fn throughput(report: &LoadReport) -> f64 {
    report.succeeded as f64 / report.elapsed_seconds
}

/// Ends an agent in good order.
///
/// # Errors
/// It had to be killed, or failed.
pub(crate) fn end(agent: AgentProcess) -> Result<()> {
    let log = agent.log().to_path_buf();
    let status = agent.terminate()?;
    if !status.success() {
        bail!("the agent ended badly ({status}): see {}", log.display());
    }
    Ok(())
}

/// # Errors
/// A signal came.
pub(crate) fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        signals::check().context("the benchmark is not finished")?;
        thread::sleep(STEP.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
