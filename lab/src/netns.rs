//! Network namespaces: made and removed by `ip`, entered by a thread of its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host;
use crate::topology::{GATEWAY_V4, GATEWAY_V6, Pod, all_netns, node_netns};

/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

/// The file that stands for a namespace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Opens a namespace, to be entered later.
pub(crate) fn open(name: &str) -> Result<File> {
    let path = path(name);
    File::open(&path).with_context(|| format!("cannot open network namespace {}", path.display()))
}

/// Does something in a namespace, in a thread that ends afterwards: a thread cannot be trusted
/// with other work once it has moved.
///
/// # Errors
/// The namespace cannot be entered, or the work fails.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = open(name)?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter network namespace {name}"))?;
            work()
        });
        worker
            .join()
            .map_err(|_panic| anyhow!("the work in network namespace {name} panicked"))?
    })
}

/// Whether this kernel knows IPv6; without it the lab has IPv4 only.
#[must_use]
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

/// Makes the namespaces of a lab, with every pod on a bridge in the node's namespace.
pub(crate) fn create(lab: &str) -> Result<()> {
    let node = node_netns(lab);
    let mut node_commands = format!(
        "link set lo up\n\
         link add br0 type bridge\n\
         addr add {GATEWAY_V4}/24 dev br0\n\
         link set br0 up\n"
    );
    // Duplicate address detection would keep addresses unusable for a second or two.
    if has_ipv6() {
        node_commands += &format!("addr add {GATEWAY_V6}/64 dev br0 nodad\n");
    }
    let names = all_netns(lab);
    let adds: String = names
        .iter()
        .map(|name| format!("netns add {name}\n"))
        .collect();
    batch(None, &adds)?;
    for pod in Pod::ALL {
        let (netns, port) = (pod.netns(lab), pod.short());
        node_commands += &format!(
            "link add veth-{port} type veth peer name eth0 netns {netns}\n\
             link set veth-{port} master br0 up\n"
        );
    }
    batch(Some(&node), &node_commands)?;
    for pod in Pod::ALL {
        let mut commands = format!(
            "link set lo up\n\
             addr add {}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {GATEWAY_V4}\n",
            pod.ip_v4()
        );
        if has_ipv6() {
            // A sidecar reaches its app from `::6`, as from 127.0.0.6.
            commands += &format!(
                "addr add {}/64 dev eth0 nodad\n\
                 addr add ::6/128 dev lo nodad\n\
                 route add default via {GATEWAY_V6}\n",
                pod.ip_v6()
            );
        }
        batch(Some(&pod.netns(lab)), &commands)?;
    }
    Ok(())
}

/// Removes the namespaces of a lab that are there.
pub(crate) fn remove(lab: &str) -> Result<()> {
    let there = all_netns(lab)
        .into_iter()
        .filter(|name| path(name).exists());
    let deletes: String = there.map(|name| format!("netns del {name}\n")).collect();
    if deletes.is_empty() {
        return Ok(());
    }
    batch(None, &deletes)
}

/// Hands commands to `ip`, one a line; it stops at the first that fails.
pub(crate) fn batch(netns: Option<&str>, commands: &str) -> Result<()> {
    let mut ip = Command::new(host::program("ip")?);
    if let Some(netns) = netns {
        ip.args(["-netns", netns]);
    }
    let place = netns.map_or(String::new(), |name| format!(" in {name}"));
    let what = || format!("`ip`{place}");
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // When it died early, its own complaint below says more than a broken pipe.
        let _broken = stdin.write_all(commands.as_bytes());
    }
    let output = child.wait_with_output().with_context(what)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let line = failed_line(&complaint).and_then(|number| commands.lines().nth(number - 1));
        bail!(
            "`ip {}`{place} failed: {}",
            line.unwrap_or("-batch"),
            complaint.lines().collect::<Vec<_>>().join("; ")
        );
    }
    Ok(())
}

/// `Command failed -:3` names the line.
fn failed_line(complaint: &str) -> Option<usize> {
    let number = complaint.split("Command failed -:").nth(1)?;
    number
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_command_is_found() {
        assert_eq!(
            failed_line("RTNETLINK: File exists\nCommand failed -:3\n"),
            Some(3)
        );
        assert_eq!(failed_line("Command failed -:0"), None);
        assert_eq!(failed_line("no such thing"), None);
    }
}
