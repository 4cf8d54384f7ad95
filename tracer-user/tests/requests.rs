//! `hoptrace requests` beside a real agent on a real mesh.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{AgentProcess, Mode, free_port};
use mesh::{load, spec};
use serde_json::Value;

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
/// What capitol-info is asked to wait, milliseconds.
const DELAY: f64 = 20.0;
const REQUESTS: u32 = 100;

/// Sum of the self times that are of one of these hops, nanoseconds.
fn hops(request: &Value, of: &[&str]) -> u64 {
    let hops = request["hops"].as_array().unwrap().iter();
    hops.filter(|time| of.contains(&time["hop"].as_str().unwrap()))
        .map(|time| time["ns"].as_u64().unwrap())
        .sum()
}

#[test]
fn a_tail_tells_where_each_request_was() {
    let Some(lab) = mesh::lab("tail", Mode::Mtls, |_| {}) else {
        return;
    };
    let agent = AgentProcess::start(&lab.agent_options(AGENT, free_port().unwrap())).unwrap();
    let url = agent.address().to_string();
    let tail = |args: &[&str]| {
        let mut command = Command::new(AGENT);
        command.arg("requests").arg(&url).args(args);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let json = tail(&["--json", "--workload", "capitol-info", "--for", "8s"]);
    let slow = tail(&["--min", "1ms", "--limit", "40"]);
    thread::sleep(Duration::from_millis(500));
    let spec = LoadSpec {
        headers: vec![("x-delay-ms".into(), DELAY.to_string())],
        ..spec(&lab, 4, Schedule::Count(REQUESTS.into()))
    };
    let report = load(&lab, &spec);
    let slow = slow.wait_with_output().unwrap();
    let json = json.wait_with_output().unwrap();
    assert!(
        json.status.success(),
        "{}",
        String::from_utf8_lossy(&json.stderr)
    );
    let metrics = agent.metrics().unwrap();
    assert!(agent.terminate().unwrap().success());

    let lines = String::from_utf8(json.stdout).unwrap();
    let requests: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(requests.len(), REQUESTS as usize, "each request is a line");
    let every = [
        "app",
        "sidecar_inbound",
        "sidecar_outbound",
        "network",
        "loopback",
    ];
    let (mut total, mut shares) = (0, Vec::new());
    for request in &requests {
        assert_eq!(request["source_workload"], "load");
        assert_eq!(request["destination_workload"], "capitol-info");
        assert_eq!(request["request_method"], "GET");
        assert_eq!(request["response_code"], 200);
        assert_eq!(request["connection_security_policy"], "mutual_tls");
        assert_eq!(request["sockets"].as_array().unwrap().len(), 6, "{request}");
        // What the client's own socket saw: t12 − t1.
        let stamps = &request["stamps_ns"];
        let duration = request["duration_ns"].as_u64().unwrap();
        assert_eq!(stamps[0], 0);
        assert_eq!(stamps[11].as_u64(), Some(duration));
        let told = hops(request, &every);
        assert!(told.abs_diff(duration) <= 1_000, "{told} of {duration} ns");
        let app = hops(request, &["app"]);
        assert!(app as f64 / 1e6 >= DELAY, "{app} ns: {request}");
        shares.push(app as f64 / told as f64);
        total += duration;
    }
    // The first ones opened their connections, and others may have the machine: so of the median.
    shares.sort_by(f64::total_cmp);
    let share = shares[shares.len() / 2];
    println!("the app has {:.0} % of the median request", 100.0 * share);
    assert!(share > 0.6, "{shares:?}");
    // The load generator's clock stands around the same exchange, a few system calls wider.
    let mean = total as f64 / f64::from(REQUESTS);
    let client = report.service.mean_ns;
    println!("mean {mean:.0} ns, the client says {client:.0} ns");
    assert!(
        mean < client && mean > 0.9 * client,
        "{mean} ns, {client} ns"
    );
    assert!(
        metrics.contains("hoptrace_tap_requests_total{result=\"dropped\"} 0"),
        "nothing was dropped"
    );

    let text = String::from_utf8(slow.stdout).unwrap();
    println!("{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3 * 40, "three lines a request");
    let mut work = Vec::new();
    for request in lines.chunks(3) {
        let [head, bar, figures] = request else {
            unreachable!()
        };
        assert!(
            head.contains("load.default → capitol-info.default  GET  200"),
            "{head}"
        );
        assert_eq!(bar.trim().chars().count(), 72, "{bar}");
        work.push(bar.matches(['a', 'A']).count());
        assert!(figures.contains("app "), "{figures}");
    }
    work.sort_unstable();
    assert!(work[20] > 40, "the app has {work:?} of 72 cells");
}
