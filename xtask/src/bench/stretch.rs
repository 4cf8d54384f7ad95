//! One stretch of load, and the processor time it took everywhere.

use std::time::Instant;

use anyhow::Result;
use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Container, Pod};
use serde::Serialize;

use super::mesh::{self, Mesh};
use crate::usage::{self, ProcessUsage};

/// Times are in microseconds, processor times those of one request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stretch {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Requests a second.
    pub(super) throughput: f64,
    /// From the planned moment.
    pub(super) latency_p50_us: f64,
    pub(super) latency_p99_us: f64,
    /// From the moment a connection took the request up.
    pub(super) service_p50_us: f64,
    pub(super) service_p99_us: f64,
    /// Every container of the lab: sidecars, app, load generator, and our hooks in them.
    pub(super) lab_cpu_us: f64,
    /// Both sidecars.
    pub(super) sidecars_cpu_us: f64,
    pub(super) app_cpu_us: f64,
    /// The agent's own process; 0 without one.
    pub(super) agent_cpu_us: f64,
    /// All that kept the machine from being idle, whoever it was.
    pub(super) machine_cpu_us: f64,
    /// What neither lab nor agent did, in percent of one core: others, and the kernel's threads.
    pub(super) elsewhere_percent: f64,
}

impl Stretch {
    /// Lab and agent.
    pub(super) fn cpu_us(&self) -> f64 {
        self.lab_cpu_us + self.agent_cpu_us
    }
}

/// Runs the load; `agent` is the process that watches, if there is one.
///
/// # Errors
/// The load does not run, or the agent has ended.
pub(super) fn run(mesh: &Mesh, agent: Option<u32>, schedule: Schedule) -> Result<Stretch> {
    let started = Instant::now();
    let before = Times::read(mesh, agent)?;
    let report = mesh.load(schedule)?;
    let spent = Times::read(mesh, agent)?.since(before);
    let seconds = started.elapsed().as_secs_f64();
    let requests = (report.succeeded + report.failed) as f64;
    let us = |nanos: u64| nanos as f64 / 1e3;
    let each = |seconds: f64| 1e6 * seconds / requests;
    Ok(Stretch {
        requests: report.succeeded,
        failed: report.failed,
        throughput: mesh::throughput(&report),
        latency_p50_us: us(report.latency.p50_ns),
        latency_p99_us: us(report.latency.p99_ns),
        service_p50_us: us(report.service.p50_ns),
        service_p99_us: us(report.service.p99_ns),
        lab_cpu_us: each(spent.lab),
        sidecars_cpu_us: each(spent.sidecars),
        app_cpu_us: each(spent.app),
        agent_cpu_us: each(spent.agent),
        machine_cpu_us: each(spent.machine),
        elsewhere_percent: 100.0 * (spent.machine - spent.lab - spent.agent) / seconds,
    })
}

/// Processor times, seconds.
#[derive(Clone, Copy)]
struct Times {
    lab: f64,
    sidecars: f64,
    app: f64,
    agent: f64,
    machine: f64,
}

impl Times {
    fn read(mesh: &Mesh, agent: Option<u32>) -> Result<Self> {
        let container =
            |pod, container| usage::cgroup_cpu(&mesh.lab.container_cgroup(pod, container));
        Ok(Self {
            lab: usage::cgroup_cpu(mesh.lab.cgroup_root())?,
            sidecars: container(Pod::Load, Container::Sidecar)?
                + container(Pod::Info, Container::Sidecar)?,
            app: container(Pod::Info, Container::App)?,
            agent: agent
                .map(ProcessUsage::of)
                .transpose()?
                .map_or(0.0, |usage| usage.cpu_seconds),
            machine: usage::machine_cpu()?,
        })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            lab: self.lab - earlier.lab,
            sidecars: self.sidecars - earlier.sidecars,
            app: self.app - earlier.app,
            agent: self.agent - earlier.agent,
            machine: self.machine - earlier.machine,
        }
    }
}
