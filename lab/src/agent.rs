//! The agent, traced mesh and all, as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::daemon::{ANSWER_LIMIT, Daemon, need_free};
use crate::lab::Lab;
use crate::{host, http};

/// How to run an agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The `hoptrace` binary.
    pub binary: PathBuf,
    /// `--cgroup-root`.
    pub cgroup_root: PathBuf,
    /// `--identity`.
    pub identity: String,
    /// `--listen 127.0.0.1:PORT`.
    pub port: u16,
    /// Where its words go; appended to.
    pub log: PathBuf,
    /// More arguments.
    pub args: Vec<String>,
}

/// An agent that answers. Dropping it ends it.
#[derive(Debug)]
pub struct AgentProcess {
    daemon: Daemon,
    address: SocketAddr,
}

impl AgentProcess {
    /// Starts an agent and waits until it says it is ready.
    ///
    /// # Errors
    /// The binary is missing, the port is taken, or it does not become ready: the error ends with
    /// its last words.
    pub fn start(options: &AgentOptions) -> Result<Self> {
        host::need_root()?;
        if !host::is_executable(&options.binary) {
            bail!(
                "no agent at {}: run `cargo build --release --bin hoptrace`",
                options.binary.display()
            );
        }
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), options.port);
        need_free(address, "the agent")?;
        let mut command = Command::new(&options.binary);
        command
            .arg("agent")
            .arg("--cgroup-root")
            .arg(&options.cgroup_root);
        command.arg("--listen").arg(address.to_string());
        command.arg("--identity").arg(&options.identity);
        command.args(&options.args);
        let mut daemon = Daemon::start("the agent", command, &options.log)?;
        daemon.wait_ready(address, "/readyz")?;
        Ok(Self { daemon, address })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its words.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.daemon.is_running()
    }

    /// Its exposition.
    ///
    /// # Errors
    /// It does not answer 200.
    pub fn metrics(&self) -> Result<String> {
        let answer = self.get("/metrics")?;
        if answer.code != 200 {
            bail!(
                "/metrics of the agent answers {}: {}",
                answer.code,
                answer.body
            );
        }
        Ok(answer.body)
    }

    /// Any of its paths.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.address, path, ANSWER_LIMIT)
    }

    /// SIGTERM; returns how it ended.
    ///
    /// # Errors
    /// It did not end and was killed.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.daemon.terminate()
    }

    /// SIGKILL.
    pub fn kill9(mut self) -> ExitStatus {
        self.daemon.kill()
    }

    /// SIGSTOP: it stands still, its ring fills.
    pub fn stop(&self) {
        self.daemon.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.daemon.signal(Signal::CONT);
    }
}

impl Lab {
    /// Options for an agent on this lab; its log is in the work directory.
    #[must_use]
    pub fn agent_options(&self, binary: impl Into<PathBuf>, port: u16) -> AgentOptions {
        AgentOptions {
            binary: binary.into(),
            cgroup_root: self.cgroup_root().to_path_buf(),
            identity: format!("static:{}", self.identity_file().display()),
            port,
            log: self.state().dir.join("agent.log"),
            args: Vec::new(),
        }
    }
}
