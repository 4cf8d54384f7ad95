//! `helm uninstall` leaves the node as it was before `helm install`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoptrace_lab::wait;
use serde_json::Value;

use super::Figures;
use super::bed::Bed;
use super::node::{Held, Snapshot};

/// The kubelet removes directories of pods, and the kernel cgroups, a while after their end.
const CLEANUP_LIMIT: Duration = Duration::from_secs(300);
const RATE: f64 = 50.0;

/// # Errors
/// Something is left, or is gone that was there before.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    bed.uninstall()?;
    let load = bed.load(RATE)?;
    let before = at_rest(bed)?;
    let agent = bed.ensure_agent()?;
    let during = Snapshot::take(bed)?;
    let counted = |kind| during.count(kind).saturating_sub(before.count(kind));
    let held = Held::by(bed.process(&agent)?)?;
    let (programs, maps, links) = (held.programs.len(), held.maps.len(), held.links.len());
    ensure!(
        programs > 0 && maps > 0 && links > 0,
        "the agent has {programs} programs, {maps} maps and {links} links: this shows nothing"
    );
    bed.uninstall()?;
    let mut left = Vec::new();
    let clean = wait::until("the node is as before", CLEANUP_LIMIT, || {
        std::thread::sleep(Duration::from_millis(500));
        left = before.difference(&Snapshot::take(bed)?);
        left.extend(held.left()?);
        Ok(left.is_empty().then_some(()))
    });
    clean.with_context(|| {
        let shown = left.iter().take(20).map(String::as_str);
        shown.collect::<Vec<_>>().join("\n")
    })?;
    let outcome = load.stop()?;
    ensure!(
        outcome.failed == 0,
        "requests failed when the agent came and went: {:?}",
        outcome.failures
    );
    figures.say(format!(
        "{programs} programs, {maps} maps, {links} links, {} mounts, {} files, {} control groups \
         came with the agent and went with it",
        counted("mount"),
        counted("file"),
        counted("control group"),
    ));
    Ok(())
}

/// The node once it has forgotten all pods that are no more: those of earlier checks.
fn at_rest(bed: &Bed) -> Result<Snapshot> {
    wait::until("the node has forgotten earlier pods", CLEANUP_LIMIT, || {
        std::thread::sleep(Duration::from_secs(1));
        let pods = bed.kubectl.json(&["get", "pods", "--all-namespaces"])?;
        let pods = pods
            .get("items")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let node = Snapshot::take(bed)?;
        let logs = node.children("/var/log/pods");
        let sandboxes = node.children("/run/containerd/io.containerd.grpc.v1.cri/sandboxes");
        let volumes = node.children("/var/lib/kubelet/pods");
        let is_clean = [logs, sandboxes, volumes]
            .iter()
            .all(|count| *count == pods);
        Ok(is_clean.then_some(node))
    })
}
