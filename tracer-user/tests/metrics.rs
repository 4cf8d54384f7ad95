//! The exposition as Prometheus sees it: golden file, `promtool`, cap, labels and codes.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracer_user::load::boundary::Interfaces;
use tracer_user::metrics::names::CommonLabel;
use tracer_user::metrics::{LabelSet, Metrics, MetricsConfig, ResponseCode};
use tracer_user::model::{
    CallMethod, Canonical, Dropped, Fate, Gone, Hop, HopTime, Leg, Method, Negative, Part,
    Protocol, Reporter, RequestLabels, RequestTimes, Workload,
};

fn config() -> MetricsConfig {
    MetricsConfig {
        buckets: vec![1e-5, 1e-3, 1e-1],
        labels: LabelSet::usual(),
        response_code: ResponseCode::Class,
        max_series: 2000,
    }
}

fn workload(name: &str) -> Workload {
    Workload::new(name.into(), "shop".into())
}

fn request(source: &str, code: u16) -> RequestTimes {
    let time = |hop, leg, part, duration_ns| HopTime {
        hop,
        leg,
        part,
        duration_ns,
    };
    RequestTimes {
        labels: RequestLabels {
            source: workload(source),
            destination: workload("orders"),
            service: "orders".into(),
            protocol: Protocol::Http,
            response_code: code,
            mutual_tls: true,
        },
        hops: vec![
            time(Hop::SidecarOutbound, Leg::Request, Part::Queue, 10_000),
            time(Hop::SidecarOutbound, Leg::Request, Part::Processing, 40_000),
            time(Hop::SidecarOutbound, Leg::Response, Part::Queue, 5_000),
            time(
                Hop::SidecarOutbound,
                Leg::Response,
                Part::Processing,
                30_000,
            ),
            time(Hop::SidecarInbound, Leg::Request, Part::Queue, 11_000),
            time(Hop::SidecarInbound, Leg::Request, Part::Processing, 41_000),
            time(Hop::SidecarInbound, Leg::Response, Part::Queue, 6_000),
            time(Hop::SidecarInbound, Leg::Response, Part::Processing, 31_000),
            time(Hop::App, Leg::Both, Part::Queue, 8_000),
            time(Hop::App, Leg::Both, Part::Processing, 2_000_000),
            time(Hop::Network, Leg::Both, Part::Whole, 90_000),
            time(Hop::Loopback, Leg::Request, Part::Whole, 7_000),
            time(Hop::Loopback, Leg::Response, Part::Whole, 7_000),
        ],
        totals: vec![
            (Reporter::Source, 2_300_000),
            (Reporter::Destination, 2_100_000),
        ],
        grpc: None,
        tcp_rtt_ns: Some(85_000),
        dropped: Vec::new(),
        calls: [0; CallMethod::ALL.len()],
    }
}

/// Everything an agent can export, once.
fn full() -> String {
    let mut metrics = Metrics::new(&config()).unwrap();
    metrics.observe(&request("web", 200));
    metrics.observe(&request("web", 204));
    metrics.set_splits(Some([1, 1, 0]));
    metrics.set_interfaces(Interfaces {
        attached: 2,
        ..Interfaces::default()
    });
    metrics.count_exchange(Fate::Paired, Method::Tuple, 4);
    metrics.count_exchange(Fate::Paired, Method::WorkerOrder, 4);
    metrics.count_exchange(Fate::Unpaired, Method::None, 1);
    metrics.set_completed(10);
    metrics.set_lost("ring_full", 1);
    metrics.set_bpf("socket_egress", 0.25, 1_000_000);
    metrics.encode()
}

fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

#[test]
fn exposition_is_the_golden_file() {
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let arch = format!("arch=\"{}\"", std::env::consts::ARCH);
    let text: String = full()
        .lines()
        .filter(|line| !line.contains("process_"))
        .map(|line| {
            line.replace(&version, "version=\"V\"")
                .replace(&arch, "arch=\"A\"")
                + "\n"
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    if std::env::var_os("HOPTRACE_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    // Line by line: the whole would fill screens.
    let differing = text
        .lines()
        .zip(golden.lines())
        .find(|(now, then)| now != then);
    assert_eq!(
        (differing, text.lines().count()),
        (None, golden.lines().count()),
        "run with HOPTRACE_BLESS=1 to accept the new exposition"
    );
}

#[test]
fn promtool_accepts() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return skip("SKIP promtool_accepts: promtool is not installed");
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(full().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.is_empty(),
        "promtool: {said}"
    );
}

/// Says what was not tested, where the reader and the collecting job see it.
fn skip(line: &str) {
    println!("{line}");
    if let Some(file) = std::env::var_os("HOPTRACE_SKIP_FILE") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

#[test]
fn ten_microseconds_fall_into_the_bucket_of_ten_microseconds() {
    let text = full();
    let line = text
        .lines()
        .find(|line| {
            line.contains("sidecar_outbound")
                && line.contains("part=\"queue\"")
                && line.contains("leg=\"request\"")
                && line.contains("le=\"0.00001\"")
        })
        .unwrap();
    assert!(line.ends_with(" 2"), "{line}");
}

#[test]
fn beyond_the_cap_workloads_are_other() {
    let mut metrics = Metrics::new(&MetricsConfig {
        max_series: 2,
        ..config()
    })
    .unwrap();
    for client in 0..100 {
        metrics.observe(&request(&format!("client-{client}"), 200));
    }
    metrics.observe(&request("client-0", 200));
    let text = metrics.encode();
    assert_eq!(metrics.label_sets(), 2);
    assert_eq!(series(&text, "hoptrace_tcp_rtt_seconds_count").len(), 3);
    assert_eq!(
        series(&text, "hoptrace_label_sets_capped_total"),
        ["hoptrace_label_sets_capped_total 98"]
    );
    let other = series(&text, "hoptrace_tcp_rtt_seconds_count")
        .into_iter()
        .find(|line| line.contains("source_workload=\"other\""))
        .unwrap();
    assert!(
        other.contains("destination_service_name=\"other\"") && other.ends_with(" 98"),
        "{other}"
    );
}

#[test]
fn exact_codes_cannot_grow_the_overflow() {
    let exact = MetricsConfig {
        max_series: 1,
        response_code: ResponseCode::Exact,
        ..config()
    };
    let mut metrics = Metrics::new(&exact).unwrap();
    for code in 0..2000 {
        metrics.observe(&request("web", code));
    }
    // The unknown code came first and has its own series; each of the five classes is hidden.
    assert_eq!(
        series(&metrics.encode(), "hoptrace_tcp_rtt_seconds_count").len(),
        6
    );
}

#[test]
fn a_label_left_out_is_absent_and_its_series_are_one() {
    let labels = LabelSet::of([CommonLabel::DestinationWorkload, CommonLabel::ResponseCode]);
    let mut metrics = Metrics::new(&MetricsConfig { labels, ..config() }).unwrap();
    metrics.observe(&request("web", 200));
    metrics.observe(&request("batch", 200));
    assert_eq!(
        series(&metrics.encode(), "hoptrace_tcp_rtt_seconds_count"),
        ["hoptrace_tcp_rtt_seconds_count{destination_workload=\"orders\",response_code=\"2xx\"} 2"]
    );
}

#[test]
fn codes_are_classes_unless_told_otherwise() {
    let cases = [
        (ResponseCode::Class, 200, "2xx"),
        (ResponseCode::Class, 599, "5xx"),
        (ResponseCode::Class, 0, "unknown"),
        (ResponseCode::Class, 999, "unknown"),
        (ResponseCode::Exact, 404, "404"),
        (ResponseCode::Exact, 0, "unknown"),
    ];
    for (response_code, code, shown) in cases {
        let mut metrics = Metrics::new(&MetricsConfig {
            response_code,
            ..config()
        })
        .unwrap();
        metrics.observe(&request("web", code));
        let label = format!("response_code=\"{shown}\"");
        assert!(
            metrics.encode().contains(&label),
            "{response_code:?} {code}"
        );
    }
}

#[test]
fn totals_set_again_never_go_back() {
    let mut metrics = Metrics::new(&config()).unwrap();
    for total in [5, 7, 7, 3] {
        metrics.set_lost("ring_full", total);
        metrics.set_completed(total);
        metrics.set_exchanges(Fate::Probe, Method::None, total);
        metrics.set_bpf("p", total as f64, total);
    }
    metrics.set_bpf("p", f64::NAN, 7);
    let text = metrics.encode();
    for line in [
        "hoptrace_records_lost_total{reason=\"ring_full\"} 7",
        "hoptrace_records_total 7",
        "hoptrace_exchanges_total{method=\"none\",result=\"probe\"} 7",
        "hoptrace_bpf_run_seconds_total{program=\"p\"} 7",
        "hoptrace_bpf_runs_total{program=\"p\"} 7",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn without_accounting_there_are_no_bpf_series() {
    assert!(
        !Metrics::new(&config())
            .unwrap()
            .encode()
            .contains("hoptrace_bpf_")
    );
}

#[test]
fn an_idle_label_set_leaves_the_exposition_and_may_come_back() {
    let mut metrics = Metrics::new(&config()).unwrap();
    let start = Instant::now();
    let hour = Duration::from_secs(3600);
    metrics.observe(&request("web", 200));
    metrics.expire_idle(start, hour);
    metrics.observe(&request("batch", 200));
    metrics.expire_idle(start + hour / 2, hour);
    assert_eq!(metrics.label_sets(), 2);
    metrics.expire_idle(start + hour, hour);
    let text = metrics.encode();
    assert!(
        !text.contains("\"web\"") && text.contains("\"batch\""),
        "{text}"
    );
    metrics.observe(&request("web", 200));
    assert!(metrics.encode().contains("\"web\""));
}

/// Run with `cargo test --release --test metrics -- --ignored --nocapture observe_cost`.
#[test]
#[ignore = "measures; meaningful in release builds only"]
fn observe_cost() {
    let buckets = tracer_user::config::Buckets::default().into();
    let mut metrics = Metrics::new(&MetricsConfig {
        buckets,
        ..config()
    })
    .unwrap();
    let requests: Vec<_> = (0..200)
        .map(|n| request(&format!("client-{n}"), 200))
        .collect();
    requests.iter().for_each(|request| metrics.observe(request));
    let started = Instant::now();
    let rounds: u32 = 5_000;
    for _ in 0..rounds {
        requests.iter().for_each(|request| metrics.observe(request));
    }
    println!(
        "observe: {:?} a request",
        started.elapsed() / (rounds * 200)
    );
    let started = Instant::now();
    let text = metrics.encode();
    println!(
        "encode: {:?} for 200 label sets, {} bytes",
        started.elapsed(),
        text.len()
    );
}

/// The agent shares the metrics with the HTTP side behind a lock.
#[test]
fn metrics_can_be_shared_behind_a_lock() {
    fn shared<T: Send + Sync>(_value: T) {}
    shared(std::sync::Mutex::new(Metrics::new(&config()).unwrap()));
}

#[test]
fn what_would_be_negative_is_counted_by_hop_and_reason() {
    let mut metrics = Metrics::new(&config()).unwrap();
    let text = metrics.encode();
    let of = |text: &str| {
        let lines = series(text, "hoptrace_times_dropped_total").into_iter();
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // Each is there from the start, so that rate() sees the first.
    assert_eq!(of(&text).len(), Dropped::ALL.len());
    assert!(of(&text).iter().all(|line| line.ends_with("} 0")));
    let calls = Dropped::of(Some(Hop::App), Negative::Calls);
    let mut times = request("web", 200);
    times.dropped = vec![calls, Dropped::of(None, Negative::Order), calls];
    metrics.observe(&times);
    let text = metrics.encode();
    assert_eq!(of(&text).len(), Dropped::ALL.len());
    for line in [
        "hoptrace_times_dropped_total{reason=\"calls\",time=\"app\"} 2",
        "hoptrace_times_dropped_total{reason=\"order\",time=\"request\"} 1",
    ] {
        assert!(of(&text).iter().any(|found| found == line), "{line}");
    }
}

/// A request from a version of a workload.
fn from(source: &str, revision: &str) -> RequestTimes {
    let mut times = request(source, 200);
    times.labels.source.canonical = Some(Arc::new(Canonical {
        service: "shop-front".into(),
        revision: revision.into(),
    }));
    times
}

fn gone(source: &str, revision: &str, last: bool) -> Gone {
    let workload = Arc::new(from(source, revision).labels.source);
    Gone { workload, last }
}

#[test]
fn canonical_labels_are_there_when_they_are_asked_for() {
    let mut usual = Metrics::new(&config()).unwrap();
    usual.observe(&from("front", "v1"));
    assert!(!usual.encode().contains("canonical"));
    let mut all = Metrics::new(&MetricsConfig {
        labels: LabelSet::all(),
        ..config()
    })
    .unwrap();
    all.observe(&from("front", "v1"));
    all.observe(&from("front", "v2"));
    assert_eq!(all.label_sets(), 2);
    let text = all.encode();
    for part in [
        "source_canonical_service=\"shop-front\"",
        "source_canonical_revision=\"v1\"",
        "source_canonical_revision=\"v2\"",
        // No labels of a pod told these.
        "destination_canonical_service=\"orders\"",
        "destination_canonical_revision=\"unknown\"",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn label_sets_end_with_the_last_pod_that_is_counted_in_them() {
    for labels in [LabelSet::usual(), LabelSet::all()] {
        let shown = labels == LabelSet::all();
        let mut metrics = Metrics::new(&MetricsConfig { labels, ..config() }).unwrap();
        for times in [
            from("front", "v1"),
            from("front", "v2"),
            from("other", "v1"),
        ] {
            metrics.observe(&times);
        }
        let all = if shown { 3 } else { 2 };
        assert_eq!(metrics.label_sets(), all);
        metrics.forget(&gone("front", "v9", false));
        assert_eq!(metrics.label_sets(), all, "never seen");
        // A version goes: its series do where they are its own.
        metrics.forget(&gone("front", "v1", false));
        assert_eq!(metrics.label_sets(), 2);
        assert!(metrics.encode().contains("source_workload=\"front\""));
        metrics.forget(&gone("front", "v2", true));
        assert_eq!(metrics.label_sets(), 1);
        let text = metrics.encode();
        assert!(!text.contains("source_workload=\"front\""), "{text}");
        assert!(text.contains("source_workload=\"other\""), "{text}");
        // As a destination it counts likewise.
        let workload = Arc::new(request("x", 200).labels.destination);
        metrics.forget(&Gone {
            workload,
            last: true,
        });
        assert_eq!(metrics.label_sets(), 0);
    }
}
