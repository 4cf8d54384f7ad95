//! kubectl, run in the node's network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use hoptrace_lab::{host, netns, signals, wait};
use serde_json::Value;

use crate::capture::capture;
use crate::layout::NODE_NETNS;

/// One request to the API; commands that wait say for how long.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the API is asked while waiting: kubectl takes a tenth of a second of a processor.
const STEP: Duration = Duration::from_millis(400);

/// kubectl for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubectl {
    /// The command, for who wants to run it otherwise.
    ///
    /// # Errors
    /// There is no `nsenter`.
    pub fn command(&self) -> Result<Command> {
        in_network(&self.program, &self.kubeconfig)
    }

    /// Runs it; returns its standard output.
    ///
    /// # Errors
    /// It fails, or takes longer than a minute.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_for(arguments, LIMIT)
    }

    /// Runs it with a limit of its own.
    ///
    /// # Errors
    /// It fails, or takes longer.
    pub fn run_for(&self, arguments: &[&str], limit: Duration) -> Result<String> {
        capture(
            &what(arguments),
            self.command()?.args(arguments),
            None,
            limit,
        )
    }

    /// Runs it with something to read.
    ///
    /// # Errors
    /// It fails, or takes longer than a minute.
    pub fn feed(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.command()?;
        capture(
            &what(arguments),
            command.args(arguments),
            Some(input),
            LIMIT,
        )
    }

    /// Runs it with `--output=json`.
    ///
    /// # Errors
    /// It fails, or its answer is no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["--output=json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("the answer of {}", what(arguments)))
    }

    /// Applies objects.
    ///
    /// # Errors
    /// The API refuses one.
    pub fn apply(&self, objects: &Value) -> Result<String> {
        self.feed(&["apply", "--filename=-"], &objects.to_string())
    }

    /// Asks again and again until `look` finds something in the answer; failures of the API count
    /// as "not yet".
    ///
    /// # Errors
    /// It does not in time: the error tells the last failure.
    pub fn until<T>(
        &self,
        goal: &str,
        limit: Duration,
        arguments: &[&str],
        mut look: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let mut next = std::time::Instant::now();
        let mut last = None;
        let found = wait::until(goal, limit, || {
            if std::time::Instant::now() < next {
                return Ok(None);
            }
            let found = match self.json(arguments) {
                Ok(answer) => look(&answer),
                Err(error) => {
                    last = Some(error);
                    None
                }
            };
            next = std::time::Instant::now() + STEP;
            Ok(found)
        });
        found.map_err(|error| match last {
            Some(last) if !signals::interrupted() => error.context(format!("{last:#}")),
            _ => error,
        })
    }

    /// Waits until an object's condition is `True`.
    ///
    /// # Errors
    /// It is not in time: the error tells the last failure.
    pub fn wait_condition(
        &self,
        goal: &str,
        limit: Duration,
        object: [&str; 2],
        condition: &str,
    ) -> Result<()> {
        let [kind, name] = object;
        self.until(goal, limit, &["get", kind, name], |object| {
            let conditions = object.pointer("/status/conditions")?.as_array()?;
            let is_so = |found: &Value| {
                found.get("type") == Some(&Value::from(condition))
                    && found.get("status") == Some(&Value::from("True"))
            };
            conditions.iter().any(is_so).then_some(())
        })
    }

    /// Starts it in the background, its output to be read.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        self.command()?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kubectl")
    }
}

/// A program that talks to the API, to be run in the node's network.
///
/// # Errors
/// There is no `nsenter`.
pub(crate) fn in_network(program: &Path, kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(host::program("nsenter")?);
    command
        .arg(format!("--net={}", netns::path(NODE_NETNS).display()))
        .arg("--")
        .arg(program)
        .env("KUBECONFIG", kubeconfig);
    Ok(command)
}

fn what(arguments: &[&str]) -> String {
    format!("`kubectl {}`", arguments.join(" "))
}
