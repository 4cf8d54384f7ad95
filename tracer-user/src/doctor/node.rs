//! What this process may do on the node and what it sees of it: capabilities, mounts, namespaces.

use super::Check;
use crate::mounts;
use crate::privilege::{self, Capability};
use aya::maps::{Array, MapData};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Inode number of the initial pid namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What needs each capability, and what is lost without it.
const CAPABILITIES: [(Capability, &str, &str); 3] = [
    (
        Capability::CAP_BPF,
        "CAP_BPF",
        "everything: programs cannot be loaded",
    ),
    (
        Capability::CAP_PERFMON,
        "CAP_PERFMON",
        "the split of hops into queue and processing",
    ),
    (
        Capability::CAP_NET_ADMIN,
        "CAP_NET_ADMIN",
        "everything: cgroup hooks cannot be attached",
    ),
];

pub(super) fn checks() -> Vec<Check> {
    let pid_namespace = fs::metadata("/proc/self/ns/pid")
        .ok()
        .map(|found| found.ino());
    let mut checks: Vec<_> = CAPABILITIES.into_iter().map(capability).collect();
    checks.extend([
        accounting(),
        maps(),
        cgroup2(),
        namespace(pid_namespace),
        tracefs(),
    ]);
    checks
}

fn capability((capability, name, lost): (Capability, &'static str, &'static str)) -> Check {
    // Before 5.8 CAP_SYS_ADMIN stood for CAP_BPF and CAP_PERFMON, and it still does.
    let stands_in =
        capability != Capability::CAP_NET_ADMIN && privilege::has(Capability::CAP_SYS_ADMIN);
    if privilege::has(capability) {
        Check::ok(name, "effective")
    } else if stands_in {
        Check::ok(name, "CAP_SYS_ADMIN stands for it")
    } else if capability == Capability::CAP_PERFMON {
        Check::degraded(
            name,
            "not effective",
            lost,
            "run the agent with --read-hook off, or as root, or add it to the container's \
             securityContext.capabilities.add",
        )
    } else {
        Check::missing(
            name,
            "not effective",
            lost,
            "run as root, or add it to the container's securityContext.capabilities.add",
        )
    }
}

fn accounting() -> Check {
    let name = "CAP_SYS_ADMIN";
    if privilege::has(Capability::CAP_SYS_ADMIN) {
        return Check::ok(name, "effective: bpf_stats can be switched on");
    }
    // Optional by design: the agent is meant to run without it.
    Check::ok(name, "not effective, and not needed unless bpf_stats is on")
}

/// Whether a thread without capabilities may look into a map whose descriptor it holds: then the agent
/// needs none once it is attached.
fn maps() -> Check {
    let name = "maps without capabilities";
    let found = match Array::<MapData, u32>::create(1, 0) {
        Ok(map) if privilege::works_without_any(|| map.get(&0, 0).is_ok()) => {
            return Check::ok(name, "readable");
        }
        Ok(_) => "not readable".to_owned(),
        Err(error) => format!("cannot be probed: {error}"),
    };
    Check::degraded(
        name,
        found,
        "nothing of the figures; CAP_BPF is kept while the agent runs",
        "run a kernel from 5.19 on",
    )
}

fn cgroup2() -> Check {
    let name = "cgroup v2";
    match mounts::cgroup2() {
        Ok(path) => Check::ok(name, path.display().to_string()),
        Err(error) => Check::missing(
            name,
            error.to_string(),
            "everything: sockets are reached through their cgroup",
            "mount -t cgroup2 none /sys/fs/cgroup, or mount the node's into the container",
        ),
    }
}

fn namespace(inode: Option<u64>) -> Check {
    let name = "pid namespace";
    match inode {
        Some(INITIAL_PID_NAMESPACE) => Check::ok(name, "the node's"),
        _ => Check::degraded(
            name,
            "the container's own",
            "names of processes, and so which of them are sidecars",
            "set hostPID: true in the pod",
        ),
    }
}

fn tracefs() -> Check {
    let name = "tracefs";
    // The read hook is a BTF tracepoint and needs no tracefs, so its absence costs nothing.
    match mounts::tracefs() {
        Ok(Some(path)) => Check::ok(name, format!("{}, not needed", path.display())),
        _ if Path::new("/sys/kernel/tracing").exists() => Check::ok(
            name,
            "not mounted, could be at /sys/kernel/tracing, not needed",
        ),
        _ => Check::ok(name, "not there, not needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn only_the_initial_pid_namespace_shows_every_process() {
        assert_eq!(namespace(Some(4_026_531_836)).status, Status::Ok);
        assert_eq!(namespace(Some(4_026_532_000)).status, Status::Degraded);
        assert_eq!(namespace(None).status, Status::Degraded);
    }
}
