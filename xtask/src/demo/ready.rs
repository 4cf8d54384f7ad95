//! What has to be so before anything is started, cheapest first, and the programs.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hoptrace_lab::{clean_stale, envoy, free_port, need_root, signals};

use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

/// Programs of the demonstration.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) agent: PathBuf,
    pub(crate) envoy: PathBuf,
    /// Where the lab's are.
    pub(crate) lab: PathBuf,
}

/// Where things listen, on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) without: u16,
    pub(super) with: u16,
    pub(super) prometheus: u16,
}

/// # Errors
/// This machine or this user cannot do it at all; no set-up would help.
pub(crate) fn machine() -> Result<()> {
    need_root()?;
    let mounts = fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
    let is_cgroup2 = |line: &str| line.split(' ').nth(2) == Some("cgroup2");
    ensure!(
        mounts.lines().any(is_cgroup2),
        "no cgroup v2 hierarchy is mounted, and the agent attaches to one: \
         `mount -t cgroup2 none /sys/fs/cgroup`"
    );
    ensure!(
        fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false),
        "this kernel has no BTF (/sys/kernel/btf/vmlinux), without which time cannot be split \
         into queue and processing: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    );
    Ok(())
}

/// Three ports from the given one on, or any that are free.
///
/// # Errors
/// One of them is taken.
pub(super) fn ports(first: Option<u16>) -> Result<Ports> {
    let Some(first) = first else {
        let [without, with, prometheus] = three_free()?;
        return Ok(Ports {
            without,
            with,
            prometheus,
        });
    };
    let after = |n: u16| {
        let port = first.checked_add(n);
        port.context("--listen-port needs two ports after it: choose one up to 65533")
    };
    let ports = Ports {
        without: first,
        with: after(1)?,
        prometheus: after(2)?,
    };
    for port in [ports.without, ports.with, ports.prometheus] {
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            bail!(
                "port {port} of 127.0.0.1 cannot be had ({error}): choose another --listen-port, \
                 or leave it out for free ones (`ss -ltnp` shows who has it)"
            );
        }
    }
    Ok(ports)
}

/// The kernel hands free ports out at random: twice the same one is unlikely, not impossible.
fn three_free() -> Result<[u16; 3]> {
    for _ in 0..10 {
        let found = [free_port()?, free_port()?, free_port()?];
        let [one, other, third] = found;
        if one != other && other != third && one != third {
            return Ok(found);
        }
    }
    bail!("127.0.0.1 has no three free ports")
}

/// Installs and builds what is missing, and removes what an earlier demonstration that was killed
/// may have left.
///
/// # Errors
/// Something cannot be had; or a signal came.
pub(crate) fn programs() -> Result<Programs> {
    step(setup::ensure)?;
    step(ebpf::build)?;
    let mut build = host_cargo("build");
    build.args(["--release", "--bins"]);
    build.args(["--package", "tracer-user", "--package", "hoptrace-lab"]);
    step(|| run::shown("agent and lab programs, release", &mut build))?;
    let release = paths::cargo_target().join("release");
    let programs = Programs {
        agent: release.join("hoptrace"),
        envoy: envoy::find()?,
        lab: release,
    };
    doctor(&programs)?;
    for name in clean_stale()? {
        eprintln!("✓ lab `{name}`, left by a program that was killed, is down");
    }
    Ok(programs)
}

/// Ctrl-C at a terminal ends the program that runs as well: its failure is then not the news.
fn step(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = work();
    signals::check()?;
    done
}

/// Lets the agent look at the kernel.
fn doctor(programs: &Programs) -> Result<()> {
    let output = Command::new(&programs.agent)
        .arg("doctor")
        .output()
        .with_context(|| format!("cannot start {}", programs.agent.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let findings = |wanted: &str| {
        let lines = text.lines().filter(|line| line.starts_with(wanted));
        lines.collect::<Vec<_>>().join("\n  ")
    };
    match output.status.code() {
        Some(0) => {}
        Some(2) => eprintln!("note: this node offers less:\n  {}", findings("degraded")),
        _ => bail!(
            "the agent cannot run here (`hoptrace doctor`):\n  {}",
            findings("missing")
        ),
    }
    Ok(())
}
