//! What is told of a request adds up to what its client saw.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{Mode, Pod, Target};
use mesh::{Tracing, load, spec, trace};
use tracer_user::model::{Hop, Protocol, Reporter};

/// Every stamp is a nanosecond of one clock.
const TOLERANCE_NS: u64 = 1_000;

#[test]
fn hops_and_loopback_add_up_to_the_clients_total() {
    for (name, mode) in [("sum-plain", Mode::Plain), ("sum-mtls", Mode::Mtls)] {
        let Some(lab) = mesh::lab(name, mode, |_| {}) else {
            return;
        };
        let spec = spec(&lab, 8, Schedule::Count(2_000));
        let traced = trace(&lab, &Tracing::default(), || load(&lab, &spec));
        let mut whole = 0;
        let mut total_ns = 0;
        for request in traced.requests.iter().filter(|request| request.is_whole()) {
            let sum: u64 = request.times.hops.iter().map(|time| time.duration_ns).sum();
            let total = source(request).unwrap();
            assert!(
                sum.abs_diff(total) <= TOLERANCE_NS,
                "{sum} ns of {total} ns"
            );
            whole += 1;
            total_ns += total;
        }
        assert!(whole >= 1_990, "{whole} whole requests");
        // The load generator's clock stands around the same exchange, a few system calls wider.
        let client_ns = traced.result.service.mean_ns;
        let ours_ns = total_ns as f64 / f64::from(whole);
        println!(
            "{name}: {whole} requests; mean {ours_ns:.0} ns, the client says {client_ns:.0} ns"
        );
        assert!(ours_ns < client_ns, "shorter than what contains it");
        assert!(
            client_ns - ours_ns < 0.5 * client_ns,
            "most of what the client saw is told"
        );
    }
}

fn source(request: &mesh::Request) -> Option<u64> {
    let totals = &request.times.totals;
    totals
        .iter()
        .find(|(reporter, _)| *reporter == Reporter::Source)
        .map(|(_, total)| *total)
}

#[test]
fn without_sidecars_a_request_is_app_and_network_over_both_families() {
    let Some(lab) = mesh::lab("sum-none", Mode::None, |_| {}) else {
        return;
    };
    for target in [Target::Info, Target::InfoV6] {
        let spec = LoadSpec {
            url: format!("{}capitols/1", lab.url(Pod::Load, target)),
            ..spec(&lab, 4, Schedule::Count(1_000))
        };
        let traced = trace(&lab, &Tracing::default(), || load(&lab, &spec));
        assert!(traced.books.balance(), "{}", traced.books);
        assert_eq!(traced.requests.len(), 1_000, "{target:?}: {}", traced.books);
        for request in &traced.requests {
            let labels = &request.times.labels;
            assert_eq!(&*labels.source.name, "load");
            assert_eq!(&*labels.destination.name, "capitol-info");
            assert_eq!(
                (labels.response_code, labels.protocol),
                (200, Protocol::Http)
            );
            assert!(!labels.mutual_tls);
            let total = source(request).unwrap();
            let sum = request.hop(Hop::App) + request.hop(Hop::Network);
            assert!(
                sum.abs_diff(total) <= TOLERANCE_NS,
                "{sum} ns of {total} ns"
            );
        }
    }
}

#[test]
fn a_gateways_own_calls_are_not_its_own_time() {
    let Some(lab) = mesh::lab("sum-gateway", Mode::Mtls, |options| {
        options.load_meshed = false
    }) else {
        return;
    };
    let spec = LoadSpec {
        url: format!("{}capitols/1", lab.url(Pod::Load, Target::Gateway)),
        headers: vec![("x-delay-ms".into(), "20".into())],
        ..spec(&lab, 2, Schedule::Count(100))
    };
    let traced = trace(&lab, &Tracing::default(), || load(&lab, &spec));
    let of = |name: &str| {
        let mine = traced
            .requests
            .iter()
            .filter(|request| &*request.times.labels.destination.name == name);
        let apps: Vec<u64> = mine.map(|request| request.hop(Hop::App)).collect();
        assert_eq!(apps.len(), 100, "{name}");
        apps.iter().sum::<u64>() as f64 / 1e6 / apps.len() as f64
    };
    let (client, info) = (of("capitol-client"), of("capitol-info"));
    println!("app: capitol-client {client:.3} ms, capitol-info {info:.3} ms");
    assert!(info > 20.0, "the delay is in capitol-info: {info} ms");
    assert!(
        client < 2.0,
        "and not in the gateway that waits for it: {client} ms"
    );
}

#[test]
fn a_busy_gateways_time_adds_up() {
    // Without sidecars nobody makes request ids: the calls are known by their thread alone.
    let Some(lab) = mesh::lab("sum-busy", Mode::None, |_| {}) else {
        return;
    };
    let spec = LoadSpec {
        url: format!("{}capitols/1", lab.url(Pod::Load, Target::Gateway)),
        request_ids: false,
        ..spec(&lab, 10, Schedule::Count(20_000))
    };
    let traced = trace(&lab, &Tracing::default(), || load(&lab, &spec));
    let sum = |name: &str, of: &dyn Fn(&mesh::Request) -> u64| {
        let requests = traced.requests.iter();
        requests
            .filter(|request| &*request.times.labels.destination.name == name)
            .map(of)
            .sum::<u64>() as f64
    };
    let total = |request: &mesh::Request| source(request).unwrap();
    let hops = |request: &mesh::Request| request.sum(|_| true);
    let client = sum("capitol-client", &total);
    let told = sum("capitol-client", &hops) + sum("capitol-info", &total);
    println!(
        "told {:.3} % of {:.0} ms",
        100.0 * told / client,
        client / 1e6
    );
    assert!(
        (told / client - 1.0).abs() < 0.01,
        "{told} ns of {client} ns"
    );
}
