//! What a lab is asked to be, and whether this machine can do it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::envoy::ENVOY;
use crate::pinned::Found;
use crate::programs::{CHAIN, PROGRAMS, WIRE};
use crate::topology::{Mode, Pod};
use crate::{host, jvm, state};

/// Which capitol-info there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// One small program with SQLite inside: cheap, so that what is measured is the mesh.
    #[default]
    Native,
    /// The article's own: Spring MVC in a Tomcat, and PostgreSQL beside it.
    Jvm,
    /// `hoptrace-wire`, which answers in odd ways and stamps what it does. Port 8081 is another of
    /// it, port 9000 speaks no HTTP.
    Wire,
    /// `hoptrace-chain` in both pods: capitol-client calls capitol-info, which calls the database that
    /// somebody starts on port 9000 of the node.
    Chain(Worker),
}

/// With which threads capitol-client of a chain works; capitol-info has one for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// One for each connection.
    Threads,
    /// One for all, which waits for nothing.
    Loop,
    /// Two for all, which share the work.
    Workers,
}

impl Worker {
    /// As `hoptrace-chain` names it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Loop => "loop",
            Self::Workers => "workers",
        }
    }
}

impl Flavour {
    /// The program that it needs beside those of every lab.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Native | Self::Jvm => None,
            Self::Wire => Some(WIRE),
            Self::Chain(_) => Some(CHAIN),
        }
    }
}

/// Whose ports and redirection the sidecars have; they are Envoys all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convention {
    /// Istio's: 15001 and 15006, the app is reached from 127.0.0.6.
    #[default]
    Istio,
    /// Linkerd's: 4140 and 4143, the app is reached from the pod's own address.
    Linkerd,
}

impl Convention {
    /// Where a sidecar takes what its app sends.
    pub(crate) const fn outbound_port(self) -> u16 {
        match self {
            Self::Istio => 15001,
            Self::Linkerd => 4140,
        }
    }

    /// Where it takes what comes for its app.
    pub(crate) const fn inbound_port(self) -> u16 {
        match self {
            Self::Istio => 15006,
            Self::Linkerd => 4143,
        }
    }
}

/// What a lab is asked to be.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Short and unique on this machine.
    pub name: String,
    /// How the services are meshed.
    pub mode: Mode,
    /// Which capitol-info.
    pub flavour: Flavour,
    /// Whose ports the sidecars have.
    pub convention: Convention,
    /// The Envoy binary; [`find`](crate::envoy::find) knows the one that setup fetched.
    pub envoy: PathBuf,
    /// Where `capitol-info` and `hoptrace-load` are; [`bin_dir`](crate::bin_dir) looks for them.
    pub bin_dir: PathBuf,
    /// Where configuration, logs and the database go. When the lab has to make it, it takes it
    /// away as well.
    pub dir: PathBuf,
    /// Leaves the work directory, for a look at the logs afterwards.
    pub keep_dir: bool,
    /// Envoy's worker threads.
    pub workers: u32,
    /// Whether the load pod has a sidecar too.
    pub load_meshed: bool,
    /// Delay of every request in capitol-info's inbound sidecar.
    pub inbound_fault: Option<Duration>,
    /// Delay of every request to capitol-info in the outbound sidecars.
    pub outbound_fault: Option<Duration>,
    /// Whether sidecars write access logs.
    pub access_log: bool,
    /// The last word on each pod's bootstrap of Envoy.
    pub patch: Option<Patch>,
}

/// Changes a pod's bootstrap.
pub type Patch = fn(Pod, &mut Value);

impl LabOptions {
    /// A lab with mutual TLS, two workers, access logs, no faults and an unmeshed load pod.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        envoy: impl Into<PathBuf>,
        bin_dir: impl Into<PathBuf>,
    ) -> Self {
        let name = name.into();
        Self {
            mode: Mode::Mtls,
            flavour: Flavour::Native,
            convention: Convention::Istio,
            envoy: envoy.into(),
            bin_dir: bin_dir.into(),
            dir: state::default_dir(&name),
            keep_dir: false,
            workers: 2,
            load_meshed: false,
            inbound_fault: None,
            outbound_fault: None,
            access_log: true,
            patch: None,
            name,
        }
    }

    /// Whether a pod has a sidecar.
    #[must_use]
    pub fn is_meshed(&self, pod: Pod) -> bool {
        is_meshed(self.mode, self.load_meshed, pod)
    }

    /// # Errors
    /// The lab cannot run here: the error says what is missing, and what to do.
    pub(crate) fn check(&self) -> Result<()> {
        state::check_name(&self.name)?;
        host::need_root()?;
        host::program("ip")?;
        host::program("nginx")?;
        for name in PROGRAMS {
            let path = self.bin_dir.join(name);
            if !host::is_executable(&path) {
                bail!(
                    "no program at {}: run `cargo build --release --package hoptrace-lab --bins`",
                    path.display()
                );
            }
        }
        if let Some(name) = self.flavour.program()
            && !host::is_executable(&self.bin_dir.join(name))
        {
            bail!("no program {name}: run `cargo build --package hoptrace-lab --bins`");
        }
        if self.flavour == Flavour::Jvm {
            jvm::check()?;
        }
        if self.mode == Mode::None {
            return Ok(());
        }
        host::program("iptables-restore")?;
        if self.workers == 0 {
            bail!("0 workers: Envoy needs at least one");
        }
        if !host::is_executable(&self.envoy) {
            bail!(
                "no Envoy at {}: run `cargo xtask setup`",
                self.envoy.display()
            );
        }
        let is_ours = ENVOY.cached().is_ok_and(|path| path == self.envoy);
        if is_ours && ENVOY.verify(&self.envoy)? != Found::Genuine {
            bail!(
                "{} is not Envoy {} (its SHA-256 is not {}): run `cargo xtask setup`",
                self.envoy.display(),
                ENVOY.version,
                ENVOY.sha256
            );
        }
        Ok(())
    }
}

/// Whether a pod has a sidecar in such a lab.
pub(crate) fn is_meshed(mode: Mode, load_meshed: bool, pod: Pod) -> bool {
    mode != Mode::None && (pod != Pod::Load || load_meshed)
}
