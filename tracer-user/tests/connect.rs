//! What it takes to open an upstream connection is a part of its own, against what Envoy says of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::time::Duration;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AccessDirection, Lab, Mode, Pod};
use mesh::{Request, Traced, Tracing, load, spec, trace};
use serde_json::{Value, json};
use tracer_user::model::{Hop, Part, Reporter};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const REQUESTS: usize = 400;

/// Every upstream connection carries one request.
fn once(_pod: Pod, bootstrap: &mut Value) {
    let clusters = bootstrap["static_resources"]["clusters"]
        .as_array_mut()
        .unwrap();
    for cluster in clusters {
        if let Some(options) = cluster["typed_extension_protocol_options"].get_mut(OPTIONS) {
            options["common_http_protocol_options"] = json!({"max_requests_per_connection": 1});
        }
    }
}

fn traced(lab: &Lab) -> Traced<impl Sized> {
    let rate = Schedule::Rate {
        per_second: 100.0,
        seconds: REQUESTS as f64 / 100.0,
    };
    trace(lab, &Tracing::default(), || load(lab, &spec(lab, 4, rate)))
}

/// Mean microseconds of a part of a hop, over the requests that have it, and how many have.
fn mean(requests: &[Request], hop: Hop, part: Part) -> (f64, usize) {
    let times = requests.iter().map(|request| {
        let times = request.times.hops.iter();
        times
            .filter(|time| (time.hop, time.part) == (hop, part))
            .map(|time| time.duration_ns)
            .collect::<Vec<_>>()
    });
    let having: Vec<u64> = times
        .filter(|times| !times.is_empty())
        .map(|times| times.iter().sum())
        .collect();
    let sum: u64 = having.iter().sum();
    (sum as f64 / 1e3 / having.len().max(1) as f64, having.len())
}

const SIDECARS: [(Hop, Pod, AccessDirection); 2] = [
    (Hop::SidecarOutbound, Pod::Load, AccessDirection::Out),
    (Hop::SidecarInbound, Pod::Info, AccessDirection::In),
];

#[test]
fn opening_a_connection_takes_what_envoy_says() {
    for (name, mode) in [("open-plain", Mode::Plain), ("open-mtls", Mode::Mtls)] {
        let Some(lab) = mesh::lab(name, mode, |options| options.patch = Some(once)) else {
            return;
        };
        // Envoy's clock stands still while a turn of its event loop lasts: of a connection that takes
        // no longer than that it knows nothing.
        let detour = lab.detour(Pod::Load, Pod::Info).unwrap();
        detour.delay(Duration::from_millis(5));
        let traced = traced(&lab);
        for request in traced.requests.iter().filter(|request| request.is_whole()) {
            let sum = request.sum(|_| true);
            let totals = request.times.totals.iter();
            let total = totals.filter(|(reporter, _)| *reporter == Reporter::Source);
            assert_eq!(total.map(|(_, total)| *total).next(), Some(sum), "{name}");
        }
        for (hop, pod, direction) in SIDECARS {
            let limit = Duration::from_secs(5);
            let log = lab.wait_access_log(pod, REQUESTS, limit).unwrap();
            let log: Vec<_> = log
                .iter()
                .filter(|entry| entry.direction == direction)
                .collect();
            assert_eq!(log.len(), REQUESTS);
            let told = log.iter().map(|entry| {
                entry.us_connect_us.unwrap() + entry.us_handshake_us.unwrap_or_default()
            });
            let truth = told.sum::<u64>() as f64 / REQUESTS as f64;
            let (ours, count) = mean(&traced.requests, hop, Part::Connect);
            let (processing, _) = mean(&traced.requests, hop, Part::Processing);
            println!(
                "{name} {hop:?}: connect {ours:.0} µs of {count} requests, Envoy says {truth:.0} µs; \
                 processing {processing:.0} µs"
            );
            assert!(count >= REQUESTS * 99 / 100, "{count} of {REQUESTS}");
            // To its app it is near.
            if hop == Hop::SidecarOutbound {
                assert!(
                    (ours / truth - 1.0).abs() < 0.05,
                    "{ours} µs, Envoy {truth} µs"
                );
            }
        }
    }
}

#[test]
fn connections_that_are_there_take_no_time_to_open() {
    let Some(lab) = mesh::lab("open-once", Mode::Mtls, |_| {}) else {
        return;
    };
    let traced = traced(&lab);
    for (hop, ..) in SIDECARS {
        let (mean, count) = mean(&traced.requests, hop, Part::Connect);
        println!("{hop:?}: {count} requests opened a connection, {mean:.0} µs");
        // Four connections of the load, and two workers each of which has its own pool.
        assert!(count <= 16, "{count}");
    }
}

#[test]
fn far_away_it_is_the_connection_that_is_slow() {
    let Some(lab) = mesh::lab("open-far", Mode::Mtls, |options| options.patch = Some(once)) else {
        return;
    };
    let detour = lab.detour(Pod::Load, Pod::Info).unwrap();
    let [near, far] = [0, 5].map(|millis| {
        detour.delay(Duration::from_millis(millis));
        let requests = traced(&lab).requests;
        let outbound = |part| mean(&requests, Hop::SidecarOutbound, part).0 / 1e3;
        let network = mean(&requests, Hop::Network, Part::Whole).0 / 1e3;
        [outbound(Part::Connect), outbound(Part::Processing), network]
    });
    let added: Vec<f64> = near.iter().zip(far).map(|(near, far)| far - near).collect();
    println!("added ms: connect, processing, network {added:.2?}");
    // A round trip for TCP and one for TLS 1.3, and one for the request, of 10 ms each.
    let trip = added[2];
    assert!((9.5..14.0).contains(&trip), "{trip} ms");
    assert!((added[0] / trip - 2.0).abs() < 0.2, "{added:?}");
    assert!(added[1].abs() < 0.05 * added[0], "{added:?}");
}
