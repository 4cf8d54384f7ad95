//! The guest's first and only file system: a shell, the agent, the services, and what they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_image::{Sysroot, Tree};
use hoptrace_lab::load::{LoadSpec, Schedule};

use super::cpio;
use super::store::{Kernel, Store};
use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

/// The guest's first process.
const INIT: &str = include_str!("init.sh");
/// What runs in the guest.
const PROGRAMS: [&str; 4] = [
    "hoptrace",
    "capitol-info",
    "hoptrace-load",
    "hoptrace-relay",
];
/// What init mounts something on.
const MOUNT_POINTS: [&str; 4] = ["/dev", "/proc", "/sys", "/tmp"];

/// One run of load in the guest.
pub(super) struct Traffic {
    /// The file that init hands to the generator, and the client's container.
    pub(super) name: &'static str,
    /// Port of the server's pod.
    port: u16,
    /// Connections, each with one request in flight.
    connections: usize,
    /// Requests in all.
    pub(super) requests: u32,
    /// How long the app sleeps in each, milliseconds.
    pub(super) delay_ms: u32,
}

/// Straight to the app.
pub(super) const DIRECT: Traffic = Traffic {
    name: "direct",
    port: 8080,
    connections: 1,
    requests: 50,
    delay_ms: 20,
};
/// Through a sidecar with two workers.
pub(super) const RELAYED: Traffic = Traffic {
    name: "relayed",
    port: 15006,
    connections: 2,
    requests: 60,
    delay_ms: 30,
};

impl Traffic {
    fn spec(&self) -> LoadSpec {
        LoadSpec {
            url: format!(
                "http://10.9.0.2:{}/capitols?limit=1&delay_ms={}",
                self.port, self.delay_ms
            ),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            connections: self.connections,
            schedule: Schedule::Count(u64::from(self.requests)),
            request_ids: true,
        }
    }
}

/// Builds the programs.
///
/// # Errors
/// One does not build.
pub(super) fn build() -> Result<()> {
    setup::ensure()?;
    ebpf::build()?;
    let mut command = host_cargo("build");
    command.args(["--package", "tracer-user", "--bin", "hoptrace"]);
    run::shown("agent", &mut command)?;
    let mut command = host_cargo("build");
    command.args(["--package", "hoptrace-lab", "--bins"]);
    run::shown("services of the lab", &mut command)
}

/// What all guests have in common: the shell, the programs without their symbols, and the libraries
/// that those load.
///
/// # Errors
/// One is not there, or cannot be read.
pub(super) fn common(store: &Store) -> Result<Tree> {
    let sysroot = Sysroot::host()?;
    let mut tree = Tree::new();
    for directory in MOUNT_POINTS {
        tree.directory(directory, 0o755)?;
    }
    for name in PROGRAMS {
        let program = stripped(&paths::cargo_target().join("debug").join(name))?;
        tree.program(&format!("/bin/{name}"), &program, &sysroot)?;
    }
    for traffic in [DIRECT, RELAYED] {
        let spec = serde_json::to_vec(&traffic.spec()).context("writing a load's spec")?;
        tree.bytes(&format!("/{}.json", traffic.name), spec, 0o644)?;
    }
    // busybox has one that knows less.
    let setpriv = paths::on_path("setpriv")
        .context("no setpriv on PATH: install util-linux (`cargo xtask setup` brings it)")?;
    tree.program("/usr/bin/setpriv", &setpriv, &sysroot)?;
    let busybox = store.busybox();
    let output = Command::new(&busybox)
        .arg("--list")
        .output()
        .context("cannot start busybox")?;
    tree.file("/bin/busybox", busybox, 0o755)?;
    let applets = String::from_utf8_lossy(&output.stdout);
    for applet in applets.lines().filter(|name| *name != "busybox") {
        tree.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    tree.bytes("/init", INIT, 0o755)?;
    Ok(tree)
}

/// The archive for one kernel: with its own module.
///
/// # Errors
/// A file cannot be read.
pub(super) fn archive(common: &Tree, kernel: &Kernel) -> Result<Vec<u8>> {
    let mut tree = common.clone();
    tree.file("/veth.ko", kernel.veth(), 0o644)?;
    cpio::archive(&tree)
}

/// Symbols are most of a program, and a guest's memory is small.
fn stripped(program: &Path) -> Result<PathBuf> {
    let to = paths::target().join("kernels");
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    let to = to.join(program.file_name().unwrap_or_default());
    let output = Command::new("strip")
        .arg("-o")
        .arg(&to)
        .arg(program)
        .output()
        .context("cannot start strip: install binutils (`cargo xtask setup` brings it with gcc)")?;
    if !output.status.success() {
        bail!(
            "cannot strip {}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_finds_the_specs_by_name() {
        for traffic in [DIRECT, RELAYED] {
            assert!(INIT.contains(&format!("</{}.json", traffic.name)));
            assert!(INIT.contains(&format!("run client {} ", traffic.name)));
        }
    }
}
