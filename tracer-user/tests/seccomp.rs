//! The seccomp profile that `deploy/` ships, with the real runc: the agent runs under it.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod markdown;
mod mesh;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoptrace_lab::{free_port, http};
use markdown::root;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

fn profile() -> Value {
    let text = fs::read_to_string(root().join("deploy/seccomp/hoptrace.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether containers can be started; says why not.
fn can_run(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        mesh::skip(test, "it needs root");
        return false;
    }
    if Command::new("runc").arg("--version").output().is_err() {
        mesh::skip(test, "runc is not installed");
        return false;
    }
    true
}

/// A container of this machine's programs, with the agent's three capabilities; gone when dropped.
struct Container {
    id: String,
    child: Child,
    _bundle: tempfile::TempDir,
}

impl Container {
    fn start(test: &str, seccomp: &Value, arguments: &[&str]) -> Self {
        let bundle = tempfile::tempdir().unwrap();
        let config = specification(bundle.path(), seccomp, arguments);
        fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
        let id = format!("hoptrace-{test}-{}", std::process::id());
        let child = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(bundle.path())
            .arg(&id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            id,
            child,
            _bundle: bundle,
        }
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("runc");
        let status = kill.args(["kill", &self.id, signal]).status().unwrap();
        assert!(status.success());
    }

    /// Whether it ended well, and what it said.
    fn end(&mut self) -> (bool, String) {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < LIMIT, "{} does not end", self.id);
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut said = String::new();
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        std::io::Read::read_to_string(&mut stdout.unwrap(), &mut said).unwrap();
        std::io::Read::read_to_string(&mut stderr.unwrap(), &mut said).unwrap();
        (self.child.wait().unwrap().success(), said)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // When it has ended by itself there is nothing left to delete, and runc complains.
        let _gone = Command::new("runc")
            .args(["delete", "--force", &self.id])
            .stderr(Stdio::null())
            .status();
        let _reaped = self.child.wait();
    }
}

/// Makes the root of a container below `bundle`, and says what runc has to do.
fn specification(bundle: &Path, seccomp: &Value, arguments: &[&str]) -> Value {
    let rootfs = bundle.join("rootfs");
    for directory in ["usr", "proc", "sys", "dev", "agent", "host/cgroup"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["ro", "nosuid", "noexec", "nodev"]}),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_hoptrace"));
    let mut bind = |source: &Path, destination: &str| {
        mounts.push(
            json!({"destination": destination, "type": "bind", "source": source,
            "options": ["rbind", "ro"]}),
        );
    };
    bind(Path::new("/usr"), "/usr");
    bind(program.parent().unwrap(), "/agent");
    bind(Path::new("/sys/fs/cgroup"), "/host/cgroup");
    for directory in ["lib", "lib64"] {
        let host = Path::new("/").join(directory);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, rootfs.join(directory)).unwrap(),
            Err(_) => bind(&host, host.to_str().unwrap()),
        }
    }
    let mut words = vec!["/agent/hoptrace"];
    words.extend(arguments);
    let capabilities = json!(["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": words,
            "env": ["PATH=/agent"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounts,
        "linux": {
            // Without a network of its own: the test asks for its metrics.
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}],
            "seccomp": seccomp,
        },
    })
}

#[test]
fn the_agent_runs_under_the_profile() {
    let test = "the_agent_runs_under_the_profile";
    if !can_run(test) {
        return;
    }
    let mut doctor = Container::start("doctor", &profile(), &["doctor"]);
    let (_ran, said) = doctor.end();
    assert!(said.contains("The agent can run here"), "{said}");

    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let listen = format!("--listen={address}");
    let mut agent = Container::start("agent", &profile(), &["agent", &listen]);
    let started = Instant::now();
    let ready = loop {
        match http::get(address, "/readyz", LIMIT) {
            Ok(answer) => break answer,
            Err(error) => assert!(started.elapsed() < LIMIT, "{error:#}: {}", agent.end().1),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ready.code, 200);
    let metrics = http::get(address, "/metrics", LIMIT).unwrap();
    assert!(metrics.body.contains("hoptrace_records_total"));
    agent.signal("TERM");
    let (well, said) = agent.end();
    assert!(well && said.contains("every capability dropped"), "{said}");
}

#[test]
fn without_bpf_it_would_not() {
    if !can_run("without_bpf_it_would_not") {
        return;
    }
    let mut profile = profile();
    for group in profile["syscalls"].as_array_mut().unwrap() {
        let names = group["names"].as_array_mut().unwrap();
        names.retain(|name| name != "bpf");
    }
    let groups = profile["syscalls"].as_array_mut().unwrap();
    groups.retain(|group| !group["names"].as_array().unwrap().is_empty());
    let mut doctor = Container::start("nobpf", &profile, &["doctor"]);
    let (_ran, said) = doctor.end();
    assert!(said.contains("The agent cannot run here"), "{said}");
}

#[test]
fn each_call_is_named_once() {
    let profile = profile();
    let groups = profile["syscalls"].as_array().unwrap();
    let mut names: Vec<_> = groups
        .iter()
        .flat_map(|group| group["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    let page = fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    assert!(page.contains(&format!("{all} calls")), "{all} calls");
    // Nothing that would let it out of its container.
    for call in [
        "mount",
        "ptrace",
        "setns",
        "unshare",
        "init_module",
        "kexec_load",
        "keyctl",
    ] {
        assert!(!names.contains(&call), "{call}");
    }
}
