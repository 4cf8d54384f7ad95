//! Whole runs against servers of this process.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::any;
use axum::serve::ListenerExt;

use super::super::{engine, plan};
use super::{GeneratorError, run_keeping};
use crate::load::{LoadReport, LoadSpec, Schedule};

fn run(spec: &LoadSpec) -> Result<LoadReport, GeneratorError> {
    super::run(spec, &[])
}

fn spec(address: SocketAddr, connections: usize, schedule: Schedule) -> LoadSpec {
    LoadSpec {
        url: format!("http://{address}/"),
        method: "GET".to_owned(),
        headers: Vec::new(),
        body: String::new(),
        connections,
        schedule,
        request_ids: false,
    }
}

fn rate(per_second: f64, seconds: f64) -> Schedule {
    Schedule::Rate {
        per_second,
        seconds,
    }
}

/// What a server has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    ids: Mutex<HashSet<String>>,
}

/// A server that stalls once, at the request with this number.
fn serve(stall_at: u64, stall: Duration) -> (SocketAddr, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let (tell, told) = mpsc::channel();
    let (connections, requests) = (seen.clone(), seen.clone());
    let handler = move |headers: HeaderMap| async move {
        let number = requests.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = headers.get("x-request-id") {
            let id = id.to_str().unwrap().to_owned();
            requests.ids.lock().unwrap().insert(id);
        }
        if number == stall_at {
            tokio::time::sleep(stall).await;
        }
        "hello"
    };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let listener = listener.tap_io(move |_| {
                connections.connections.fetch_add(1, Ordering::Relaxed);
            });
            let router = Router::new().fallback(any(handler));
            axum::serve(listener, router).await.unwrap();
        });
    });
    (told.recv().unwrap(), seen)
}

/// What a [`scripted`] server does with a request.
enum Reply {
    Say(&'static str),
    SayAndClose(&'static str),
    Close,
    CloseAndEnd,
    Wait,
}

type Script = fn(u64) -> Reply;

const OK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
const BYE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";

/// A server that takes one connection after the other; the script knows which request of its
/// connection it answers, from 0.
fn scripted(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        loop {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut number = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                let ended = line == "\r\n";
                line.clear();
                if !ended {
                    continue;
                }
                match script(number) {
                    Reply::Say(text) => stream.get_mut().write_all(text.as_bytes()).unwrap(),
                    Reply::SayAndClose(text) => {
                        stream.get_mut().write_all(text.as_bytes()).unwrap();
                        break;
                    }
                    Reply::Close => break,
                    // The listener first: whoever sees the close can no longer connect.
                    Reply::CloseAndEnd => return drop(listener),
                    Reply::Wait => {}
                }
                number += 1;
            }
        }
    });
    address
}

#[test]
fn a_count_is_sent_over_connections_that_stay() {
    let (address, seen) = serve(u64::MAX, Duration::ZERO);
    let mut spec = spec(address, 4, Schedule::Count(200));
    spec.request_ids = true;
    let report = run(&spec).unwrap();
    assert_eq!((report.succeeded, report.failed), (200, 0));
    assert_eq!(seen.requests.load(Ordering::Relaxed), 200);
    assert_eq!(seen.connections.load(Ordering::Relaxed), 4);
    assert_eq!(seen.ids.lock().unwrap().len(), 200);
    assert_eq!(report.reconnects, 0);
    assert_eq!(report.latency.max_ns, report.service.max_ns);
    assert!(report.latency.p50_ns > 0 && report.cpu_seconds > 0.0);
}

#[test]
fn latencies_of_runs_are_added() {
    let (address, _) = serve(u64::MAX, Duration::ZERO);
    let spec = spec(address, 2, Schedule::Count(50));
    let (one, mut times) = run_keeping(&spec, &[]).unwrap();
    let (other, more) = run_keeping(&spec, &[]).unwrap();
    times.add(&more);
    let both = times.latency();
    assert_eq!(both.max_ns, one.latency.max_ns.max(other.latency.max_ns));
    let mean = (one.latency.mean_ns + other.latency.mean_ns) / 2.0;
    assert!((both.mean_ns / mean - 1.0).abs() < 1e-9, "{both:?}");
    assert!(both.p99_ns <= both.p999_ns && both.p999_ns <= both.max_ns);
}

#[test]
fn a_time_is_filled() {
    let (address, seen) = serve(u64::MAX, Duration::ZERO);
    let report = run(&spec(address, 2, Schedule::Seconds(0.1))).unwrap();
    assert_eq!(report.failed, 0);
    assert_eq!(report.succeeded, seen.requests.load(Ordering::Relaxed));
    assert!(report.succeeded > 0);
}

#[test]
fn a_rate_sends_what_was_planned() {
    let (address, seen) = serve(u64::MAX, Duration::ZERO);
    let start = Instant::now();
    let report = run(&spec(address, 4, rate(1_000.0, 0.25))).unwrap();
    // Never early: the last request is due 249 ms after the first.
    assert!(start.elapsed() >= Duration::from_millis(249));
    assert_eq!((report.succeeded, report.failed), (250, 0));
    assert_eq!(seen.requests.load(Ordering::Relaxed), 250);
}

#[test]
fn a_stall_is_charged_to_every_request_behind_it() {
    let (address, _) = serve(5, Duration::from_millis(300));
    let report = run(&spec(address, 1, rate(200.0, 0.5))).unwrap();
    assert_eq!(report.succeeded, 100);
    // About sixty requests were due during the stall, and the tenth part of all waited for more
    // than 200 ms; but the server itself was slow to one of them only.
    assert!(report.latency.p90_ns >= 200_000_000, "{report:?}");
    assert!(report.service.p90_ns < 150_000_000, "{report:?}");
    assert!(report.service.max_ns >= 299_000_000, "{report:?}");
}

#[test]
fn closed_connections_are_opened_again() {
    let ok_thrice: Script = |number| match number {
        2 => Reply::SayAndClose(OK),
        _ => Reply::Say(OK),
    };
    let cases: [(Script, u64, u64); 3] = [
        // Announced or not, and noticed before or after the next request has left.
        (|_| Reply::SayAndClose(BYE), 6, 5),
        (ok_thrice, 12, 3),
        (
            |number| match number {
                0 => Reply::Say(OK),
                _ => Reply::Close,
            },
            5,
            4,
        ),
    ];
    for (script, count, reconnects) in cases {
        let report = run(&spec(scripted(script), 1, Schedule::Count(count))).unwrap();
        assert_eq!((report.succeeded, report.failed), (count, 0), "{report:?}");
        assert_eq!(report.reconnects, reconnects, "{report:?}");
    }
}

#[test]
fn a_request_with_effects_is_not_sent_twice() {
    let address = scripted(|number| match number {
        0 => Reply::Say(OK),
        _ => Reply::Close,
    });
    let mut spec = spec(address, 1, Schedule::Count(4));
    spec.method = "POST".to_owned();
    let report = run(&spec).unwrap();
    assert_eq!((report.succeeded, report.failed), (2, 2), "{report:?}");
    assert_eq!(report.failures, ["connection closed before an answer"]);
}

#[test]
fn failures_are_counted_and_the_run_goes_on() {
    let cases: [(Script, u64, &str); 4] = [
        (
            |number| match number {
                1 => Reply::Say(BUSY),
                _ => Reply::Say(OK),
            },
            4,
            "answer 503",
        ),
        (
            |_| Reply::SayAndClose("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
            0,
            "connection closed in the middle of an answer",
        ),
        (
            |_| Reply::SayAndClose("SSH-2.0-x\r\n"),
            0,
            "malformed answer",
        ),
        (
            |number| match number {
                0..3 => Reply::Say(OK),
                _ => Reply::CloseAndEnd,
            },
            3,
            "cannot connect",
        ),
    ];
    for (script, succeeded, words) in cases {
        let report = run(&spec(scripted(script), 1, Schedule::Count(5))).unwrap();
        assert_eq!(report.succeeded, succeeded, "{report:?}");
        assert_eq!(report.failed, 5 - succeeded, "{report:?}");
        assert!(report.failures[0].starts_with(words), "{report:?}");
    }
}

#[test]
fn patience_has_an_end() {
    let address = scripted(|number| match number {
        0 => Reply::Say(OK),
        _ => Reply::Wait,
    });
    let mut plan = plan::Plan::check(&spec(address, 1, Schedule::Count(2)), &[]).unwrap();
    plan.patience = Duration::from_millis(50);
    let report = engine::Engine::open(&plan)
        .unwrap()
        .run()
        .unwrap()
        .report()
        .0;
    assert_eq!((report.succeeded, report.failed), (1, 1));
    assert!(
        report.failures[0].starts_with("no answer within"),
        "{report:?}"
    );
}

#[test]
fn no_server_is_an_error() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = run(&spec(closed, 1, Schedule::Count(1))).unwrap_err();
    assert!(error.to_string().contains("cannot connect to 127.0.0.1"));
}
