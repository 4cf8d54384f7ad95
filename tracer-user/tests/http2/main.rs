//! HTTP/2 and gRPC on plaintext legs, against programs that others wrote and their own clocks.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test; of the conformance matrix a part is used"
)]

mod cost;
#[path = "../conformance/ends.rs"]
mod ends;
#[path = "../conformance/envoy.rs"]
mod envoy;
mod frames;
#[path = "../mesh/mod.rs"]
mod mesh;
mod programs;
mod sidecars;

use std::thread;
use std::time::Duration;

use ends::{Asked, Bench};
use hoptrace_lab::wire::Served;
use hoptrace_lab::{AccessEntry, Lab, Mode, Pod};
use mesh::{Request, Traced, Tracing, trace};
use programs::{NGINX, NODE, PYTHON, Server, grpc, h2load};
use tracer_user::decode::Exchange;
use tracer_user::model::{Fate, GrpcStatus, Hop, Protocol, Reporter};

/// So long that what a program needs for its own stamps is nothing beside it, milliseconds.
const WAIT: u64 = 25;

fn follow(lab: &Lab, work: impl FnOnce(&Bench<'_>) -> Vec<Asked>) -> Traced<Vec<Asked>> {
    let tracing = Tracing {
        http2: true,
        ..Tracing::default()
    };
    trace(lab, &tracing, || {
        // What begins with the hooks is told apart for a hold time.
        thread::sleep(tracing.hold);
        work(&Bench { lab })
    })
}

/// Which sockets a request has, `Uc` to `Ls`.
fn shape(request: &Request) -> String {
    let has = |socket: &Option<_>| if socket.is_some() { '1' } else { '0' };
    request.sockets.iter().map(has).collect()
}

fn client_total(request: &Request) -> u64 {
    let mut totals = request.times.totals.iter();
    let source = totals.find(|(reporter, _)| *reporter == Reporter::Source);
    source.unwrap().1
}

/// Every request is told once, with its status, and the books balance.
fn assert_whole(what: &str, traced: &Traced<Vec<Asked>>, protocol: Protocol) {
    let books = &traced.books;
    println!("{what}: {books}");
    assert!(books.balance(), "{what}: {books}");
    assert_eq!((books.lost(), books.missed), (0, 0), "{what}: {books}");
    let asked = &traced.result;
    assert_eq!(traced.requests.len(), asked.len(), "{what}: {books}");
    // Both ends of each stream, and nothing of it by turns.
    assert_eq!(books.streams as usize, 2 * asked.len(), "{what}");
    assert_eq!(books.fate(Fate::Paired) as usize, 2 * asked.len(), "{what}");
    assert_eq!(books.fate(Fate::Unsupported), 0, "{what}: {books}");
    for request in &traced.requests {
        assert_eq!(shape(request), "100001", "{what}");
        let labels = &request.times.labels;
        assert_eq!(
            (labels.protocol, labels.response_code),
            (protocol, 200),
            "{what}"
        );
    }
}

/// The sum of ours against the sum of theirs, percent.
fn off(ours: u64, theirs: u64) -> f64 {
    100.0 * (ours as f64 - theirs as f64) / theirs as f64
}

/// What the server stamps lies within the app's time, that within the client's total, and that within what
/// the client stamps: over all requests, in nanoseconds.
fn assert_nested(what: &str, traced: &Traced<Vec<Asked>>, served: Option<&[Served]>) {
    let sum = |of: &dyn Fn(&Request) -> u64| traced.requests.iter().map(of).sum::<u64>();
    let (app, client) = (sum(&|r| r.hop(Hop::App)), sum(&client_total));
    let asked = traced.result.iter().map(|asked| asked.took.unwrap()).sum();
    assert!(
        app <= client && client <= asked,
        "{what}: {app} {client} {asked} ns"
    );
    let mut words = format!("client {:+.2} %", off(client, asked));
    if let Some(served) = served {
        assert_eq!(served.len(), traced.result.len(), "{what}");
        let served = served.iter().map(|served| served.wrote - served.read).sum();
        assert!(served <= app, "{what}: {served} {app} ns");
        words += &format!(", app {:+.2} %", off(app, served));
    }
    println!("{what}: {words}");
}

#[test]
fn every_stream_is_a_request_without_sidecars() {
    let Some(lab) = mesh::lab("h2-none", Mode::None, |_| {}) else {
        return;
    };
    let bench = Bench { lab: &lab };
    let _servers = programs::serve(&bench);
    for server in [NODE, NGINX] {
        for in_flight in [1, 20, 100] {
            let what = format!("h2load, {server:?}, {in_flight} in flight");
            let before = bench.served_so_far();
            let traced = follow(&lab, |bench| h2load(bench, server, in_flight));
            assert_whole(&what, &traced, Protocol::Http);
            let served = bench.served_since(before);
            // NGINX has no stamps of its own.
            assert_nested(
                &what,
                &traced,
                (server == NODE).then_some(served.as_slice()),
            );
        }
    }
    for (method, status) in [("Unary", 0), ("Stream", 0), ("Fail", 14)] {
        for in_flight in [1, 20, 100] {
            let what = format!("grpc {method}, {in_flight} in flight");
            let before = bench.served_so_far();
            let traced = follow(&lab, |bench| grpc(bench, PYTHON, method, in_flight));
            assert_whole(&what, &traced, Protocol::Grpc);
            let told = |request: &Request| request.times.grpc == Some(GrpcStatus::Code(status));
            assert!(traced.requests.iter().all(told), "{what}");
            let served = bench.served_since(before);
            assert_nested(&what, &traced, Some(&served));
        }
    }
}

/// Envoy's clock begins when it reads, and ends with the last byte: so far ours may be off on a busy
/// machine, percent.
const ENVOYS_CLOCK: f64 = 15.0;

/// Envoy's time of all requests that one sidecar logged, nanoseconds.
fn logged(lab: &Lab, pod: Pod, count: usize) -> u64 {
    let log = lab
        .wait_access_log(pod, count, Duration::from_secs(5))
        .unwrap();
    assert_eq!(log.len(), count);
    let http2 = |entry: &AccessEntry| entry.protocol == "HTTP/2" && entry.code == 200;
    assert!(log.iter().all(http2));
    let took = log.iter().map(|entry| entry.ds_total_us.unwrap());
    1_000 * took.sum::<u64>()
}

fn took(exchange: Option<&Exchange>) -> u64 {
    let exchange = exchange.unwrap();
    exchange.response_first - exchange.request_first
}

#[test]
fn streams_pass_sidecars_in_plaintext() {
    let Some(lab) = mesh::lab("h2-plain", Mode::Plain, |options| {
        options.patch = Some(sidecars::patch);
    }) else {
        return;
    };
    let bench = Bench { lab: &lab };
    let _servers = programs::serve(&bench);
    for (server, in_flight) in [
        (NODE, 1),
        (NODE, 20),
        (NODE, 100),
        (PYTHON, 1),
        (PYTHON, 20),
    ] {
        let what = format!("plain, {server:?}, {in_flight} in flight");
        lab.clear_access_logs().unwrap();
        let traced = follow(&lab, |bench| ask(bench, server, in_flight));
        let books = &traced.books;
        println!("{what}: {books}");
        assert!(books.balance() && books.lost() == 0, "{what}: {books}");
        let asked = traced.result.len();
        assert_eq!(books.streams as usize, 6 * asked, "{what}: {books}");
        assert_eq!(
            books.fate(Fate::Paired) as usize,
            6 * asked,
            "{what}: {books}"
        );
        assert_eq!(traced.requests.len(), asked, "{what}");
        for request in &traced.requests {
            assert_eq!(shape(request), "111111", "{what}");
            assert_eq!(request.times.labels.response_code, 200);
        }
        for (pod, socket) in [(Pod::Load, 1), (Pod::Info, 3)] {
            let theirs = logged(&lab, pod, asked);
            let requests = traced.requests.iter();
            let ours = requests.map(|r| took(r.sockets[socket].as_ref())).sum();
            let off = off(ours, theirs);
            println!("{what}: {pod:?} {off:+.2} %");
            assert!(off.abs() < ENVOYS_CLOCK, "{what}: {off}");
        }
        let sum = |of: &dyn Fn(&Request) -> u64| traced.requests.iter().map(of).sum::<u64>();
        let (hops, total) = (sum(&|r| r.sum(|_| true)), sum(&client_total));
        assert!(
            hops.abs_diff(total) < total / 1_000,
            "{what}: {hops} of {total} ns"
        );
        assert_nested(&what, &traced, None);
    }
}

#[test]
fn under_mutual_tls_the_ends_are_told_and_nothing_is_guessed() {
    let Some(lab) = mesh::lab("h2-mtls", Mode::Mtls, |options| {
        options.patch = Some(sidecars::patch);
    }) else {
        return;
    };
    let bench = Bench { lab: &lab };
    let _servers = programs::serve(&bench);
    for (server, in_flight) in [(NODE, 20), (NODE, 100), (PYTHON, 1)] {
        let what = format!("mtls, {server:?}, {in_flight} in flight");
        lab.clear_access_logs().unwrap();
        let traced = follow(&lab, |bench| ask(bench, server, in_flight));
        let books = &traced.books;
        println!("{what}: {books}");
        assert!(books.balance() && books.lost() == 0, "{what}: {books}");
        let asked = traced.result.len();
        assert_eq!(books.streams as usize, 4 * asked, "{what}: {books}");
        let of = |wanted: &str| {
            let requests = traced.requests.iter();
            let found: Vec<_> = requests.filter(|r| shape(r) == wanted).collect();
            assert_eq!(found.len(), asked, "{what}: {wanted}");
            found
        };
        let (client, app) = (of("110000"), of("000011"));
        assert_eq!(traced.requests.len(), 2 * asked, "{what}");
        let hops = |r: &&Request| r.hop(Hop::SidecarInbound) + r.hop(Hop::SidecarOutbound);
        assert_eq!(
            client.iter().chain(&app).map(hops).sum::<u64>(),
            0,
            "{what}"
        );
        let theirs = logged(&lab, Pod::Load, asked);
        let ours = client.iter().map(|r| took(r.sockets[1].as_ref())).sum();
        let off = off(ours, theirs);
        println!("{what}: {off:+.2} %");
        assert!(off.abs() < ENVOYS_CLOCK, "{what}: {off}");
    }
}

fn ask(bench: &Bench<'_>, server: Server, in_flight: usize) -> Vec<Asked> {
    if server == PYTHON {
        grpc(bench, server, "Unary", in_flight)
    } else {
        h2load(bench, server, in_flight)
    }
}
