//! What `deploy/` ships is accepted by those who read it: the agent, Prometheus, systemd.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod markdown;
mod mesh;
mod programs;

use std::collections::BTreeSet;
use std::process::Command;

use clap::CommandFactory;
use markdown::{page, root};
use programs::{hoptrace_config, promtool, succeeds};
use serde_json::Value;
use tracer_user::cli::Cli;

/// Values without where they come from.
fn values(config: &str) -> toml::Table {
    config.parse().unwrap()
}

#[test]
fn the_example_configuration_shows_every_default() {
    let example = root().join("deploy/hoptrace.toml");
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let defaults = values(&hoptrace_config(&empty).unwrap());
    assert_eq!(values(&hoptrace_config(&example).unwrap()), defaults);

    let text = std::fs::read_to_string(&example).unwrap();
    let shown: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'))
            })
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let uncommented = directory.path().join("all.toml");
    std::fs::write(&uncommented, &shown).unwrap();
    let mut found = values(&hoptrace_config(&uncommented).unwrap());
    let examples = [
        "cgroup_root",
        "record",
        "kubeconfig",
        "node_name",
        "tls_cert",
        "tls_key",
    ];
    for example in examples {
        assert!(found.remove(example).is_some(), "{example} is not shown");
    }
    assert_eq!(found, defaults);
    // `config` prints every key, the hidden one for tests too.
    let keys = values(&shown).len();
    assert_eq!(
        keys,
        defaults.len() + examples.len() - 1,
        "a key is missing:\n{shown}"
    );
}

#[test]
fn promtool_takes_configuration_and_rules() {
    for arguments in [
        ["check", "config", "deploy/prometheus.yml"],
        ["check", "rules", "deploy/rules/hoptrace.rules.yml"],
        ["test", "rules", "deploy/rules/hoptrace.test.yml"],
    ] {
        let Some(mut command) = promtool("promtool_takes_configuration_and_rules") else {
            return;
        };
        command.args(arguments);
        succeeds(command);
    }
}

#[test]
fn every_alert_leads_to_its_runbook() {
    let rules = std::fs::read_to_string(root().join("deploy/rules/hoptrace.rules.yml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&rules).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let mut named = BTreeSet::new();
    for rule in rules.filter(|rule| rule["alert"].is_string()) {
        let alert = rule["alert"].as_str().unwrap();
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let runbook = page(link);
        let first = runbook.text.lines().nth(2).unwrap();
        assert!(
            first.starts_with(&format!("Alert `{alert}`: ")),
            "{link} does not begin with {alert}"
        );
        named.insert(root().join(link));
    }
    let files = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files, named, "a runbook that no alert names");
}

#[test]
fn the_unit_is_one() {
    let what = "the_unit_is_one";
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        mesh::skip(what, "systemd-analyze is not installed");
        return;
    }
    let text = std::fs::read_to_string(root().join("deploy/hoptrace.service")).unwrap();
    let installed = "/usr/local/bin/hoptrace";
    let start = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let words = start.split_whitespace();
    Cli::command().try_get_matches_from(words).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("hoptrace.service");
    // The program is not installed where the tests run.
    let here = text.replace(installed, env!("CARGO_BIN_EXE_hoptrace"));
    std::fs::write(&unit, here).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(&unit);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("hoptrace.service"))
        .collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
