//! Load from inside a pod.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::load::{LoadReport, LoadSpec, Schedule};
use crate::spawn::{self, APP_USER, Place};
use crate::topology::{Container, Pod};
use crate::wait;

/// Beyond what the schedule asks for: a slow machine, a starved pod.
const GRACE: Duration = Duration::from_secs(60);
/// When the schedule names a count only: slower than this is stuck.
const SLOWEST_RATE: f64 = 20.0;
/// Nobody waits longer.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Load that is running. Dropping it ends it.
#[derive(Debug)]
pub struct LoadRun {
    child: Child,
    deadline: Instant,
    log: PathBuf,
}

impl Lab {
    /// Runs load from a pod, in its app's container, and waits for the end.
    ///
    /// # Errors
    /// The load generator cannot run, fails, or is not done in time. Requests that fail are not
    /// an error: the report counts them.
    pub fn load(&self, from: Pod, spec: &LoadSpec) -> Result<LoadReport> {
        self.start_load(from, spec)?.wait()
    }

    /// Starts load from a pod.
    ///
    /// # Errors
    /// The load generator cannot run.
    pub fn start_load(&self, from: Pod, spec: &LoadSpec) -> Result<LoadRun> {
        let program = self.options.bin_dir.join("hoptrace-load");
        let mut command = spawn::from_own_directory(&program)?;
        let log = self.state.dir.join("hoptrace-load.log");
        spawn::log_to(&mut command, &log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let place = Place {
            netns: &from.netns(&self.state.name),
            cgroup: Some(&self.container_cgroup(from, Container::App)),
            user: APP_USER,
        };
        let mut child = spawn::spawn(&mut command, place)?;
        let deadline = Instant::now() + planned(spec.schedule) + GRACE;
        let stdin = child.stdin.take();
        let run = LoadRun {
            child,
            deadline,
            log,
        };
        let text = serde_json::to_vec(spec).context("writing the load's specification")?;
        if let Some(mut stdin) = stdin {
            // When it died early, its own words say more than a broken pipe.
            let _broken = stdin.write_all(&text);
        }
        Ok(run)
    }
}

impl LoadRun {
    /// Waits for its end and its report.
    ///
    /// # Errors
    /// It fails, or is not done in time.
    pub fn wait(mut self) -> Result<LoadReport> {
        let limit = self.deadline.saturating_duration_since(Instant::now());
        let status = wait::until("the end of the load", limit, || {
            Ok(self.child.try_wait()?)
        })?;
        let mut report = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout
                .read_to_string(&mut report)
                .context("reading the load's report")?;
        }
        if !status.success() {
            bail!(
                "the load generator failed ({status}):{}",
                spawn::last_words(&self.log)
            );
        }
        serde_json::from_str(&report)
            .with_context(|| format!("the load generator answers no report but `{report}`"))
    }

    /// Whether it is over.
    ///
    /// # Errors
    /// The kernel cannot tell.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LoadRun {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn planned(schedule: Schedule) -> Duration {
    let seconds = match schedule {
        Schedule::Count(count) => count as f64 / SLOWEST_RATE,
        Schedule::Seconds(seconds) | Schedule::Rate { seconds, .. } => seconds,
    };
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |planned| planned.min(LONGEST))
}
