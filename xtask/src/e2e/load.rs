//! Load from pods outside of the mesh to the demo's gateway: a Job named `load`, so that its
//! series have a name, or pods that are workloads by themselves.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hoptrace_lab::load::{LoadSpec, Schedule};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bed::{Bed, DEMO, READY_LIMIT};
use crate::image::Name;

const JOB: &str = "load";
const CONNECTIONS: usize = 8;
/// One piece of load that goes on until it is stopped, seconds.
const PIECE: f64 = 2.0;
/// When nobody takes connections, a piece does not begin and is tried again after this time, seconds;
/// what would have been sent meanwhile has failed.
const RETRY: f64 = 0.1;
/// Beyond what the schedule takes.
const GRACE: Duration = Duration::from_secs(60);

/// Load that is under way.
pub(super) struct Load<'a>(&'a Bed);

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
}

/// What is read of the report of one piece.
#[derive(Deserialize)]
struct Piece {
    succeeded: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Outcome {
    fn add(&mut self, report: Piece) {
        self.succeeded += report.succeeded;
        self.failed += report.failed;
        for failure in report.failures {
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }
}

impl Bed {
    /// Sends this many requests as fast as they are answered, and waits for the end.
    ///
    /// # Errors
    /// The Job fails.
    pub(super) fn requests(&self, count: u64) -> Result<Outcome> {
        self.start_job(&once(count)?)?;
        self.outcome(GRACE)
    }

    /// Starts a pod that is no part of anything, and sends this many requests after a time.
    ///
    /// # Errors
    /// The API refuses it.
    pub(super) fn start_caller(&self, name: &str, count: u64, after: Duration) -> Result<()> {
        let script = format!("sleep {}\n{}", after.as_secs(), once(count)?);
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": DEMO, "labels": {"app": name}},
            "spec": pod_spec(name, &script),
        });
        self.kubectl.apply(&pod).map(drop)
    }

    /// What became of a caller that has ended; removes it.
    ///
    /// # Errors
    /// It had failed, or is not there.
    pub(super) fn end_caller(&self, name: &str) -> Result<Outcome> {
        let outcome = outcome(&self.demo_log(&format!("pod/{name}"), name)?)?;
        let delete = ["--namespace", DEMO, "delete", "pod", name, "--wait=false"];
        self.kubectl.run(&delete)?;
        Ok(outcome)
    }

    /// Sends requests at a rate until it is stopped.
    ///
    /// # Errors
    /// The Job does not start.
    pub(super) fn load(&self, per_second: f64) -> Result<Load<'_>> {
        let spec = spec(Schedule::Rate {
            per_second,
            seconds: PIECE,
        })?;
        let refused = json!({
            "succeeded": 0,
            "failed": (per_second * RETRY) as u64,
            "failures": ["the load does not begin: nobody takes connections"],
        });
        // A heredoc ends with its line, so what follows a failure is on the line that begins it.
        self.start_job(&format!(
            "while [ ! -e /tmp/stop ]; do\n\
             hoptrace-load --allow \"$host\" 2>/tmp/error <<END || {{ echo '{refused}'; sleep {RETRY}; }}\n\
             {spec}\nEND\ndone\n"
        ))?;
        self.kubectl.until(
            "the load has started",
            READY_LIMIT,
            &["--namespace", DEMO, "get", "pods", "--selector=app=load"],
            |pods| (phase(pods)? == "Running").then_some(()),
        )?;
        Ok(Load(self))
    }

    fn start_job(&self, script: &str) -> Result<()> {
        self.remove_job()?;
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": JOB, "namespace": DEMO, "labels": {"app": JOB}},
            "spec": {"backoffLimit": 0, "template": {
                "metadata": {"labels": {"app": JOB}},
                "spec": pod_spec(JOB, script),
            }},
        });
        self.kubectl.apply(&job).map(drop)
    }

    fn remove_job(&self) -> Result<()> {
        let limit = Duration::from_secs(60);
        let arguments = [
            "--namespace",
            DEMO,
            "delete",
            "job",
            JOB,
            "--ignore-not-found",
            "--cascade=foreground",
        ];
        self.kubectl.run_for(&arguments, limit).map(drop)
    }

    /// Waits for the end of the Job's pod, and reads its reports.
    fn outcome(&self, limit: Duration) -> Result<Outcome> {
        let ended = self.kubectl.until(
            "the load has ended",
            limit,
            &["--namespace", DEMO, "get", "pods", "--selector=app=load"],
            |pods| {
                let phase = phase(pods)?;
                matches!(phase, "Succeeded" | "Failed").then(|| phase.to_owned())
            },
        )?;
        let log = self.demo_log(&format!("job/{JOB}"), JOB)?;
        if ended == "Failed" {
            bail!("the load failed: {}", log.trim());
        }
        outcome(&log)
    }
}

impl Load<'_> {
    /// Ends it, and tells what became of it.
    ///
    /// # Errors
    /// It does not end, or had failed.
    pub(super) fn stop(self) -> Result<Outcome> {
        self.0.kubectl.run(&[
            "--namespace",
            DEMO,
            "exec",
            &format!("job/{JOB}"),
            "--",
            "touch",
            "/tmp/stop",
        ])?;
        self.0.outcome(GRACE)
    }
}

/// Without requests for resources: its class is BestEffort, and the demo's Burstable.
fn pod_spec(name: &str, script: &str) -> Value {
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": true},
        "containers": [{
            "name": name,
            "image": Name::Load.reference(),
            "command": ["/bin/sh", "-ec", format!("host=$CAPITOL_CLIENT_SERVICE_HOST\n{script}")],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    })
}

/// The script that sends this many requests.
fn once(count: u64) -> Result<String> {
    let spec = spec(Schedule::Count(count))?;
    Ok(format!(
        "hoptrace-load --allow \"$host\" <<END\n{spec}\nEND\n"
    ))
}

/// The reports in a log, one a line.
fn outcome(log: &str) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for line in log.lines() {
        let report = serde_json::from_str(line)
            .with_context(|| format!("the load says no report but `{line}`"))?;
        outcome.add(report);
    }
    Ok(outcome)
}

fn spec(schedule: Schedule) -> Result<String> {
    let spec = LoadSpec {
        // The shell puts the address in.
        url: "http://$host:8000/api/capitols".to_owned(),
        method: "GET".to_owned(),
        headers: vec![("host".to_owned(), "capitol-client:8000".to_owned())],
        body: String::new(),
        connections: CONNECTIONS,
        schedule,
        request_ids: true,
    };
    serde_json::to_string(&spec).context("writing the load's specification")
}

fn phase(pods: &Value) -> Option<&str> {
    pods.pointer("/items/0/status/phase")?.as_str()
}
