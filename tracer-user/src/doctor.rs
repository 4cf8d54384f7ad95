//! `hoptrace doctor`: what this node offers, and what would be lost by what it does not.

mod api;
mod boundary;
mod features;
mod kernel;
mod node;
mod probe;

use crate::config::{Config, IdentitySpec};
use serde::Serialize;
use std::fmt::Write;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The agent runs, but something is lost.
    Degraded,
    /// The agent cannot run.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it came out.
    pub status: Status,
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What is lost by it; empty when nothing is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub lost: &'static str,
    /// What to do about it; empty when there is nothing to do.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: &'static str,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            status: Status::Ok,
            name,
            found: found.into(),
            lost: "",
            remedy: "",
        }
    }

    fn degraded(
        name: &'static str,
        found: impl Into<String>,
        lost: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self {
            status: Status::Degraded,
            name,
            found: found.into(),
            lost,
            remedy,
        }
    }

    fn missing(
        name: &'static str,
        found: impl Into<String>,
        lost: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self {
            status: Status::Missing,
            ..Self::degraded(name, found, lost, remedy)
        }
    }
}

/// Everything looked at, in the order in which the agent needs it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of the checks.
    pub status: Status,
    /// Each check.
    pub checks: Vec<Check>,
}

/// Looks at this node, and at the API when names are to come from it. Probes load tiny programs and
/// maps and let them go at once.
#[must_use]
pub fn examine(config: &Config) -> Report {
    let mut checks = [
        kernel::checks(),
        node::checks(),
        features::checks(),
        boundary::checks(config),
    ]
    .concat();
    if config.identity == IdentitySpec::Kubernetes {
        checks.extend(api::checks(config));
    }
    Report::new(checks)
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let status = checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Ok);
        Self { status, checks }
    }

    /// 0: all is there, 1: the agent cannot run, 2: something is lost.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.status {
            Status::Ok => 0,
            Status::Missing => 1,
            Status::Degraded => 2,
        }
    }

    /// A line for each check, and the verdict.
    #[must_use]
    pub fn to_text(&self) -> String {
        let width = self
            .checks
            .iter()
            .map(|check| check.name.len())
            .max()
            .unwrap_or_default();
        let mut text = String::new();
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Degraded => "degraded",
                Status::Missing => "missing",
            };
            // Writing to a String cannot fail.
            let _done = write!(text, "{status:<8}  {:<width$}  {}", check.name, check.found);
            for (title, words) in [("lost", check.lost), ("remedy", check.remedy)] {
                if !words.is_empty() {
                    let _done = write!(text, "; {title}: {words}");
                }
            }
            text.push('\n');
        }
        text.push_str(match self.status {
            Status::Ok => "The agent can run here, and nothing is lost.\n",
            Status::Degraded => "The agent can run here, but something is lost.\n",
            Status::Missing => "The agent cannot run here.\n",
        });
        text
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and enums always have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        let ok = || Check::ok("kernel", "6.18.0");
        let degraded = || Check::degraded("BTF", "absent", "the parts", "build it in");
        let missing = || Check::missing("cgroup v2", "not mounted", "everything", "mount it");
        let cases = [
            (vec![ok()], 0),
            (vec![ok(), degraded()], 2),
            (vec![missing(), degraded(), ok()], 1),
        ];
        for (checks, code) in cases {
            assert_eq!(Report::new(checks).exit_code(), code);
        }
        let text = Report::new(vec![ok(), degraded()]).to_text();
        assert_eq!(
            text,
            "ok        kernel  6.18.0\n\
             degraded  BTF     absent; lost: the parts; remedy: build it in\n\
             The agent can run here, but something is lost.\n"
        );
    }
}
