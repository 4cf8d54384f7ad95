//! `cargo xtask manifests`: files under `deploy/` that follow from others. Written here, kept in
//! the repository so that nobody needs a Rust toolchain to deploy, and checked by a test.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use hoptrace_lab::manifests::{bootstrap, gateway, redirection};
use hoptrace_lab::{Pod, pinned};

use crate::paths;

mod base;

const CHART: &str = "deploy/helm/hoptrace";
const RULES: &str = "deploy/rules/hoptrace.rules.yml";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is not what it should be.
    #[arg(long)]
    check: bool,
}

/// A file that follows from others.
pub(crate) struct Made {
    /// From the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Writes or checks every one of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    settle(all()?, options.check, "manifests")
}

/// Writes files that are not what they should be; with `check` it only names them.
///
/// # Errors
/// A file cannot be written, or with `check` is not what `cargo xtask <command>` makes.
pub(crate) fn settle(files: Vec<Made>, check: bool, command: &str) -> Result<()> {
    let mut stale = Vec::new();
    for made in files {
        let path = paths::root().join(&made.path);
        if fs::read_to_string(&path).is_ok_and(|text| text == made.text) {
            continue;
        }
        if !check {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)
                    .with_context(|| format!("making {}", directory.display()))?;
            }
            fs::write(&path, &made.text).with_context(|| format!("writing {}", path.display()))?;
            eprintln!("✓ wrote {}", made.path);
        }
        stale.push(made.path);
    }
    if check && !stale.is_empty() {
        bail!(
            "not what they should be: {}; run `cargo xtask {command}`",
            stale.join(", ")
        );
    }
    if stale.is_empty() {
        eprintln!("✓ {command}: everything is as it should be");
    }
    Ok(())
}

fn all() -> Result<Vec<Made>> {
    let rules = paths::root().join(RULES);
    let rules =
        fs::read_to_string(&rules).with_context(|| format!("reading {}", rules.display()))?;
    // The chart is rendered with its own copy of the rules; that copy is not in the base.
    let mut made = vec![
        Made {
            path: format!("{CHART}/files/hoptrace.rules.yml"),
            text: rules,
        },
        Made {
            path: "deploy/kustomize/base/hoptrace.yaml".to_owned(),
            text: base::from_chart(&rendered(&paths::root().join(CHART))?),
        },
        Made {
            path: "deploy/demo/base/nginx.conf".to_owned(),
            text: gateway(),
        },
        Made {
            path: "deploy/demo/envoy/iptables.rules".to_owned(),
            text: redirection(),
        },
    ];
    for pod in [Pod::Client, Pod::Info] {
        made.push(Made {
            path: format!("deploy/demo/envoy/{}.json", pod.workload()),
            text: format!("{:#}\n", bootstrap(pod)),
        });
    }
    Ok(made)
}

/// The chart with its defaults, as Helm renders it.
fn rendered(chart: &Path) -> Result<String> {
    let helm = pinned::HELM.find()?;
    let output = Command::new(&helm)
        .args(["template", "hoptrace"])
        .arg(chart)
        .args(["--namespace", "hoptrace"])
        .output()
        .with_context(|| format!("starting {}", helm.display()))?;
    if !output.status.success() {
        bail!(
            "helm cannot render {}: {}",
            chart.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("helm's output is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_repository_is_what_is_made() {
        run(&Options { check: true }).unwrap();
    }
}
