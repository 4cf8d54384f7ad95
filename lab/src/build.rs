//! Bringing a lab up, step by step.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::envoy::READY_PORT;
use crate::lab::Lab;
use crate::process::ProcessId;
use crate::spawn::{self, Place};
use crate::state::ContainerProcess;
use crate::topology::{Container, Pod, Target};
use crate::{cgroup, containers, http, netns, redirect, teardown, wait};

/// How long a container has to become ready; Envoy takes 0.2 s on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(30);

impl Lab {
    pub(crate) fn build(&mut self) -> Result<()> {
        // Nobody else has the name, so what bears it was left over.
        teardown::objects(&self.state)?;
        self.state.owns_dir = !self.options.keep_dir && !self.files.0.exists();
        self.state.save()?;
        self.files.create(&self.options)?;
        netns::create(&self.options.name)?;
        let meshed: Vec<_> = Pod::ALL
            .into_iter()
            .filter(|pod| self.is_meshed(*pod))
            .collect();
        let mut ipv6 = netns::has_ipv6() && !meshed.is_empty();
        for pod in &meshed {
            let netns = pod.netns(&self.options.name);
            let convention = self.options.convention;
            redirect::ipv4(&netns, convention)?;
            // Where IPv6 cannot be redirected it goes past the sidecars.
            ipv6 = ipv6 && redirect::ipv6(&netns, convention).is_ok();
        }
        self.state.ipv6_meshed = ipv6;
        for container in [Container::Sidecar, Container::App] {
            for pod in Pod::ALL {
                self.start(pod, container)?;
            }
        }
        self.state.save()?;
        self.wait_until_ready()
    }

    /// Starts a container that has a program of its own.
    fn start(&mut self, pod: Pod, container: Container) -> Result<()> {
        let command = match container {
            Container::App => {
                let info = self.address(Pod::Client, Target::Info);
                containers::app(&self.files, &self.options, pod, info)?
            }
            Container::Sidecar if self.is_meshed(pod) => {
                let ipv6 = self.state.ipv6_meshed;
                let sidecar = containers::sidecar(&self.files, &self.options, pod, ipv6)?;
                Some(sidecar)
            }
            Container::Sidecar => return Ok(()),
        };
        let cgroup = self.container_cgroup(pod, container);
        cgroup::create(&cgroup)?;
        let Some(mut command) = command else {
            return Ok(());
        };
        if container == Container::App {
            self.start_database(pod, &cgroup)?;
        }
        let place = Place {
            netns: &pod.netns(&self.options.name),
            cgroup: Some(&cgroup),
            user: containers::user(container),
        };
        let child = spawn::spawn(&mut command, place)?;
        let process = ProcessId::of(child.id());
        self.children.push(child);
        self.state.processes.push(ContainerProcess {
            pod,
            container,
            process: process.with_context(|| format!("{} ended", pod.workload()))?,
        });
        Ok(())
    }

    /// Starts the database of an app that has one, in the app's container.
    fn start_database(&mut self, pod: Pod, cgroup: &Path) -> Result<()> {
        let Some(mut command) = containers::database(&self.files, &self.options, pod)? else {
            return Ok(());
        };
        let place = Place {
            netns: &pod.netns(&self.options.name),
            cgroup: Some(cgroup),
            user: 0,
        };
        self.children.push(spawn::spawn(&mut command, place)?);
        Ok(())
    }

    /// Waits for all containers at once.
    fn wait_until_ready(&self) -> Result<()> {
        thread::scope(|scope| {
            let waits: Vec<_> = self
                .state
                .processes
                .iter()
                .map(|entry| scope.spawn(|| self.wait_for(entry)))
                .collect();
            for wait in waits {
                wait.join()
                    .map_err(|_panic| anyhow!("waiting for a container panicked"))??;
            }
            Ok(())
        })
    }

    fn wait_for(&self, entry: &ContainerProcess) -> Result<()> {
        let ContainerProcess { pod, container, .. } = *entry;
        let what = format!("{} of {}", container.name(), pod.workload());
        let log = self.files.log(pod, container);
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let ready = |limit| match (container, pod.port()) {
            (Container::Sidecar, _) => http::get(local(READY_PORT), "/healthz/ready", limit)
                .is_ok_and(|answer| answer.code == 200),
            (Container::App, Some(port)) => TcpStream::connect_timeout(&local(port), limit).is_ok(),
            (Container::App, None) => true,
        };
        netns::within(&pod.netns(&self.options.name), || {
            wait::until(&format!("{what} becomes ready"), READY_LIMIT, || {
                if !entry.process.is_alive() {
                    bail!("{what} ended at its start:{}", spawn::last_words(&log));
                }
                Ok(ready(Duration::from_secs(1)).then_some(()))
            })
        })
    }
}
