//! Whether a guest's figures are right: counts to the integer, times against the client's own.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use hoptrace_lab::load::LoadReport;
use serde::Deserialize;

use super::console::Console;
use super::image::{DIRECT, RELAYED, Traffic};
use super::release::Series;
use hoptrace_exposition::Exposition;

/// What `hoptrace doctor` may find missing, and how the agent's warning about it begins. Each has a
/// line in docs/kernels.md.
const DEGRADATIONS: [(&str, &str); 4] = [
    ("tp_btf tcp_rcv_space_adjust", "no read hook"),
    ("socket storage in tp_btf", "no read hook"),
    ("current thread in cgroup_skb", "no thread in cgroup_skb"),
    (
        "maps without capabilities",
        "kept: this kernel needs it to read maps",
    ),
];
/// The doctor's check of what CAP_PERFMON is needed for on old kernels.
const PACKETS: &str = "packets in cgroup_skb";
/// What a capability is in a set of the kernel's: CAP_BPF (include/uapi/linux/capability.h).
const CAP_BPF: u64 = 1 << 39;
/// The hops of a request add up to what its client saw, seconds.
const CONSERVED_WITHIN: f64 = 1e-6;

/// What a guest showed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// What the kernel lacks, by `hoptrace doctor`.
    pub(super) lacks: Vec<String>,
    /// Whether hops are split at the read.
    pub(super) reads: bool,
    /// Whether CAP_BPF stays.
    pub(super) keeps_cap_bpf: bool,
    /// Of each traffic, in milliseconds a request: as its client saw it by its own clock, as the
    /// agent saw it, the app, and the sidecar.
    pub(super) means: Vec<[f64; 4]>,
    /// Exchanges that were joined and paired.
    pub(super) exchanges: f64,
    /// What is wrong, in sentences. None: the kernel passed.
    pub(super) faults: Vec<String>,
}

impl Findings {
    fn fault(&mut self, words: impl Into<String>) {
        self.faults.push(words.into());
    }
}

#[derive(Deserialize)]
struct Doctor {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    status: String,
    name: String,
    found: String,
}

/// Judges what a guest said.
pub(super) fn judge(series: &Series, console: &Console) -> Findings {
    let mut findings = Findings::default();
    if let Some(words) = console.panic() {
        findings.fault(format!("the kernel stopped: {words}"));
    }
    if let Some(words) = console.complaint() {
        findings.fault(format!("the kernel complains: {words}"));
    }
    if let Some(words) = console.section("failed") {
        findings.fault(words.trim_end());
    }
    if !console.ended() && findings.faults.is_empty() {
        findings.fault("the guest hung or ended early");
    }
    if findings.faults.is_empty()
        && let Err(error) = examine(series, console, &mut findings)
    {
        findings.fault(format!("{error:#}"));
    }
    findings
}

fn examine(series: &Series, console: &Console, findings: &mut Findings) -> Result<()> {
    let section = |name: &str| {
        console
            .section(name)
            .with_context(|| format!("the guest has no section `{name}`"))
    };
    doctor(series, section("doctor")?, findings)?;
    log(series, section("agent")?, findings);
    if !section("logged")?.contains(" side 1 ports 8080 ") {
        findings.fault("with --bpf-log the programs say nothing of a new socket");
    }
    least(
        series,
        section("least-doctor")?,
        section("least")?,
        findings,
    )?;
    capabilities(series, section("capabilities")?, findings)?;
    let exposition = Exposition::parse(section("metrics")?);
    for traffic in [DIRECT, RELAYED] {
        let text = section(traffic.name)?;
        let report = serde_json::from_str(text)
            .with_context(|| format!("the load generator answers no report but `{text}`"))?;
        requests(&traffic, &report, &exposition, findings)?;
    }
    books(&exposition, findings)
}

fn checks(doctor: &str) -> Result<Vec<Check>> {
    let report: Doctor =
        serde_json::from_str(doctor).with_context(|| format!("the doctor says `{doctor}`"))?;
    Ok(report.checks)
}

fn doctor(series: &Series, text: &str, findings: &mut Findings) -> Result<()> {
    let expected: BTreeSet<_> = series.lacks.iter().copied().collect();
    for check in checks(text)?.iter().filter(|check| check.status != "ok") {
        findings.lacks.push(check.name.clone());
        if !expected.contains(check.name.as_str()) {
            findings.fault(format!(
                "`{}` is {}, and no page says so: {}",
                check.name, check.status, check.found
            ));
        }
    }
    for name in expected {
        if !findings.lacks.iter().any(|found| found == name) {
            findings.fault(format!("`{name}` is there, and the pages say it is not"));
        }
    }
    Ok(())
}

/// With CAP_BPF and CAP_NET_ADMIN alone: the agent attaches, or the doctor says why not.
fn least(series: &Series, doctor: &str, log: &str, findings: &mut Findings) -> Result<()> {
    let attached = log.contains("hooks attached");
    let told = checks(doctor)?
        .iter()
        .any(|check| check.name == PACKETS && check.status == "missing");
    if (attached, told) != (series.least_is_enough, !series.least_is_enough) {
        findings.fault(format!(
            "without CAP_PERFMON the agent {} and the doctor {} `{PACKETS}`: {}",
            if attached {
                "attaches,"
            } else {
                "does not attach,"
            },
            if told { "misses" } else { "does not miss" },
            log.lines().next().unwrap_or_default()
        ));
    }
    Ok(())
}

/// Each degradation is told, and nothing else is warned of.
fn log(series: &Series, text: &str, findings: &mut Findings) {
    let warnings: Vec<_> = text
        .lines()
        .filter(|line| line.contains(" WARN "))
        .collect();
    let told: Vec<_> = DEGRADATIONS
        .iter()
        .filter(|(name, _)| series.lacks.contains(name))
        .map(|(_, words)| *words)
        .collect();
    for words in &told {
        if !warnings.iter().any(|line| line.contains(words)) {
            findings.fault(format!("the agent does not warn `{words}`"));
        }
    }
    for line in warnings {
        if !told.iter().any(|words| line.contains(words)) {
            findings.fault(format!("the agent warns: {line}"));
        }
    }
    if !text.contains("balanced=true") {
        findings.fault("the agent's books do not balance at its end");
    }
}

fn capabilities(series: &Series, text: &str, findings: &mut Findings) -> Result<()> {
    let effective = text
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .with_context(|| format!("no effective capabilities in `{text}`"))?;
    findings.keeps_cap_bpf = effective == CAP_BPF;
    let expected = if series.lacks.contains(&"maps without capabilities") {
        CAP_BPF
    } else {
        0
    };
    if effective != expected {
        findings.fault(format!(
            "the agent's effective capabilities are {effective:#x}, and not {expected:#x}"
        ));
    }
    Ok(())
}

fn requests(
    traffic: &Traffic,
    report: &LoadReport,
    exposition: &Exposition,
    findings: &mut Findings,
) -> Result<()> {
    let wanted = f64::from(traffic.requests);
    let name = traffic.name;
    let request = "hoptrace_request_duration_seconds";
    let hop = "hoptrace_hop_duration_seconds";
    let reads = exposition.sum_where(&format!("{hop}_count"), &[("part", "queue")]) > 0.0;
    findings.reads = reads;
    let mut fault = |words: String| findings.fault(format!("{name}: {words}"));
    if report.succeeded != u64::from(traffic.requests) || report.failed != 0 {
        fault(format!(
            "{} of {wanted} requests were answered: {}",
            report.succeeded,
            report.failures.join("; ")
        ));
    }
    let of = |metric: &str, labels: &[(&str, &str)]| {
        let labels = [&[("source_workload", name)], labels].concat();
        exposition.sum_where(metric, &labels)
    };
    for reporter in ["source", "destination"] {
        let count = of(&format!("{request}_count"), &[("reporter", reporter)]);
        if count != wanted {
            fault(format!(
                "{count} requests by their {reporter}, and not {wanted}"
            ));
        }
    }
    let parts: &[&str] = if reads {
        &["queue", "processing"]
    } else {
        &["whole"]
    };
    let sidecar = traffic.name == RELAYED.name;
    let mut hops = vec![("app", "both", parts), ("network", "both", &["whole"])];
    if sidecar {
        for leg in ["request", "response"] {
            hops.push(("sidecar_inbound", leg, parts));
            hops.push(("loopback", leg, &["whole"]));
        }
    }
    for (hop_name, leg, parts) in hops {
        for part in parts {
            let labels = [("hop", hop_name), ("leg", leg), ("part", part)];
            let count = of(&format!("{hop}_count"), &labels);
            if count != wanted {
                fault(format!(
                    "{count} times of {hop_name} ({leg}, {part}), and not {wanted}"
                ));
            }
        }
    }
    let mean_ms = |sum: f64| sum * 1e3 / wanted;
    let hop_sum = |labels: &[(&str, &str)]| of(&format!("{hop}_sum"), labels);
    let client = report.service.mean_ns / 1e6;
    let source_sum = of(&format!("{request}_sum"), &[("reporter", "source")]);
    let source = mean_ms(source_sum);
    let app = mean_ms(hop_sum(&[("hop", "app")]));
    let in_sidecar = mean_ms(hop_sum(&[("hop", "sidecar_inbound")]));
    let delay = f64::from(traffic.delay_ms);
    // The generator's clock runs around the socket's: the app slept, the request was longer, and its
    // client saw the whole of it.
    if !(delay <= app && app <= source && source <= client) {
        fault(format!(
            "not in order: {delay} ms that the app slept, {app:.3} in the app, {source:.3} for the \
             request, {client:.3} by its client's clock"
        ));
    }
    let lost = source_sum - hop_sum(&[]);
    if lost.abs() > CONSERVED_WITHIN * wanted {
        fault(format!("{lost} s of {source_sum} s are in no hop"));
    }
    // Departures are stamped by TCP, arrivals by us: in two clocks these would be negative, or huge.
    for hop in if sidecar {
        &["network", "loopback", "sidecar_inbound"][..]
    } else {
        &["network"]
    } {
        let time = mean_ms(hop_sum(&[("hop", hop)]));
        if !(time > 0.0 && time <= source - app + 1e-6) {
            fault(format!(
                "{time} ms in {hop}, of {:.3} outside of the app",
                source - app
            ));
        }
    }
    findings.means.push([client, source, app, in_sidecar]);
    Ok(())
}

fn books(exposition: &Exposition, findings: &mut Findings) -> Result<()> {
    // Straight: the sockets of client and server. Relayed: the sidecar's two as well.
    let expected = f64::from(2 * DIRECT.requests + 4 * RELAYED.requests);
    let exchanges = "hoptrace_exchanges_total";
    findings.exchanges = exposition.sum_where(exchanges, &[("result", "paired")]);
    let all = exposition.sum(exchanges)?;
    let by_worker = exposition.sum_where(exchanges, &[("method", "worker_order")]);
    for (what, found, expected) in [
        ("exchanges were joined", findings.exchanges, expected),
        ("exchanges were settled", all, expected),
        (
            "records came",
            exposition.sum("hoptrace_records_total")?,
            expected,
        ),
        (
            "exchanges wait",
            exposition.sum("hoptrace_exchanges_pending")?,
            0.0,
        ),
        (
            "records were lost",
            exposition.sum("hoptrace_records_lost_total")?,
            0.0,
        ),
    ] {
        if found != expected {
            findings.fault(format!("{found} {what}, and not {expected}"));
        }
    }
    if by_worker <= 0.0 {
        findings.fault("nothing was paired by the sidecar's workers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::release::SERIES;
    use super::*;

    /// What a guest with Linux 6.1 said.
    const GUEST: &str = include_str!("guest.example.txt");

    fn series(name: &str) -> &'static Series {
        SERIES.iter().find(|series| series.name == name).unwrap()
    }

    fn faults(series: &Series, text: &str) -> Vec<String> {
        judge(series, &Console::parse(text)).faults
    }

    #[test]
    fn a_good_guest_passes() {
        let findings = judge(series("6.1"), &Console::parse(GUEST));
        assert_eq!(findings.faults, Vec::<String>::new());
        assert!(findings.reads && !findings.keeps_cap_bpf);
        assert_eq!(findings.exchanges, 340.0);
        assert_eq!(findings.means.len(), 2);
    }

    /// Line by line: what it begins with, what stands in it, and what becomes of that.
    #[test]
    fn every_kind_of_error_is_seen() {
        let hop = "hoptrace_hop_duration_seconds";
        for (start, old, new, words) in [
            // Another unit, and another clock.
            (&*format!("{hop}_sum"), "} ", "} 1000", "not in order"),
            (&format!("{hop}_sum"), "} ", "} 0.000", "not in order"),
            (
                "hoptrace_request_duration_seconds_sum",
                "} ",
                "} 1",
                "not in order",
            ),
            // A stamp, a request, a record that is missing.
            (&format!("{hop}_count"), "} 60", "} 59", "59 times of app"),
            (
                "hoptrace_request_duration_seconds_count",
                "} 50",
                "} 49",
                "49 requests by",
            ),
            ("hoptrace_records_total", " 340", " 339", "339 records came"),
            (
                "hoptrace_records_lost_total{reason=\"ring_full\"",
                " 0",
                " 1",
                "1 records were lost",
            ),
            ("hoptrace_exchanges_pending", " 0", " 2", "2 exchanges wait"),
            (
                "hoptrace_exchanges_total",
                "worker_order",
                "tuple",
                "nothing was paired",
            ),
            (
                "{\"succeeded\"",
                "\"failed\":0",
                "\"failed\":1",
                "requests were answered",
            ),
            (
                "CapEff",
                "0000000000000000",
                "0000008000000000",
                "capabilities are 0x8000000000",
            ),
            (
                "2",
                "balanced=true",
                "balanced=false",
                "books do not balance",
            ),
            (
                "2",
                " INFO tracer_user::agent: hooks",
                " WARN tracer_user::agent: hooks",
                "warns",
            ),
            ("2", "ports 8080", "ports", "say nothing"),
            ("@@ end", "@@ end", "", "hung or ended early"),
            ("@@ agent", "@@ agent", "@@ other", "no section `agent`"),
            (
                "@@ end",
                "@@",
                "[    9.000000] BUG: unable\n@@",
                "the kernel complains",
            ),
            ("@@ end", "@@", "@@ failed\nno veth\n@@", "no veth"),
        ] {
            let mut seen = 0;
            let lines = GUEST.lines().map(|line| {
                let hit = line.starts_with(start) && line.contains(old);
                seen += u32::from(hit);
                if hit {
                    line.replacen(old, new, 1)
                } else {
                    line.to_owned()
                }
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            assert!(seen > 0, "{start}: {old} is not there");
            let faults = faults(series("6.1"), &text);
            assert!(
                faults.iter().any(|fault| fault.contains(words)),
                "{start} with {new}: {faults:?}"
            );
        }
    }

    #[test]
    fn the_pages_are_held_to_the_kernel() {
        // 6.1 has what the pages say that 5.10 lacks.
        let found = faults(series("5.10"), GUEST);
        for words in [
            "`socket storage in tp_btf` is there",
            "does not warn `no read hook`",
            "capabilities are 0x0, and not 0x8000000000",
            "without CAP_PERFMON the agent attaches",
        ] {
            assert!(
                found.iter().any(|fault| fault.contains(words)),
                "{words}: {found:?}"
            );
        }
        let lacking = GUEST.replacen(
            "\"status\": \"ok\",\n      \"name\": \"BTF\"",
            "\"status\": \"degraded\",\n      \"name\": \"BTF\"",
            1,
        );
        let found = faults(series("6.1"), &lacking);
        assert!(
            found[0].contains("`BTF` is degraded, and no page says so"),
            "{found:?}"
        );
    }
}
