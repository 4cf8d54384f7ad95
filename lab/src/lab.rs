//! One lab: brought up as a whole, taken down when it is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::containers::Files;
use crate::options::LabOptions;
use crate::process::ProcessId;
use crate::state::LabState;
use crate::topology::{self, Container, Pod, Target, node_netns};
use crate::{cgroup, cpu, host, registry, teardown};

/// A running lab. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    pub(crate) state: LabState,
    pub(crate) options: LabOptions,
    pub(crate) files: Files,
    identity: PathBuf,
    pub(crate) children: Vec<Child>,
    took: Duration,
}

impl Lab {
    /// Brings a lab up, and waits until it answers.
    ///
    /// # Errors
    /// Something is missing on this machine, the name is taken, or a container does not start;
    /// whatever was made by then is removed.
    pub fn up(options: &LabOptions) -> Result<Self> {
        let started = Instant::now();
        options.check()?;
        let files = Files(std::path::absolute(&options.dir).context("work directory")?);
        let state = LabState {
            name: options.name.clone(),
            mode: options.mode,
            load_meshed: options.load_meshed,
            ipv6_meshed: false,
            creator: ProcessId::me(),
            kept: false,
            dir: files.0.clone(),
            owns_dir: false,
            cgroup_root: host::cgroup2()?.join(topology::cgroup_name(&options.name)),
            cpu_cgroups: cpu::cgroup1_paths(&options.name)?,
            processes: Vec::new(),
        };
        registry::claim(&state)?;
        // From here on its destructor cleans up.
        let mut lab = Self {
            identity: files.identity(),
            state,
            options: options.clone(),
            files,
            children: Vec::new(),
            took: Duration::ZERO,
        };
        lab.build()
            .with_context(|| format!("lab `{}` does not come up", options.name))?;
        lab.took = started.elapsed();
        Ok(lab)
    }

    /// Leaves it running when this process ends; `down_by_name` ends it.
    ///
    /// # Errors
    /// That cannot be recorded; then it is taken down.
    pub fn keep(mut self) -> Result<()> {
        self.state.kept = true;
        if let Err(error) = self.state.save() {
            self.state.kept = false;
            return Err(error);
        }
        Ok(())
    }

    /// Takes it down now, and says what went wrong where dropping it only prints that.
    ///
    /// # Errors
    /// Something stays.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        let done = teardown::all(&self.state);
        for child in &mut self.children {
            // They have ended: this only takes the zombies away.
            let _status = child.try_wait();
        }
        self.children.clear();
        done
    }

    pub(crate) fn is_meshed(&self, pod: Pod) -> bool {
        self.options.is_meshed(pod)
    }

    /// How long it took to come up.
    #[must_use]
    pub fn startup_time(&self) -> Duration {
        self.took
    }

    /// What it is made of.
    #[must_use]
    pub fn state(&self) -> &LabState {
        &self.state
    }

    /// The network namespace of its node, which has the bridge and the host's ends of the veths.
    #[must_use]
    pub fn node_netns(&self) -> String {
        node_netns(&self.state.name)
    }

    /// The cgroup v2 directory all its containers are below.
    #[must_use]
    pub fn cgroup_root(&self) -> &Path {
        &self.state.cgroup_root
    }

    /// The cgroup v2 directory of one container.
    #[must_use]
    pub fn container_cgroup(&self, pod: Pod, container: Container) -> PathBuf {
        self.state
            .cgroup_root
            .join(pod.cgroup(&self.state.name, container))
    }

    /// The file for `hoptrace agent --identity static:FILE`.
    #[must_use]
    pub fn identity_file(&self) -> &Path {
        &self.identity
    }

    /// Where a pod sends requests for a target to, with a slash at the end: a virtual address
    /// when the pod is meshed, else the address of the serving pod.
    #[must_use]
    pub fn url(&self, from: Pod, target: Target) -> String {
        self.state.url(from, target)
    }

    pub(crate) fn address(&self, from: Pod, target: Target) -> SocketAddr {
        self.state.address(from, target)
    }

    /// The first process of a container: NGINX's master, for one.
    ///
    /// # Errors
    /// Nothing runs there: the pod has no sidecar, or load is not running.
    pub fn pid(&self, pod: Pod, container: Container) -> Result<u32> {
        let pids = cgroup::pids(&self.container_cgroup(pod, container));
        let recorded = self.state.processes.iter().find(|entry| {
            entry.pod == pod && entry.container == container && entry.process.is_alive()
        });
        let first = recorded.map(|entry| entry.process.pid);
        first
            .or_else(|| pids.first().copied())
            .with_context(|| format!("nothing runs in {} of {}", container.name(), pod.workload()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.state.kept {
            return;
        }
        if let Err(error) = self.take_down() {
            eprintln!("warning: {error:#}");
        }
    }
}
