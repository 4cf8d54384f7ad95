//! Whether this machine lets a node be made at all: asked in seconds, before anything is fetched or
//! built, because a sandbox may permit less than root may expect.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hoptrace_lab::host;

use crate::layout::Layout;
use crate::node;

/// Controllers that the kubelet and the runtime do not do without.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
/// In a namespace of mounts of its own, which takes everything down again. `$0` is a directory.
const TRY_MOUNTS: &str = r#"set -e
mount --make-rprivate /
mount -t tmpfs none "$0"
mkdir "$0/from" "$0/to"
mount --bind "$0/from" "$0/to"
mount -t proc none "$0/to"
"#;
/// `$0` is a directory on the disk that images are unpacked to.
const TRY_OVERLAY: &str = r#"set -e
mkdir "$0/lower" "$0/upper" "$0/work" "$0/merged"
mount -t overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" none "$0/merged"
umount "$0/merged"
"#;

/// # Errors
/// Something is not permitted: the error names the first such thing.
pub fn check() -> Result<()> {
    host::need_root()?;
    cgroups()
        .and_then(|()| network())
        .and_then(|()| mounts())
        .context(
            "no Kubernetes can run on this machine, which does not permit all that containers \
             take; take one where root has every capability, or a container that is privileged",
        )
}

fn cgroups() -> Result<()> {
    let unified = host::cgroup2()?;
    let offered = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    for controller in CONTROLLERS {
        // In version 2 the account is a part of the controller of processor time.
        let name = controller.strip_suffix("acct").unwrap_or(controller);
        let in_v2 = offered.split_whitespace().any(|other| other == name);
        ensure!(
            in_v2 || mounted(controller)?,
            "the controller {controller} of control groups is not to be had"
        );
    }
    for root in node::cgroup_roots()? {
        let dir = root.join("hoptrace-permitted");
        fs::create_dir_all(&dir)
            .and_then(|()| fs::remove_dir(&dir))
            .with_context(|| format!("cannot make a control group in {}", root.display()))?;
    }
    Ok(())
}

/// Whether a controller of version 1 is mounted, perhaps together with another: `cpu,cpuacct`.
fn mounted(controller: &str) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    Ok(mounts.lines().any(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let is_v1 = fields.get(2) == Some(&"cgroup");
        let options = fields.get(3).copied().unwrap_or_default();
        is_v1 && options.split(',').any(|option| option == controller)
    }))
}

/// A network namespace, a pair of interfaces and a bridge, as the network plugin makes them.
fn network() -> Result<()> {
    let ip = host::program("ip")?;
    let script = format!(
        "set -e; ip={}; $ip link add outside0 type veth peer name inside0; $ip link add cni0 type \
         bridge; $ip link set inside0 master cni0",
        ip.display()
    );
    shell("making network interfaces", &["--net"], &script, "sh")
}

fn mounts() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("hoptrace-permitted-{}", std::process::id()));
    let making = || format!("cannot make {}", dir.display());
    fs::create_dir(&dir).with_context(making)?;
    let done = shell(
        "mounting",
        &["--mount"],
        TRY_MOUNTS,
        &dir.display().to_string(),
    );
    fs::remove_dir(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    done
}

/// Whether images can be layered on the cluster's disk; copying them whole takes longer.
pub(crate) fn has_overlay(layout: &Layout) -> Result<bool> {
    let dir = layout.dir.join("overlay");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let place = dir.display().to_string();
    let tried = shell("layering file systems", &["--mount"], TRY_OVERLAY, &place);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(tried.is_ok())
}

/// Runs a script in namespaces of its own.
fn shell(what: &str, namespaces: &[&str], script: &str, argument: &str) -> Result<()> {
    let output = Command::new(host::program("unshare")?)
        .args(namespaces)
        .args(["sh", "-c", script, argument])
        .current_dir(Path::new("/"))
        .output()
        .context("cannot start unshare")?;
    if !output.status.success() {
        bail!(
            "{what} is refused: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_complains_of_is_told() {
        let error = shell("it", &[], "echo no >&2; exit 1", "sh").unwrap_err();
        assert_eq!(error.to_string(), "it is refused: no");
    }
}
