//! A big node without one: 110 meshed pods, 1,000 service pairs, 10,000 connections, as records. What
//! the label sets cost, that the cap holds, and that nothing is lost on the way.
//!
//! `cargo test --release -p tracer-user --test scale -- --nocapture` prints the table of
//! docs/scale.md.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an error is the result of the test"
)]

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracer_common::record::{PAYLOAD_HTTP, PAYLOAD_TLS, SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{ExchangeRecord, SocketInfo};
use tracer_user::config::Config;
use tracer_user::http::Coding;
use tracer_user::join::{Chain, JoinConfig};
use tracer_user::metrics::{Metrics, MetricsConfig, Shown};
use tracer_user::model::{
    CallMethod, Fate, Identity, Ktime, Method, Protocol, Reporter, RequestLabels, RequestTimes,
    Workload,
};
use tracer_user::pipeline::{Output, Pipeline};
use zerocopy::{FromZeros, IntoBytes};

const PODS: usize = 110;
const PAIRS: usize = 1_000;
const CONNECTIONS_OF_A_PAIR: usize = 10;
const REQUESTS_OF_A_CONNECTION: usize = 6;
/// Nanoseconds between two requests of the node: 20,000 a second.
const PACE_NS: u64 = 50_000;
const HOLD_NS: u64 = 200_000_000;

/// Names by cgroup and address, as a cluster's identity has them.
struct Names {
    by_cgroup: Vec<Workload>,
    by_ip: HashMap<IpAddr, Workload>,
}

impl Names {
    fn new() -> Self {
        let workload = |name: String| Workload {
            name: name.into(),
            namespace: "shop".into(),
            canonical: None,
        };
        let remote = |pair| {
            (
                IpAddr::V4(remote_ip(pair)),
                workload(format!("peer-{pair}-deployment")),
            )
        };
        Self {
            by_cgroup: (0..PODS)
                .map(|pod| workload(format!("app-{pod}-deployment")))
                .collect(),
            by_ip: (0..PAIRS).map(remote).collect(),
        }
    }
}

impl Identity for Names {
    fn by_cgroup(&mut self, cgroup_id: u64, _tgid: u32) -> Option<Workload> {
        self.by_cgroup
            .get(usize::try_from(cgroup_id / 2).ok()?)
            .cloned()
    }

    fn by_ip(&mut self, ip: IpAddr, _at: Ktime) -> Option<Workload> {
        self.by_ip.get(&ip).cloned()
    }

    fn service(&mut self, _vip: SocketAddr, _at: Ktime) -> Option<Arc<str>> {
        None
    }

    fn is_proxy(&mut self, cgroup_id: u64, _tgid: u32) -> Option<bool> {
        Some(!cgroup_id.is_multiple_of(2))
    }
}

fn remote_ip(pair: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        10,
        200,
        u8::try_from(pair / 256).unwrap(),
        u8::try_from(pair % 256).unwrap(),
    )
}

/// One end of a connection.
#[derive(Clone, Copy)]
struct Socket {
    side: u8,
    payload: u8,
    cgroup_id: u64,
    local: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
}

/// A connection of a pair, as the node of one of its pods sees it: three sockets.
fn sockets(pair: usize, connection: usize) -> [Socket; 3] {
    let pod = pair % PODS;
    let app = u64::try_from(pod).unwrap() * 2;
    let pod_ip = Ipv4Addr::new(10, 100, 0, u8::try_from(pod).unwrap());
    let ephemeral = |offset: usize| {
        u16::try_from(20_000 + offset + connection + pair / PODS * CONNECTIONS_OF_A_PAIR).unwrap()
    };
    let socket = |side, payload, proxy, local, remote| Socket {
        side,
        payload,
        cgroup_id: app + u64::from(proxy),
        local,
        remote,
    };
    let (near, far) = ((pod_ip, ephemeral(0)), (remote_ip(pair), 8080));
    if pair.is_multiple_of(2) {
        let redirected = (Ipv4Addr::LOCALHOST, 15001);
        [
            socket(SIDE_CLIENT, PAYLOAD_HTTP, false, near, far),
            socket(SIDE_SERVER, PAYLOAD_HTTP, true, redirected, near),
            socket(
                SIDE_CLIENT,
                PAYLOAD_TLS,
                true,
                (pod_ip, ephemeral(10_000)),
                far,
            ),
        ]
    } else {
        let near = (Ipv4Addr::new(127, 0, 0, 6), ephemeral(0));
        let app = (pod_ip, 8080);
        let far = (remote_ip(pair), ephemeral(10_000));
        [
            socket(SIDE_SERVER, PAYLOAD_TLS, true, (pod_ip, 15006), far),
            socket(SIDE_CLIENT, PAYLOAD_HTTP, true, near, app),
            socket(SIDE_SERVER, PAYLOAD_HTTP, false, app, near),
        ]
    }
}

/// The records of one request in the order in which they are sent: the innermost socket first.
fn records(sockets: &[Socket; 3], first_cookie: u64, index: u32, start: u64) -> Vec<Vec<u8>> {
    // Each socket is 30 µs further inside; the innermost waits for a millisecond.
    let nested = sockets.iter().zip(0_u64..);
    let mut records: Vec<_> = nested
        .map(|(socket, depth)| {
            let mut record = ExchangeRecord::new_zeroed();
            record.side = socket.side;
            record.payload = socket.payload;
            record.sock_cookie = first_cookie + depth;
            record.index = index;
            // Both ends of the plaintext connection number its bytes alike; the third is another.
            let tls = u32::from(socket.payload == PAYLOAD_TLS);
            record.request_seq = index * 100 + tls;
            record.request_first_ktime_ns = start + depth * 30_000;
            record.response_first_ktime_ns = start + 1_200_000 - depth * 30_000;
            let thread = u32::try_from(socket.cgroup_id).unwrap() + 1;
            (record.read_tid, record.write_tid) = (thread, thread);
            record.read_ktime_ns = if socket.side == SIDE_SERVER {
                record.request_first_ktime_ns + 10_000
            } else {
                record.response_first_ktime_ns + 10_000
            };
            let mut bytes = record.as_bytes().to_vec();
            if index == 0 {
                let mut info = SocketInfo::new_zeroed();
                info.cgroup_id = socket.cgroup_id;
                info.saddr = socket.local.0.to_ipv6_mapped().octets();
                info.daddr = socket.remote.0.to_ipv6_mapped().octets();
                (info.sport, info.dport) = (socket.local.1, socket.remote.1);
                bytes.extend_from_slice(info.as_bytes());
            }
            bytes
        })
        .collect();
    records.reverse();
    records
}

struct Counted {
    metrics: Metrics,
    requests: usize,
    paired: usize,
    other: usize,
}

impl Output for Counted {
    fn request(&mut self, _chain: &Chain<'_>, times: &RequestTimes) {
        self.requests += 1;
        self.metrics.observe(times);
    }

    fn fate(&mut self, fate: Fate, _method: Method) {
        if fate == Fate::Paired {
            self.paired += 1;
        } else {
            self.other += 1;
        }
    }

    fn stream(&mut self) {
        // There is no HTTP/2 in the workload: one is one too many.
        self.other += 1;
    }
}

/// Resident memory of this process in MiB: now, and at its most.
fn resident() -> (f64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// What one cap leads to.
struct Row {
    max_series: usize,
    label_sets: usize,
    series: usize,
    scrape_mib: f64,
    locked_ms: f64,
    plain_ms: f64,
    gzip_mib: f64,
    gzip_ms: f64,
    waited_ms: f64,
    rss_mib: f64,
    peak_mib: f64,
    capped: usize,
}

/// How long a request of a label set that is new takes at most to be counted while the text is made:
/// it needs the table that is read meanwhile.
fn longest_wait(metrics: &mut Metrics, shown: &Shown) -> Duration {
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| Coding::Gzip.body(|out| shown.write(out)).unwrap());
        for pair in 0.. {
            let unheard_of = Workload {
                name: format!("new-{pair}").into(),
                namespace: "shop".into(),
                canonical: None,
            };
            let times = RequestTimes {
                labels: RequestLabels {
                    service: unheard_of.name.clone(),
                    source: unheard_of.clone(),
                    destination: unheard_of,
                    protocol: Protocol::Http,
                    response_code: 200,
                    mutual_tls: true,
                },
                hops: Vec::new(),
                totals: vec![(Reporter::Source, 1_000_000)],
                grpc: None,
                tcp_rtt_ns: Some(1_000),
                dropped: Vec::new(),
                calls: [0; CallMethod::ALL.len()],
            };
            let started = Instant::now();
            metrics.observe(&times);
            longest = longest.max(started.elapsed());
            if writer.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    longest
}

fn run(max_series: usize) -> Row {
    let config = MetricsConfig {
        max_series,
        ..Config::default().metrics()
    };
    let join = JoinConfig {
        hold_ns: HOLD_NS,
        max_pending: 262_144,
    };
    let mut pipeline = Pipeline::new(join, Box::new(Names::new()));
    let mut counted = Counted {
        metrics: Metrics::new(&config).unwrap(),
        requests: 0,
        paired: 0,
        other: 0,
    };
    let mut now = 1_000_000_000;
    for index in 0..u32::try_from(REQUESTS_OF_A_CONNECTION).unwrap() {
        for pair in 0..PAIRS {
            for connection in 0..CONNECTIONS_OF_A_PAIR {
                let cookie =
                    u64::try_from(pair * CONNECTIONS_OF_A_PAIR + connection).unwrap() * 3 + 1;
                for bytes in records(&sockets(pair, connection), cookie, index, now) {
                    pipeline.take(&bytes, &mut counted).unwrap();
                }
                now += PACE_NS;
            }
            pipeline.advance(now, &mut counted);
        }
    }
    pipeline.advance(u64::MAX, &mut counted);
    let requests = PAIRS * CONNECTIONS_OF_A_PAIR * REQUESTS_OF_A_CONNECTION;
    assert_eq!(
        (counted.requests, counted.paired, counted.other),
        (requests, 3 * requests, 0)
    );

    let label_sets = counted.metrics.label_sets();
    let (rss_mib, _) = resident();
    // As the agent does it: the metrics are brought up to date under its lock, and written without.
    let started = Instant::now();
    let shown = counted.metrics.shown();
    let locked = started.elapsed();
    let started = Instant::now();
    let packed = Coding::Gzip.body(|out| shown.write(out)).unwrap();
    let gzip = started.elapsed();
    let (_, peak_mib) = resident();
    let started = Instant::now();
    let text = Coding::Identity.body(|out| shown.write(out)).unwrap();
    let plain = started.elapsed();
    let text = String::from_utf8(text).unwrap();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    let waited = longest_wait(&mut counted.metrics, &shown);
    let capped = text
        .lines()
        .find_map(|line| line.strip_prefix("hoptrace_label_sets_capped_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        text.contains("source_workload=\"other\""),
        max_series < PAIRS
    );
    Row {
        max_series,
        label_sets,
        series: text.lines().filter(|line| !line.starts_with('#')).count(),
        scrape_mib: mib(text.len()),
        locked_ms: ms(locked),
        plain_ms: ms(plain),
        gzip_mib: mib(packed.len()),
        gzip_ms: ms(gzip),
        waited_ms: ms(waited),
        rss_mib,
        peak_mib,
        capped,
    }
}

#[test]
fn a_thousand_pairs_on_one_node() {
    println!(
        "max-series  label sets   series  locked ms  text MiB  text ms  gzip MiB  gzip ms  new ms  RSS MiB  \
         most MiB  capped"
    );
    for max_series in [100, 500, 2_000] {
        let row = run(max_series);
        println!(
            "{:>10}{:>12}{:>9}{:>11.1}{:>10.1}{:>9.0}{:>10.2}{:>9.0}{:>8.1}{:>9.1}{:>10.1}{:>8}",
            row.max_series,
            row.label_sets,
            row.series,
            row.locked_ms,
            row.scrape_mib,
            row.plain_ms,
            row.gzip_mib,
            row.gzip_ms,
            row.waited_ms,
            row.rss_mib,
            row.peak_mib,
            row.capped
        );
        // The last set is that of everything beyond the cap.
        assert_eq!(row.label_sets, PAIRS.min(row.max_series));
        assert_eq!(row.capped > 0, row.max_series < PAIRS);
    }
}
