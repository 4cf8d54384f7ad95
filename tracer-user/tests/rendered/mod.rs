//! What Helm and kustomize make of `deploy/`, as values that tests look into.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

use std::path::PathBuf;
use std::process::{Command, Output};

use hoptrace_lab::pinned::{HELM, KUBECTL, Pinned};
use serde_json::Value;

use crate::markdown::root;

/// The chart.
pub(crate) const CHART: &str = "deploy/helm/hoptrace";

/// A program that setup fetched. It is never skipped: without it nothing of this is tested.
fn program(pinned: Pinned) -> PathBuf {
    pinned.find().unwrap()
}

/// Helm at the root of the repository.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    let mut command = Command::new(program(HELM));
    command
        .current_dir(root())
        .args(arguments)
        .output()
        .unwrap()
}

/// Objects of a rendered tree.
pub(crate) struct Objects(pub(crate) Vec<Value>);

/// The chart, rendered in the namespace `hoptrace` as the release `hoptrace`.
pub(crate) fn chart(values: &[&str]) -> Objects {
    match try_chart(values) {
        Ok(objects) => objects,
        Err(said) => panic!("{values:?}: {said}"),
    }
}

/// The same, or what Helm complains about.
pub(crate) fn try_chart(values: &[&str]) -> Result<Objects, String> {
    let mut arguments = vec!["template", "hoptrace", CHART, "--namespace", "hoptrace"];
    for value in values {
        arguments.extend(["--set-json", value]);
    }
    let output = helm(&arguments);
    if output.status.success() {
        Ok(parse(&output.stdout))
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// What `kubectl kustomize` builds.
pub(crate) fn kustomize(directory: &str) -> Objects {
    let mut command = Command::new(program(KUBECTL));
    let output = command
        .current_dir(root())
        .args(["kustomize", directory])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Deprecated fields are told on standard error, and kustomize succeeds.
    assert!(
        output.status.success() && said.is_empty(),
        "{directory}: {said}"
    );
    parse(&output.stdout)
}

pub(crate) fn parse(text: &[u8]) -> Objects {
    let text = std::str::from_utf8(text).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    Objects(objects.into_iter().filter(|o| !o.is_null()).collect())
}

impl Objects {
    /// The only object of that kind and name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> &Value {
        let found: Vec<_> = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .collect();
        assert_eq!(found.len(), 1, "{kind} {name} among {:?}", self.names());
        found[0]
    }

    /// Kind and name of each, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut names: Vec<_> = self
            .0
            .iter()
            .map(|object| {
                format!(
                    "{} {}",
                    text(&object["kind"]),
                    text(&object["metadata"]["name"])
                )
            })
            .collect();
        names.sort();
        names
    }

    /// The agent's DaemonSet.
    pub(crate) fn agent(&self) -> Pod<'_> {
        Pod(&self.get("DaemonSet", "hoptrace")["spec"]["template"])
    }
}

/// A pod template.
pub(crate) struct Pod<'a>(pub(crate) &'a Value);

impl<'a> Pod<'a> {
    /// Its specification.
    pub(crate) fn spec(&self) -> &'a Value {
        &self.0["spec"]
    }

    /// A container, or an init container, by its name.
    pub(crate) fn container(&self, name: &str) -> &'a Value {
        let lists = ["containers", "initContainers"];
        let found = lists
            .iter()
            .filter_map(|list| self.spec()[list].as_array())
            .flatten()
            .find(|container| container["name"] == name);
        found.unwrap_or_else(|| panic!("no container {name}"))
    }

    /// Arguments of its container `hoptrace`.
    pub(crate) fn arguments(&self) -> Vec<&'a str> {
        let arguments = self.container("hoptrace")["args"].as_array().unwrap();
        arguments
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect()
    }
}
