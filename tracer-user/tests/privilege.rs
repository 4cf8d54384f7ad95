//! Three capabilities to start, none afterwards; a clear word for each that is missing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoptrace_lab::{free_port, http};

const ALL: &str = "+bpf,+perfmon,+net_admin";

/// The agent where an ordinary user may run it; gone with the value.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            mesh::skip(name, "it needs root");
            return None;
        }
        let path = std::env::temp_dir().join(format!("hoptrace-{name}-{}", std::process::id()));
        // By a process of its own: what other tests start meanwhile would inherit the open file, and nobody can
        // execute a file that somebody may write.
        let mut cp = Command::new("cp");
        let status = cp.arg(env!("CARGO_BIN_EXE_hoptrace")).arg(&path).status();
        assert!(status.unwrap().success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self(path))
    }

    /// Gives it file capabilities.
    fn set_file_capabilities(&self, text: &str) {
        let mut setcap = Command::new("/usr/sbin/setcap");
        let status = setcap.arg(text).arg(&self.0).status().unwrap();
        assert!(status.success());
    }

    /// Starts the agent as `nobody`, who gets nothing by himself; only these may be had.
    fn start_bare(&self, bounding: &str, port: u16) -> Child {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(format!("--bounding-set=-all,{bounding}"))
            .arg(&self.0)
            .args(["agent", "--listen", &format!("127.0.0.1:{port}")]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the agent as `nobody` with these capabilities only.
    fn start(&self, capabilities: &str, port: u16, args: &[&str]) -> Child {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
        ]);
        for set in ["inh-caps", "ambient-caps", "bounding-set"] {
            command.arg(format!("--{set}=-all,{capabilities}"));
        }
        command.arg(&self.0).arg("agent").args(args);
        command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn wait_ready(child: &mut Child, port: u16) {
    let started = Instant::now();
    let address = ([127, 0, 0, 1], port).into();
    let limit = Duration::from_secs(1);
    while http::get(address, "/readyz", limit).map_or(true, |answer| answer.code != 200) {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{status}: {}", words(child));
        }
        assert!(started.elapsed() < Duration::from_secs(20), "not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn words(child: &mut Child) -> String {
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn effective(pid: u32) -> Vec<String> {
    let mut sets = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let caps = status
            .lines()
            .filter(|line| line.starts_with("CapEff") || line.starts_with("CapPrm"));
        sets.extend(caps.map(|line| line.split_whitespace().last().unwrap().to_owned()));
    }
    sets
}

#[test]
fn runs_as_nobody_and_keeps_nothing() {
    let Some(copy) = Copy::new("nobody") else {
        return;
    };
    for (capabilities, args) in [
        (ALL, &[][..]),
        // Without the read hook there is no tracing program.
        ("+bpf,+net_admin", &["--read-hook", "off"][..]),
    ] {
        let port = free_port().unwrap();
        let mut child = copy.start(capabilities, port, args);
        wait_ready(&mut child, port);
        let sets = effective(child.id());
        assert!(!sets.is_empty());
        assert!(
            sets.iter()
                .all(|set| set.trim_start_matches('0').is_empty()),
            "{sets:?}"
        );
        // Counters of the kernel side are read without any capability.
        let answer = http::get(
            ([127, 0, 0, 1], port).into(),
            "/metrics",
            Duration::from_secs(5),
        );
        assert!(answer.unwrap().body.contains("hoptrace_records_total "));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn each_missing_capability_is_named() {
    let Some(copy) = Copy::new("missing") else {
        return;
    };
    for (capabilities, missing) in [
        ("+perfmon,+net_admin", "CAP_BPF"),
        ("+bpf,+net_admin", "CAP_PERFMON"),
        ("+bpf,+perfmon", "CAP_NET_ADMIN"),
    ] {
        let mut child = copy.start(capabilities, free_port().unwrap(), &[]);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let text = words(&mut child);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&format!("{missing} is missing")), "{text}");
        assert!(text.contains("run as root or add it"), "{text}");
    }
    let mut child = copy.start(ALL, free_port().unwrap(), &["--bpf-stats"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let text = words(&mut child);
    assert!(
        text.contains("CAP_SYS_ADMIN is missing: --bpf-stats needs it"),
        "{text}"
    );
}

/// As in a pod of a user other than root: what is added is in the bounding set, and the file brings
/// it. The runtime's own process still has it permitted when it starts the file, so not even
/// `no_new_privs` stands in the way: nothing is gained.
#[test]
fn file_capabilities_serve_a_user_other_than_root() {
    let Some(copy) = Copy::new("file") else {
        return;
    };
    copy.set_file_capabilities("cap_bpf,cap_net_admin,cap_perfmon=p");
    for no_new_privileges in [false, true] {
        let port = free_port().unwrap();
        let mut child = if no_new_privileges {
            copy.start(ALL, port, &[])
        } else {
            copy.start_bare(ALL, port)
        };
        wait_ready(&mut child, port);
        let sets = effective(child.id());
        assert!(
            sets.iter()
                .all(|set| set.trim_start_matches('0').is_empty()),
            "{sets:?}"
        );
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Why they are permitted only: what is effective from the start must be there from the start, or
/// nothing starts that could say what is missing.
#[test]
fn with_file_capabilities_too_each_missing_one_is_named() {
    let Some(copy) = Copy::new("file-missing") else {
        return;
    };
    copy.set_file_capabilities("cap_bpf,cap_net_admin,cap_perfmon=p");
    for (capabilities, missing) in [
        ("+perfmon,+net_admin", "CAP_BPF"),
        ("+bpf,+net_admin", "CAP_PERFMON"),
        ("+bpf,+perfmon", "CAP_NET_ADMIN"),
    ] {
        let mut child = copy.start_bare(capabilities, free_port().unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let text = words(&mut child);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&format!("{missing} is missing")), "{text}");
        assert!(text.contains("capabilities.add"), "{text}");
    }

    copy.set_file_capabilities("cap_bpf,cap_net_admin,cap_perfmon=ep");
    let mut child = copy.start_bare("+bpf,+perfmon", free_port().unwrap());
    assert!(!child.wait().unwrap().success());
    let text = words(&mut child);
    assert!(text.contains("Operation not permitted"), "{text}");

    // An image that lost them, by a copy that keeps no extended attributes.
    copy.set_file_capabilities("cap_bpf,cap_net_admin,cap_perfmon=");
    let mut child = copy.start_bare(ALL, free_port().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let text = words(&mut child);
    assert!(
        text.contains("CAP_BPF is missing") && text.contains("setcap"),
        "{text}"
    );
}
