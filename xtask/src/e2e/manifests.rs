//! Every kustomization of deploy/ is taken by a real API server, in a dry run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Figures;
use super::bed::{Bed, deploy};

/// Kinds that are none of Kubernetes' own: definitions with their names, and any fields.
const FOREIGN: [(&str, &str, &str, &str, &str); 4] = [
    (
        "security.openshift.io",
        "v1",
        "SecurityContextConstraints",
        "securitycontextconstraints",
        "Cluster",
    ),
    (
        "monitoring.coreos.com",
        "v1",
        "PodMonitor",
        "podmonitors",
        "Namespaced",
    ),
    (
        "monitoring.coreos.com",
        "v1",
        "ServiceMonitor",
        "servicemonitors",
        "Namespaced",
    ),
    (
        "monitoring.coreos.com",
        "v1",
        "PrometheusRule",
        "prometheusrules",
        "Namespaced",
    ),
];
const ESTABLISHED_LIMIT: Duration = Duration::from_secs(20);

/// # Errors
/// One is refused.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    for kind in FOREIGN {
        bed.kubectl.apply(&definition(kind))?;
    }
    for (group, _, _, plural, _) in FOREIGN {
        let name = format!("{plural}.{group}");
        bed.kubectl.wait_condition(
            "a foreign kind is established",
            ESTABLISHED_LIMIT,
            ["customresourcedefinition", &name],
            "Established",
        )?;
    }
    let taken = kustomizations()?
        .iter()
        .map(|dir| dry_run(bed, dir))
        .collect::<Result<Vec<_>>>();
    for (group, _, _, plural, _) in FOREIGN {
        let name = format!("{plural}.{group}");
        bed.kubectl
            .run(&["delete", "customresourcedefinition", &name])?;
    }
    for line in taken? {
        figures.say(line);
    }
    Ok(())
}

/// Every directory of deploy/kustomize and deploy/demo that can be applied.
fn kustomizations() -> Result<Vec<PathBuf>> {
    let mut found = vec![deploy("kustomize/base")];
    for parent in ["kustomize/overlays", "demo"] {
        let parent = deploy(parent);
        let listing =
            fs::read_dir(&parent).with_context(|| format!("cannot read {}", parent.display()))?;
        found.extend(
            listing
                .flatten()
                .map(|entry| entry.path())
                .filter(|dir| dir.join("kustomization.yaml").is_file()),
        );
    }
    found.sort();
    ensure!(found.len() > 8, "only {} kustomizations", found.len());
    Ok(found)
}

fn dry_run(bed: &Bed, dir: &Path) -> Result<String> {
    let shown = dir.strip_prefix(deploy("")).unwrap_or(dir).display();
    let path = dir.display().to_string();
    let answer = bed
        .kubectl
        .run(&["apply", "--dry-run=server", "--kustomize", &path])
        .with_context(|| format!("deploy/{shown}"))?;
    let objects = answer
        .lines()
        .filter(|line| line.ends_with("(server dry run)"))
        .count();
    if objects == 0 {
        bail!("deploy/{shown}: the API took nothing: {answer}");
    }
    Ok(format!("deploy/{shown}: {objects} objects"))
}

fn definition((group, version, kind, plural, scope): (&str, &str, &str, &str, &str)) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural},
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}
