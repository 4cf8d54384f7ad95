//! What every check stands on: the cluster, the demo with its sidecars, Prometheus, the history of
//! pods; and how the agent is installed and asked.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hoptrace_cluster::{Cluster, Component, Helm, Kubectl, NODE_NETNS};
use hoptrace_lab::{ProcessId, host, http, netns, wait};

use super::history::{History, Pod};
use super::progress::Progress;
use super::prometheus::Prometheus;
use crate::image::{self, Name};
use crate::{cluster, paths};
use hoptrace_exposition::Exposition;

/// Where the demo is.
pub(super) const DEMO: &str = "capitol";
/// Where the agent is.
pub(super) const AGENT: &str = "hoptrace";
/// The name of the release, the DaemonSet and, in its namespace, the workload.
pub(super) const RELEASE: &str = "hoptrace";
/// Where the agent answers.
const AGENT_PORT: u16 = 9465;
/// So few, 13 for pods, that they are soon given again, and to others.
const PODS: &str = "10.88.0.0/28";
/// The chart's own cgroupRoot.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long pods have to become ready on a busy machine.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(120);
const HELM_LIMIT: Duration = Duration::from_secs(90);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The agent holds exchanges back for 0.4 s, a slow request for as long as it takes.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// Everything but the agent.
pub(super) struct Bed {
    pub(super) kubectl: Kubectl,
    pub(super) helm: Helm,
    pub(super) prometheus: Prometheus,
    pub(super) history: History,
    // Last: the others ask it until they end.
    pub(super) cluster: Cluster,
}

impl Bed {
    /// Builds what is missing, and brings it all up.
    ///
    /// # Errors
    /// Any step of it fails; what was started is ended.
    pub(super) fn up(logs: &Path, progress: &Progress) -> Result<Self> {
        let output = image::default_output();
        let target = image::Target::host(&output)?;
        let names = [
            Name::Hoptrace,
            Name::CapitolInfo,
            Name::Load,
            Name::Nginx,
            Name::Envoy,
            Name::Tools,
        ];
        let mut options = cluster::options(
            hoptrace_cluster::Options::default_dir(),
            logs.join("cluster"),
        )?;
        PODS.clone_into(&mut options.pods);
        image::make(&names, &target)?;
        progress.step("programs and images are built");
        let cluster = Cluster::up(&options, &|what| progress.step(what))?;
        for name in names {
            cluster.import(&target.archive(name))?;
        }
        progress.step("images are imported");
        let kubectl = cluster.kubectl();
        let history = History::follow(kubectl.clone(), &logs.join("pods.jsonl"))?;
        let prometheus = Prometheus::start(&cluster)?;
        let bed = Self {
            helm: cluster.helm(),
            kubectl,
            prometheus,
            history,
            cluster,
        };
        bed.deploy_demo()?;
        progress.step("the demo is ready, with sidecars and mutual TLS");
        Ok(bed)
    }

    fn deploy_demo(&self) -> Result<()> {
        self.kubectl.run(&["create", "namespace", AGENT])?;
        self.kubectl.run(&["create", "namespace", DEMO])?;
        let script = deploy("demo/envoy/certs.sh");
        let output = Command::new("sh")
            .arg(&script)
            .output()
            .context("cannot start sh")?;
        if !output.status.success() {
            bail!(
                "{} fails: {}",
                script.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let secrets = String::from_utf8_lossy(&output.stdout);
        self.kubectl.feed(&["apply", "--filename=-"], &secrets)?;
        let demo = deploy("demo/envoy").display().to_string();
        self.kubectl.run(&["apply", "--kustomize", &demo])?;
        self.wait_demo()
    }

    /// Waits until both services are as they should be.
    ///
    /// # Errors
    /// They are not in time.
    pub(super) fn wait_demo(&self) -> Result<()> {
        for workload in ["capitol-info", "capitol-client"] {
            self.rolled_out(DEMO, &format!("deployment/{workload}"))?;
        }
        Ok(())
    }

    /// Waits until a rollout is done.
    ///
    /// # Errors
    /// It is not in time.
    pub(super) fn rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let arguments = ["--namespace", namespace, "rollout", "status", what];
        self.kubectl.run_for(&arguments, READY_LIMIT).map(drop)
    }

    /// Starts rollouts, all at once, and waits until they are done.
    ///
    /// # Errors
    /// They are not in time.
    pub(super) fn restart(&self, namespace: &str, what: &[&str]) -> Result<()> {
        let command = ["--namespace", namespace, "rollout", "restart"];
        self.kubectl.run(&[&command, what].concat())?;
        what.iter()
            .try_for_each(|one| self.rolled_out(namespace, one))
    }

    /// The value with which only the demo's pods are traced, and the agent. Whoever else speaks to
    /// them is then known by address alone, as those on other nodes are.
    ///
    /// # Errors
    /// The hierarchy of cgroups is not where the chart expects it.
    pub(super) fn only_demo(&self) -> Result<String> {
        let hierarchy = host::cgroup2()?;
        let cgroups = self.cluster.cgroups()?;
        let ours = cgroups.iter().find(|dir| dir.starts_with(&hierarchy));
        let inside = ours
            .and_then(|dir| dir.strip_prefix(CGROUPS).ok())
            .with_context(|| format!("cgroup v2 is mounted outside of {CGROUPS}"))?;
        // Their containers request something, and those of callers do not.
        let class = Path::new("/host/cgroup")
            .join(inside)
            .join("kubepods/burstable");
        Ok(format!("extraArgs[0]=--cgroup-root={}", class.display()))
    }

    /// `helm install`, not waiting for anything.
    ///
    /// # Errors
    /// Helm or the API refuses it.
    pub(super) fn install(&self, values: &[&str]) -> Result<()> {
        let chart = deploy("helm/hoptrace").display().to_string();
        let mut arguments = vec!["install", RELEASE, &chart, "--namespace", AGENT];
        for value in values {
            arguments.extend(["--set", value]);
        }
        self.helm.run(&arguments, HELM_LIMIT).map(drop)
    }

    /// Whether the chart is installed.
    ///
    /// # Errors
    /// Helm fails.
    pub(super) fn is_installed(&self) -> Result<bool> {
        let arguments = ["list", "--short", "--namespace", AGENT];
        let names = self.helm.run(&arguments, HELM_LIMIT)?;
        Ok(names.lines().any(|name| name == RELEASE))
    }

    /// `helm uninstall`, and waits until the pods are gone.
    ///
    /// # Errors
    /// Something stays.
    pub(super) fn uninstall(&self) -> Result<()> {
        if self.is_installed()? {
            let arguments = ["uninstall", RELEASE, "--namespace", AGENT];
            self.helm.run(&arguments, HELM_LIMIT)?;
        }
        self.kubectl.until(
            "the agent's pods are gone",
            READY_LIMIT,
            &["--namespace", AGENT, "get", "pods"],
            |pods| {
                let items = pods.get("items")?.as_array()?;
                items.is_empty().then_some(())
            },
        )
    }

    /// Installed with the chart's own values, and ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub(super) fn ensure_agent(&self) -> Result<Agent> {
        if !self.is_installed()? {
            self.install(&[])?;
        }
        self.rolled_out(AGENT, "daemonset/hoptrace")?;
        self.agent()
    }

    /// The agent's pod, once it is alone and ready.
    ///
    /// # Errors
    /// It is not in time.
    pub(super) fn agent(&self) -> Result<Agent> {
        wait::until("one agent is ready", READY_LIMIT, || {
            let pods = self.history.pods(AGENT, RELEASE);
            std::thread::sleep(Duration::from_millis(50));
            match pods.as_slice() {
                [pod] if pod.ready => Ok(Agent::of(pod)),
                _ => Ok(None),
            }
        })
    }

    /// The process in the agent's container.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn process(&self, agent: &Agent) -> Result<ProcessId> {
        let pod = format!("kubepods/burstable/pod{}", agent.uid);
        for root in self.cluster.cgroups()? {
            for group in fs::read_dir(root.join(&pod))
                .into_iter()
                .flatten()
                .flatten()
            {
                let processes = fs::read_to_string(group.path().join("cgroup.procs"));
                for line in processes.unwrap_or_default().lines() {
                    let name = fs::read_to_string(Path::new("/proc").join(line).join("comm"));
                    if name.is_ok_and(|name| name.trim() == "hoptrace")
                        && let Some(process) = line.parse().ok().and_then(ProcessId::of)
                    {
                        return Ok(process);
                    }
                }
            }
        }
        bail!("no process of {} is found", agent.pod)
    }

    /// What the pods of the agent said.
    ///
    /// # Errors
    /// The API does not tell.
    pub(super) fn agent_log(&self, pod: &str) -> Result<String> {
        self.kubectl.run(&["--namespace", AGENT, "logs", pod])
    }

    /// What a container of a pod of the demo wrote.
    ///
    /// # Errors
    /// The API does not tell.
    pub(super) fn demo_log(&self, what: &str, container: &str) -> Result<String> {
        self.kubectl
            .run(&["--namespace", DEMO, "logs", what, "--container", container])
    }

    /// After a check that failed: what it stopped is started, and its agent is not the next one's.
    pub(super) fn mend(&self) {
        for component in [Component::Apiserver, Component::Containerd] {
            // An error is that it runs.
            let _runs = self.cluster.start(component);
        }
        let mended = self.cluster.wait_runtime();
        let mended = mended.and_then(|()| self.cluster.wait_api());
        if let Err(error) = mended.and_then(|()| self.uninstall()) {
            eprintln!("warning: {error:#}");
        }
    }

    /// Saves what tells why a check failed.
    pub(super) fn save(&self, logs: &Path) {
        let files = [
            (
                "objects.yaml",
                &["get", "all,events", "--all-namespaces", "--output=yaml"][..],
            ),
            (
                "pods.txt",
                &["get", "pods", "--all-namespaces", "--output=wide"],
            ),
        ];
        for (name, arguments) in files {
            let text = self
                .kubectl
                .run(arguments)
                .unwrap_or_else(|error| format!("{error:#}\n"));
            warn(fs::write(logs.join(name), text), name);
        }
        let from = self.cluster.state().dir.join("var-log/pods");
        let copied = Command::new("cp")
            .arg("--recursive")
            .arg(&from)
            .arg(logs)
            .status();
        warn(copied, "logs of pods");
    }
}

fn warn<T>(done: std::io::Result<T>, what: &str) {
    if let Err(error) = done {
        eprintln!("warning: {what} cannot be saved: {error}");
    }
}

/// A file of the workspace's deploy/.
pub(super) fn deploy(name: &str) -> PathBuf {
    paths::root().join("deploy").join(name)
}

/// One pod of the agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) pod: String,
    /// The pod's.
    pub(super) uid: String,
    address: SocketAddr,
}

impl Agent {
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            address: SocketAddr::new(pod.address?, AGENT_PORT),
        })
    }

    /// What it answers under a path.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn get(&self, path: &str) -> Result<http::Answer> {
        self.get_within(path, ANSWER_LIMIT)
    }

    fn get_within(&self, path: &str, limit: Duration) -> Result<http::Answer> {
        netns::within(NODE_NETNS, || http::get(self.address, path, limit))
    }

    /// What it answers to who shows something in a header.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<http::Answer> {
        let request = http::Request {
            path,
            headers,
            ..http::Request::to(self.address)
        };
        netns::within(NODE_NETNS, || request.send(ANSWER_LIMIT))
    }

    /// Its metrics.
    ///
    /// # Errors
    /// It does not answer 200.
    pub(super) fn metrics(&self) -> Result<Exposition> {
        self.metrics_within(ANSWER_LIMIT)
    }

    /// Its metrics, for who will not wait long: a pod that ends does not even refuse.
    ///
    /// # Errors
    /// It does not answer 200 in time.
    pub(super) fn metrics_within(&self, limit: Duration) -> Result<Exposition> {
        let answer = self.get_within("/metrics", limit)?;
        if answer.code != 200 {
            bail!("/metrics of {} answers {}", self.pod, answer.code);
        }
        Ok(Exposition::parse(&answer.body))
    }

    /// Its metrics once nothing has changed for a second: all that was sent has been told.
    ///
    /// # Errors
    /// It does not come to rest.
    pub(super) fn settled(&self) -> Result<Exposition> {
        let requests = |metrics: &Exposition| {
            metrics.sum_where(
                "hoptrace_request_duration_seconds_count",
                &[("destination_workload_namespace", DEMO)],
            )
        };
        let mut last = (Instant::now(), -1.0);
        wait::until("the agent has told all requests", SETTLE_LIMIT, || {
            let metrics = self.metrics()?;
            let now = requests(&metrics);
            if now != last.1 {
                last = (Instant::now(), now);
            }
            std::thread::sleep(Duration::from_millis(200));
            Ok((last.0.elapsed() > Duration::from_millis(1_200)).then_some(metrics))
        })
    }
}
