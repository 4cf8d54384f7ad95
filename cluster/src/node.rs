//! The node as the kernel knows it: a network namespace, a mount namespace that one process holds,
//! and a cgroup in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hoptrace_lab::spawn::{self, Place};
use hoptrace_lab::{cgroup, host, wait};

use crate::layout::{CGROUP, CGROUP_NODE, Layout, NODE_ADDRESS, NODE_NETNS, namespace};
use crate::tools::Tools;

/// Mounting is a matter of milliseconds.
const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// Where the node's programs look for other programs; containerd for runc and its shim.
const PATH: &str =
    "/run/hoptrace/tools/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `$0` is ours as the machine sees it, `$1` Kubernetes' programs, `$2` the rest. The mounts are
/// shared among themselves, as the kubelet wants it, and with nobody else.
const HOLD: &str = r#"set -e
mount --bind "$1" "$0/run/hoptrace/kubernetes"
mount --bind "$2" "$0/run/hoptrace/tools"
mount --rbind "$0/run" /run
mount --bind "$0/var-lib" /var/lib
mount --bind "$0/var-log" /var/log
# Where it leads into /run, it leads nowhere now: then this machine is asked for names too.
if [ -e /etc/resolv.conf ]; then mount --bind "$0/run/hoptrace/etc/resolv.conf" /etc/resolv.conf; fi
mount --make-rshared /
touch /run/hoptrace/ready
exec sleep infinity
"#;

/// Makes network, cgroups and directories.
///
/// # Errors
/// Something is there already, or cannot be made.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    for name in ["etc", "kubernetes", "tools"] {
        let dir = layout.file(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    for (dir, _) in layout.mounts() {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // Nobody resolves names here, and who asks is told so at once: pods know services by their
    // variables.
    let resolver = layout.file("etc/resolv.conf");
    fs::write(&resolver, format!("nameserver {NODE_ADDRESS}\n"))
        .with_context(|| format!("cannot write {}", resolver.display()))?;
    for root in cgroup_roots()? {
        let dir = root.join(CGROUP);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    cgroup::create(&host::cgroup2()?.join(CGROUP).join(CGROUP_NODE))?;
    network()
}

/// The node's address is on one end of a pair whose other end is on the node too: there is nobody
/// outside, but a default route, which programs look for.
fn network() -> Result<()> {
    ip(&["netns", "add", NODE_NETNS])?;
    let address = format!("{NODE_ADDRESS}/32");
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &[
            "link", "add", "node0", "type", "veth", "peer", "name", "outside0",
        ],
        &["link", "set", "outside0", "up"],
        &["addr", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        &["route", "add", "default", "dev", "node0"],
        // Where the kubelet would look for a cloud, for ten seconds.
        &["route", "add", "unreachable", "169.254.169.254"],
    ] {
        ip(&[&["-netns", NODE_NETNS], arguments].concat())?;
    }
    hoptrace_lab::netns::within(NODE_NETNS, || {
        setting("net/ipv4/ip_forward", "1")?;
        // Answers of a service's pod to another pod of the bridge must pass the node's rules.
        if Path::new("/proc/sys/net/bridge").is_dir() {
            setting("net/bridge/bridge-nf-call-iptables", "1")?;
        }
        Ok(())
    })
}

fn setting(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new(host::program("ip")?)
        .args(arguments)
        .output()
        .context("cannot start ip")?;
    if !output.status.success() {
        bail!(
            "`ip {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Removes the network, if it is there.
///
/// # Errors
/// It stays.
pub(crate) fn remove_network() -> Result<()> {
    if hoptrace_lab::netns::path(NODE_NETNS).exists() {
        ip(&["netns", "del", NODE_NETNS])?;
    }
    Ok(())
}

/// Where hierarchies of cgroups are mounted, of either version.
///
/// # Errors
/// /proc is not mounted.
pub(crate) fn cgroup_roots() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let target = fields.next()?;
            fields
                .next()?
                .starts_with("cgroup")
                .then(|| PathBuf::from(target))
        })
        .collect())
}

/// Starts the process that holds the mount namespace, and waits until it is complete.
///
/// # Errors
/// A mount fails.
pub(crate) fn hold(layout: &Layout, tools: &Tools) -> Result<Child> {
    let mut command = Command::new(host::program("unshare")?);
    command.args(["--mount", "--propagation", "private", "sh", "-c", HOLD]);
    command
        .arg(&layout.dir)
        .arg(&tools.kubernetes)
        .arg(&tools.tools);
    let log = layout.log("node");
    spawn::log_to(&mut command, &log)?;
    let mut child = spawn::spawn(&mut command, place(&node_cgroup()?))?;
    let ready = layout.file("ready");
    wait::until("the node's mounts", HOLD_LIMIT, || {
        if let Some(status) = child.try_wait()? {
            bail!(
                "the node's mounts cannot be made ({status}):{}",
                spawn::last_words(&log)
            );
        }
        Ok(ready.exists().then_some(()))
    })?;
    Ok(child)
}

/// Starts a program in the node.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(holder: u32, program: &str, arguments: &[String], log: &Path) -> Result<Child> {
    let mut command = enter(holder, program)?;
    command.args(arguments);
    spawn::log_to(&mut command, log)?;
    spawn::spawn(&mut command, place(&node_cgroup()?))
}

/// A program of the node to be run to its end, outside the node's cgroup.
///
/// # Errors
/// There is no `nsenter`.
pub(crate) fn enter(holder: u32, program: &str) -> Result<Command> {
    let mut command = Command::new(host::program("nsenter")?);
    let (mounts, network) = (namespace(holder, "mnt"), namespace(holder, "net"));
    command
        .arg(format!("--mount={}", mounts.display()))
        .arg(format!("--net={}", network.display()))
        .args(["--", program])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .current_dir("/");
    Ok(command)
}

fn node_cgroup() -> Result<PathBuf> {
    Ok(host::cgroup2()?.join(CGROUP).join(CGROUP_NODE))
}

fn place(cgroup: &Path) -> Place<'_> {
    Place {
        netns: NODE_NETNS,
        cgroup: Some(cgroup),
        user: 0,
    }
}
