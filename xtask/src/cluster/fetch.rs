//! Container runtime, network plugins, etcd and Prometheus: Debian's binaries, unpacked into the
//! cache. Nothing of them is installed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use hoptrace_cluster::{TOOL_PROGRAMS, Tools};

use super::apt;

/// Debian 12 but for Prometheus: that of Debian 12 is built without the Kubernetes discovery.
const PACKAGES: [&str; 5] = [
    "containerd/bookworm",
    "containernetworking-plugins/bookworm",
    "etcd-server/bookworm",
    "runc/bookworm",
    "prometheus/trixie",
];
/// Where their programs are, and those of them that are used.
const MEMBERS: [(&str, &str); 10] = [
    ("usr/bin/containerd", "bin/containerd"),
    (
        "usr/bin/containerd-shim-runc-v2",
        "bin/containerd-shim-runc-v2",
    ),
    ("usr/bin/ctr", "bin/ctr"),
    ("usr/bin/etcd", "bin/etcd"),
    ("usr/bin/prometheus", "bin/prometheus"),
    ("usr/sbin/runc", "bin/runc"),
    ("usr/lib/cni/bridge", "cni/bridge"),
    ("usr/lib/cni/host-local", "cni/host-local"),
    ("usr/lib/cni/loopback", "cni/loopback"),
    ("usr/lib/cni/portmap", "cni/portmap"),
];
/// Fetches what is missing.
///
/// # Errors
/// A registry cannot be reached, or does not have what it should.
pub(super) fn ensure(places: &Tools) -> Result<()> {
    let complete = TOOL_PROGRAMS
        .iter()
        .all(|name| places.tools.join(name).is_file());
    if complete {
        return Ok(());
    }
    // Beside its destination, so that moving it there is one step.
    let partial = places.tools.with_extension("partial");
    let _old = fs::remove_dir_all(&partial);
    let fetched = fetch(&partial, &places.tools);
    let _gone = fs::remove_dir_all(&partial);
    fetched
}

fn fetch(partial: &Path, destination: &Path) -> Result<()> {
    let debian = partial.join("debian");
    apt()?.unpack(
        "container runtime, network plugins, etcd, Prometheus (Debian)",
        &PACKAGES.map(str::to_owned),
        &debian,
    )?;
    let ready = partial.join("ready");
    for (member, name) in MEMBERS {
        take(&debian.join(member), &ready.join(name))?;
    }
    let _incomplete = fs::remove_dir_all(destination);
    fs::rename(&ready, destination)
        .with_context(|| format!("moving the tools to {}", destination.display()))
}

fn take(from: &Path, to: &Path) -> Result<()> {
    let moving = || format!("moving {} to {}", from.display(), to.display());
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(moving)?;
    }
    fs::rename(from, to).with_context(moving)
}
