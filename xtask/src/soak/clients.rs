//! Asking: each kind by a process of its own in the load pod, all at once.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::spawn::{self, APP_USER, Place};
use hoptrace_lab::wire::{Answers, Kind as Wire, Wish};
use hoptrace_lab::{Container, Lab, Pod, Target, bin_dir, http, netns};

use super::kinds::{Client, Kind};

/// Where an Envoy answers about itself, in its pod.
const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15000);
const RAW_PORT: u16 = 9000;

/// Asks each of these kinds its share of so many, all at once, and tells how many it was.
///
/// # Errors
/// One had not the answer that it was to have.
pub(super) fn round(lab: &Lab, kinds: &[Kind], requests: u64) -> Result<Vec<(Kind, u64)>> {
    thread::scope(|scope| {
        let clients: Vec<_> = kinds
            .iter()
            .map(|kind| {
                // Whole pairs on each connection.
                let each = (requests * kind.share / 10_000).div_ceil(kind.connections);
                let each = each.next_multiple_of(2);
                scope.spawn(move || ask(lab, kind, each))
            })
            .collect();
        let answered = clients.into_iter().zip(kinds).map(|(client, kind)| {
            let count = client.join().ok().context("a client panicked")?;
            Ok((*kind, count.with_context(|| kind.name)?))
        });
        answered.collect()
    })
}

fn ask(lab: &Lab, kind: &Kind, each: u64) -> Result<u64> {
    let count = each * kind.connections;
    match kind.client {
        Client::Load(method) => {
            let base = lab.url(Pod::Load, Target::Info);
            let spec = LoadSpec {
                url: base.trim_end_matches('/').to_owned() + kind.path,
                method: method.to_owned(),
                headers: Vec::new(),
                body: "x".repeat(usize::try_from(kind.bytes).context("a body")?),
                connections: usize::try_from(kind.connections).context("connections")?,
                schedule: Schedule::Count(count),
                request_ids: false,
            };
            let report = lab.load(Pod::Load, &spec)?;
            if report.succeeded != count {
                bail!("{} failed: {}", report.failed, report.failures.join("; "));
            }
        }
        Client::Wire(wire) => {
            let answers = wish(lab, kind, wire, each)?;
            if !answers.failures.is_empty() || answers.exchanges.len() as u64 != count {
                bail!(
                    "{} of {count} came: {}",
                    answers.exchanges.len(),
                    answers.failures.join("; ")
                );
            }
        }
    }
    Ok(count)
}

fn wish(lab: &Lab, kind: &Kind, wire: Wire, each: u64) -> Result<Answers> {
    let base = lab.url(Pod::Load, Target::Info);
    let base = base.trim_end_matches('/').trim_start_matches("http://");
    let mut address: SocketAddr = base.parse().context("the address of capitol-info")?;
    if wire == Wire::Raw {
        address = SocketAddr::new(Pod::Info.ip_v4().into(), RAW_PORT);
    }
    let wish = Wish {
        address,
        host: "capitol-info:8080".to_owned(),
        path: kind.path.to_owned(),
        kind: wire,
        count: each,
        connections: kind.connections,
        bytes: kind.bytes,
    };
    let mut command = spawn::from_own_directory(&bin_dir()?.join("hoptrace-wire"))?;
    let mut child = start(lab, command.arg("ask"))?;
    let text = serde_json::to_vec(&wish).context("writing the wish")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).context("writing the wish")?;
    }
    let output = child.wait_with_output().context("waiting for the client")?;
    if !output.status.success() {
        bail!("hoptrace-wire ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("reading the answers")
}

fn start(lab: &Lab, command: &mut Command) -> Result<Child> {
    let cgroup = lab.container_cgroup(Pod::Load, Container::App);
    let place = Place {
        netns: &Pod::Load.netns(&lab.state().name),
        cgroup: Some(&cgroup),
        user: APP_USER,
    };
    spawn::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()), place)
}

/// TLS connections that the load pod's sidecar made to the other one, by its own count.
///
/// # Errors
/// It does not answer.
pub(super) fn connections(lab: &Lab) -> Result<u64> {
    let path = "/stats?filter=^cluster.outbound.8080.*ssl.handshake$";
    let answer = netns::within(&Pod::Load.netns(&lab.state().name), || {
        http::get(ADMIN, path, Duration::from_secs(10))
    })?;
    let counts = answer.body.lines().map(|line| {
        let count = line.rsplit(' ').next().unwrap_or_default();
        let number = count.parse::<u64>();
        number.with_context(|| format!("Envoy's count of handshakes: `{line}`"))
    });
    counts.sum()
}
