//! One cluster: brought up as a whole, taken down when it is dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hoptrace_lab::{ProcessId, host, spawn, wait};
use rustix::process::Signal;

use crate::components::Component;
use crate::helm::Helm;
use crate::kubectl::Kubectl;
use crate::layout::{CGROUP, Layout, NODE_NAME};
use crate::state::{self, ClusterState};
use crate::tools::Tools;
use crate::{config, cri, node, permitted, pki, teardown};

/// How long each step may take on a busy machine.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long a program has to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its programs.
    pub tools: Tools,
    /// The archive of the image that holds pods' namespaces, and its name.
    pub pause: (PathBuf, String),
    /// Addresses of its pods, a part of [`PODS`](crate::PODS): with few of them they are soon given again.
    pub pods: String,
    /// Where it works; made and removed with it. On a disk: images are unpacked here.
    pub dir: PathBuf,
    /// Where logs go; they stay.
    pub logs: PathBuf,
}

impl Options {
    /// Where clusters work when nobody says where.
    #[must_use]
    pub fn default_dir() -> PathBuf {
        PathBuf::from("/var/tmp/hoptrace-cluster")
    }
}

/// A running cluster. Dropping it takes it down.
#[derive(Debug)]
pub struct Cluster {
    state: Mutex<ClusterState>,
    options: Options,
    layout: Layout,
    holder: Option<Child>,
    children: Mutex<BTreeMap<Component, Child>>,
    down: bool,
}

impl Cluster {
    /// Brings it up; `progress` hears of each step that is done.
    ///
    /// # Errors
    /// There is one already, or a step fails: then everything is taken down again, but for the
    /// logs.
    pub fn up(options: &Options, progress: &dyn Fn(&str)) -> Result<Self> {
        host::need_root()?;
        let _lock = state::lock()?;
        if let Some(old) = state::status()? {
            if !old.is_stale() {
                bail!(
                    "there is a cluster already, made by process {}: `cargo xtask cluster down` \
                     ends it",
                    old.creator.pid
                );
            }
            teardown::all(&old)?;
            progress("what a killed run left is removed");
        }
        let state = ClusterState {
            creator: ProcessId::me(),
            kept: false,
            dir: absolute(&options.dir)?,
            logs: absolute(&options.logs)?,
            holder: None,
            processes: Vec::new(),
        };
        if state.dir.exists() {
            bail!(
                "{} is there already, and is no cluster's that is known of: remove it, or name \
                 another directory",
                state.dir.display()
            );
        }
        state.save()?;
        // From here on its destructor cleans up.
        let mut cluster = Self {
            layout: state.layout(),
            state: Mutex::new(state),
            options: options.clone(),
            holder: None,
            children: Mutex::default(),
            down: false,
        };
        cluster
            .build(progress)
            .with_context(|| format!("logs are in {}", options.logs.display()))
            .context("the cluster does not come up")?;
        Ok(cluster)
    }

    fn build(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        // Nobody else has a cluster, so what bears its names was left over.
        teardown::objects()?;
        let layout = self.layout.clone();
        fs::create_dir_all(&layout.logs)
            .with_context(|| format!("cannot make {}", layout.logs.display()))?;
        node::create(&layout)?;
        pki::create(&layout.file("pki"))?;
        let snapshotter = if permitted::has_overlay(&layout)? {
            "overlayfs"
        } else {
            progress("file systems cannot be layered here: images are copied");
            "native"
        };
        let (pause, pods) = (&self.options.pause.1, &self.options.pods);
        config::write(&layout, pause, snapshotter, pods)?;
        let holder = node::hold(&layout, &self.options.tools)?;
        {
            let mut state = lock(&self.state);
            state.holder = ProcessId::of(holder.id());
            state.save()?;
        }
        self.holder = Some(holder);
        for component in [Component::Etcd, Component::Containerd, Component::Apiserver] {
            self.start(component)?;
        }
        self.wait_runtime()?;
        progress("containerd answers");
        let archive = self.options.pause.0.clone();
        self.import(&archive)?;
        self.wait_api()?;
        progress("the API answers");
        for component in [
            Component::ControllerManager,
            Component::Scheduler,
            Component::Kubelet,
            Component::Proxy,
        ] {
            self.start(component)?;
        }
        let kubectl = self.kubectl();
        kubectl.until(
            "service accounts are given out",
            STEP_LIMIT,
            &["get", "serviceaccount", "default"],
            |account| account.pointer("/secrets/0").map(|_| ()),
        )?;
        self.wait_node(STEP_LIMIT)?;
        progress("the node is ready");
        Ok(())
    }

    /// Starts a component, or starts it again.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&self, component: Component) -> Result<()> {
        let mut children = lock(&self.children);
        if let Some(child) = children.get_mut(&component)
            && child.try_wait()?.is_none()
        {
            bail!("{} runs already", component.name());
        }
        let log = self.layout.log(component.name());
        let child = node::start(
            self.holder()?,
            &component.program(),
            &component.arguments(),
            &log,
        )?;
        let mut state = lock(&self.state);
        state.processes.retain(|(other, _)| *other != component);
        if let Some(process) = ProcessId::of(child.id()) {
            state.processes.push((component, process));
        }
        children.insert(component, child);
        state.save()
    }

    /// Ends a component; pods go on.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self, component: Component) -> Result<()> {
        let Some(mut child) = lock(&self.children).remove(&component) else {
            return Ok(());
        };
        let process = ProcessId::of(child.id());
        if let Some(process) = process {
            process.signal(Signal::TERM);
        }
        let ended = wait::regardless(STOP_LIMIT, || !matches!(child.try_wait(), Ok(None)));
        if !ended {
            let _ended = child.kill();
            let _status = child.wait();
        }
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// It ended, or is not in time.
    pub fn wait_api(&self) -> Result<()> {
        let kubectl = self.kubectl();
        let log = self.layout.log(Component::Apiserver.name());
        let mut next = Instant::now();
        wait::until("the API server is ready", STEP_LIMIT, || {
            self.check(Component::Etcd)?;
            self.check(Component::Apiserver)?;
            if Instant::now() < next {
                return Ok(None);
            }
            let ready = kubectl
                .run(&["get", "--raw=/readyz", "--request-timeout=5s"])
                .is_ok();
            next = Instant::now() + Duration::from_millis(300);
            Ok(ready.then_some(()))
        })
        .with_context(|| format!("it said last:{}", spawn::last_words(&log)))
    }

    /// Waits until the container runtime answers.
    ///
    /// # Errors
    /// It ended, or does not in time.
    pub fn wait_runtime(&self) -> Result<()> {
        let holder = self.holder()?;
        wait::until("containerd answers", STEP_LIMIT, || {
            self.check(Component::Containerd)?;
            Ok(cri::answers(holder).then_some(()))
        })
    }

    /// Waits until the node is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub fn wait_node(&self, limit: Duration) -> Result<()> {
        let log = self.layout.log(Component::Kubelet.name());
        self.kubectl()
            .wait_condition("the node is ready", limit, ["node", NODE_NAME], "Ready")
            .with_context(|| format!("the kubelet said last:{}", spawn::last_words(&log)))
    }

    fn check(&self, component: Component) -> Result<()> {
        let log = self.layout.log(component.name());
        if let Some(child) = lock(&self.children).get_mut(&component)
            && let Some(status) = child.try_wait()?
        {
            bail!(
                "{} ended ({status}):{}",
                component.name(),
                spawn::last_words(&log)
            );
        }
        Ok(())
    }

    /// Imports an archive of images; returns their names.
    ///
    /// # Errors
    /// The runtime refuses it.
    pub fn import(&self, archive: &Path) -> Result<Vec<String>> {
        cri::import(&self.layout, self.holder()?, archive)
    }

    /// The images of the node.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub fn images(&self) -> Result<Vec<String>> {
        cri::images(self.holder()?)
    }

    /// kubectl with all rights.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl {
            program: self.options.tools.kubectl.clone(),
            kubeconfig: self.layout.admin(),
        }
    }

    /// Helm with all rights.
    #[must_use]
    pub fn helm(&self) -> Helm {
        Helm {
            program: self.options.tools.helm.clone(),
            kubeconfig: self.layout.admin(),
            home: self.layout.dir.join("helm"),
        }
    }

    /// Starts a program in the node: beside the kubelet, not in a pod. It ends with the cluster.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, program: &str, arguments: &[String], name: &str) -> Result<Child> {
        node::start(self.holder()?, program, arguments, &self.layout.log(name))
    }

    /// A directory that the node sees as `/run/hoptrace/NAME`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn shared(&self, name: &str) -> Result<PathBuf> {
        let dir = self.layout.file(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// The directory that everything of it is below, in each hierarchy of cgroups.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let roots = node::cgroup_roots()?.into_iter();
        Ok(roots.map(|root| root.join(CGROUP)).collect())
    }

    /// The process whose mount namespace is the node's.
    ///
    /// # Errors
    /// The cluster is down.
    pub fn holder(&self) -> Result<u32> {
        let holder = self.holder.as_ref().context("the cluster is down")?;
        Ok(holder.id())
    }

    /// What it is made of.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        lock(&self.state).clone()
    }

    /// Leaves it running when this process ends; [`Cluster::down_any`] ends it.
    ///
    /// # Errors
    /// That cannot be recorded; then it is taken down.
    pub fn keep(self) -> Result<()> {
        let mut state = lock(&self.state);
        state.kept = true;
        if let Err(error) = state.save() {
            state.kept = false;
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

    /// Takes down the cluster of this machine, whoever made it; whether there was one.
    ///
    /// # Errors
    /// Something stays.
    pub fn down_any() -> Result<bool> {
        host::need_root()?;
        let _lock = state::lock()?;
        match state::status()? {
            Some(state) => {
                teardown::all(&state)?;
                Ok(true)
            }
            None => {
                teardown::objects()?;
                Ok(false)
            }
        }
    }

    fn take_down(&mut self) -> Result<()> {
        self.down = true;
        let done = teardown::all(&self.state());
        // They have ended: this only takes the zombies away.
        for mut child in std::mem::take(&mut *lock(&self.children)).into_values() {
            let _status = child.try_wait();
        }
        if let Some(mut holder) = self.holder.take() {
            let _status = holder.try_wait();
        }
        done
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.down || lock(&self.state).kept {
            return;
        }
        if let Err(error) = self.take_down() {
            eprintln!("warning: {error:#}");
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("no absolute path for {}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
