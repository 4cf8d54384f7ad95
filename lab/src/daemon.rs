//! A program that runs beside the lab until it is told to end, or this process does, however: the
//! agent, Prometheus.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::ProcessId;
use crate::{http, offspring, spawn, wait};

/// How long it has to become ready: an agent loads its programs, on an emulated machine slowly.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it has to end by itself.
const TERM_LIMIT: Duration = Duration::from_secs(10);
/// One answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    process: ProcessId,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a process group of its own, its words going to a file.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        spawn::log_to(&mut command, log)?;
        command.process_group(0);
        let program = command.get_program().to_owned();
        let mut child = offspring::spawn(command)
            .with_context(|| format!("cannot start {}", program.display()))?;
        let Some(process) = ProcessId::of(child.id()) else {
            let _ended = child.wait();
            bail!("{name} ended at its start:{}", spawn::last_words(log));
        };
        Ok(Self {
            name,
            child,
            process,
            log: log.to_path_buf(),
        })
    }

    /// Waits until it answers 200.
    pub(crate) fn wait_ready(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let what = format!("http://{address}{path} of {} answers 200", self.name);
        wait::until(&what, READY_LIMIT, || {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at its start ({status}):{}",
                    self.name,
                    spawn::last_words(&self.log)
                );
            }
            let answer = http::get(address, path, Duration::from_secs(1));
            Ok(answer.is_ok_and(|answer| answer.code == 200).then_some(()))
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, then its exit status.
    ///
    /// # Errors
    /// It had to be killed.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        // A stopped process would not hear it.
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let mut status = None;
        let ended = wait::regardless(TERM_LIMIT, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if ended => Ok(status),
            _ => {
                self.kill();
                bail!(
                    "{} did not end within {} s of SIGTERM and was killed:{}",
                    self.name,
                    TERM_LIMIT.as_secs(),
                    spawn::last_words(&self.log)
                )
            }
        }
    }

    /// SIGKILL, and waits.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        let _ended = self.child.kill();
        self.child
            .wait()
            .unwrap_or_else(|_gone| ExitStatus::from_raw(Signal::KILL.as_raw()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running()
            && let Err(error) = self.terminate()
        {
            eprintln!("warning: {error:#}");
        }
    }
}

/// # Errors
/// The address cannot be listened on; the error names the option that chooses another.
pub(crate) fn need_free(address: SocketAddr, what: &str) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_free) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "{address}, where {what} is to listen, is taken: choose another port, or end the \
             program there (`ss -ltnp` shows it)"
        ),
        Err(error) => Err(error).with_context(|| format!("{what} cannot listen on {address}")),
    }
}

/// A port of 127.0.0.1 on which nothing listens now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = holder.local_addr().unwrap();
        let error = need_free(address, "it").unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("taken"));
        drop(holder);
        need_free(SocketAddr::new(address.ip(), 0), "it").unwrap();
    }
}
