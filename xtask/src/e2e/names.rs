//! From `helm install` to the first hop with its names, and the same requests in Envoy's own log.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoptrace_lab::{AccessDirection, AccessEntry};

use super::Figures;
use super::bed::{Bed, DEMO};
use super::witness;
use hoptrace_exposition::Exposition;

/// What the first check promises.
const FIRST_HOP_LIMIT: Duration = Duration::from_secs(30);
const RATE: f64 = 50.0;
const REQUESTS: u64 = 2_000;
/// Envoy counts whole microseconds, at both ends.
const RESOLUTION: f64 = 2.0;

const HOPS: &str = "hoptrace_hop_duration_seconds";
const WHOLE: &str = "hoptrace_request_duration_seconds";

/// # Errors
/// Any of it is not as it should be.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    bed.uninstall()?;
    let load = bed.load(RATE)?;
    let took = first_hop(bed)?;
    figures.say(format!(
        "from `helm install` to the first hop with all its names in Prometheus: {took:.1} s"
    ));
    ensure!(
        took <= FIRST_HOP_LIMIT.as_secs_f64(),
        "the first hop took {took:.1} s, and may take {} s",
        FIRST_HOP_LIMIT.as_secs()
    );
    let outcome = load.stop()?;
    ensure!(
        outcome.failed == 0,
        "requests failed while the agent started: {:?}",
        outcome.failures
    );
    let ((), seen) = witness::watch(bed, || counted(bed, figures))?;
    figures.say(seen.judge()?);
    seen.all_named()
}

/// Installs the chart under load; seconds until Prometheus has a hop from one service to the other.
fn first_hop(bed: &Bed) -> Result<f64> {
    let started = Instant::now();
    bed.install(&[])?;
    let labels = [
        "hop=\"sidecar_inbound\"",
        "source_workload=\"capitol-client\"",
        "source_workload_namespace=\"capitol\"",
        "destination_workload=\"capitol-info\"",
        "destination_workload_namespace=\"capitol\"",
        "destination_service_name=\"capitol-info\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    let wanted = format!("{HOPS}_count{{{}}} > 0", labels.join(","));
    bed.prometheus.wait_for(&wanted, FIRST_HOP_LIMIT * 3)?;
    Ok(started.elapsed().as_secs_f64())
}

/// One sidecar: whose log, which entries of it, and the series of the same requests.
struct Sidecar {
    what: &'static str,
    workload: &'static str,
    direction: AccessDirection,
    hop: &'static str,
    source: &'static str,
    destination: &'static str,
}

const SIDECARS: [Sidecar; 3] = [
    Sidecar {
        what: "capitol-client, inbound",
        workload: "capitol-client",
        direction: AccessDirection::In,
        hop: "sidecar_inbound",
        source: "load",
        destination: "capitol-client",
    },
    Sidecar {
        what: "capitol-client, outbound",
        workload: "capitol-client",
        direction: AccessDirection::Out,
        hop: "sidecar_outbound",
        source: "capitol-client",
        destination: "capitol-info",
    },
    Sidecar {
        what: "capitol-info, inbound",
        workload: "capitol-info",
        direction: AccessDirection::In,
        hop: "sidecar_inbound",
        source: "capitol-client",
        destination: "capitol-info",
    },
];

/// A number of requests, of which the agent, Prometheus and Envoy must tell the same.
fn counted(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let agent = bed.ensure_agent()?;
    let before = agent.settled()?;
    let logs_before = logs(bed)?;
    let outcome = bed.requests(REQUESTS)?;
    ensure!(
        outcome.failed == 0,
        "requests failed: {:?}",
        outcome.failures
    );
    let after = agent.settled()?;
    // Envoy writes five times a second.
    std::thread::sleep(Duration::from_millis(500));
    let logs_after = logs(bed)?;
    for sidecar in &SIDECARS {
        let entries = |logs: &Logs| entries(logs, sidecar);
        let (old, all) = (entries(&logs_before)?.len(), entries(&logs_after)?);
        let new = all.get(old..).unwrap_or_default();
        let ours = Ours::between(&before, &after, sidecar);
        compare(sidecar, new, &ours, figures)?;
    }
    in_prometheus(bed, &after)
}

/// Prometheus has what the agent told, label by label.
fn in_prometheus(bed: &Bed, told: &Exposition) -> Result<()> {
    let demo = format!("{WHOLE}_count{{destination_workload_namespace=\"{DEMO}\"}}");
    let wanted = told.sum_where(
        &format!("{WHOLE}_count"),
        &[("destination_workload_namespace", DEMO)],
    );
    let expected = format!("sum({demo}) == {wanted}");
    bed.prometheus
        .wait_for(&expected, Duration::from_secs(10))
        .map(drop)
        .with_context(|| format!("Prometheus has not the agent's {wanted} requests"))
}

struct Logs {
    client: String,
    info: String,
}

fn logs(bed: &Bed) -> Result<Logs> {
    Ok(Logs {
        client: bed.demo_log("deployment/capitol-client", "istio-proxy")?,
        info: bed.demo_log("deployment/capitol-info", "istio-proxy")?,
    })
}

/// The requests of the load in a sidecar's access log; probes are not of them.
fn entries(logs: &Logs, sidecar: &Sidecar) -> Result<Vec<AccessEntry>> {
    let text = match sidecar.workload {
        "capitol-client" => &logs.client,
        _ => &logs.info,
    };
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let entry: AccessEntry = serde_json::from_str(line)
            .with_context(|| format!("no entry of an access log: {line}"))?;
        if entry.direction == sidecar.direction && entry.path.ends_with("/capitols") {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Sums over all requests, seconds.
struct Ours {
    count: f64,
    /// Both legs of the sidecar.
    hop: f64,
    /// The request as its client's pod saw it.
    whole: f64,
    /// At least what lies behind the sidecar.
    behind: f64,
}

impl Ours {
    fn between(before: &Exposition, after: &Exposition, sidecar: &Sidecar) -> Self {
        let ends = [
            ("source_workload", sidecar.source),
            ("destination_workload", sidecar.destination),
        ];
        let grown = |name: &str, labels: &[(&str, &str)]| {
            let labels = [&ends[..], labels].concat();
            after.sum_where(name, &labels) - before.sum_where(name, &labels)
        };
        let sum = |labels: &[(&str, &str)]| grown(&format!("{HOPS}_sum"), labels);
        let source = [("reporter", "source")];
        let hop = sum(&[("hop", sidecar.hop)]);
        let whole = grown(&format!("{WHOLE}_sum"), &source);
        let behind = match sidecar.direction {
            AccessDirection::In => sum(&[("hop", "app")]),
            // Of the two loopback legs only one is on this side of the sidecar.
            AccessDirection::Out => whole - hop - sum(&[("hop", "loopback")]),
        };
        Self {
            count: grown(&format!("{WHOLE}_count"), &source),
            hop,
            whole,
            behind,
        }
    }
}

/// Envoy's clock starts when it has read, and stops before the bytes leave. So what it says of the
/// hop and of the whole request cannot be more than there is, and what it says of the way behind
/// it (to the network and back) cannot be less.
fn compare(
    sidecar: &Sidecar,
    log: &[AccessEntry],
    ours: &Ours,
    figures: &mut Figures,
) -> Result<()> {
    let what = sidecar.what;
    ensure!(
        log.len() as u64 == REQUESTS && ours.count == REQUESTS as f64,
        "{what}: {REQUESTS} requests were sent, Envoy logged {}, hoptrace counted {}",
        log.len(),
        ours.count
    );
    let mean = |of: fn(&AccessEntry) -> Option<u64>| {
        log.iter().filter_map(of).sum::<u64>() as f64 / REQUESTS as f64
    };
    let (admitted, behind, total) = (
        mean(|entry| Some(entry.req_leg_us? + entry.resp_leg_us?)),
        mean(|entry| entry.us_total_us),
        mean(|entry| entry.ds_total_us),
    );
    let [hop, whole, rest] =
        [ours.hop, ours.whole, ours.behind].map(|seconds| seconds * 1e6 / REQUESTS as f64);
    figures.say(format!(
        "{what}: {REQUESTS} requests in both; means in µs: hop {hop:.0}, of which Envoy admits \
         {admitted:.0}; whole {whole:.0}, Envoy {total:.0}; behind it at least {rest:.0}, Envoy \
         {behind:.0}"
    ));
    for (is_so, claim) in [
        (
            admitted <= hop + RESOLUTION,
            "Envoy has more time in the hop than hoptrace",
        ),
        (
            total <= whole + RESOLUTION,
            "Envoy has more time in the request than hoptrace",
        ),
        (
            behind + RESOLUTION >= rest,
            "Envoy has less time behind the hop than hoptrace",
        ),
    ] {
        ensure!(is_so, "{what}: {claim}");
    }
    Ok(())
}
