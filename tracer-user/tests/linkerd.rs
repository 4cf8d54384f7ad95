//! Sidecars that have Linkerd's ports and reach their app from the pod's own address. They are the lab's
//! Envoys: what is tried is how sockets are told apart, and not Linkerd's proxy.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod mesh;

use std::time::{Duration, Instant};

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AgentProcess, Convention, Lab, LabOptions, Mode, free_port};
use mesh::{Tracing, load, spec, trace};
use tracer_user::decode::{RequestHead, Side};
use tracer_user::roles::{AppSource, Sidecars};

const REQUESTS: u32 = 1_000;

/// Sum over the samples of a metric with all of these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        let family = line.split(['{', ' ']).next();
        family == Some(name) && labels.iter().all(|label| line.contains(label))
    });
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

/// What an agent with these options shows once all requests are told.
fn traced(lab: &Lab, options: &[&str]) -> String {
    let mut agent = lab.agent_options(env!("CARGO_BIN_EXE_hoptrace"), free_port().unwrap());
    agent.args = options.iter().map(|option| (*option).to_owned()).collect();
    let agent = AgentProcess::start(&agent).unwrap();
    load(lab, &spec(lab, 4, Schedule::Count(REQUESTS.into())));
    // Figures are late by twice the hold time, and on a busy machine by more: until nothing waits.
    let begun = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let text = agent.metrics().unwrap();
        if sum(&text, "hoptrace_exchanges_pending", &[]) == 0.0 {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "exchanges wait");
    }
}

#[test]
fn linkerds_ports_and_addresses_give_every_hop() {
    let change = |options: &mut LabOptions| options.convention = Convention::Linkerd;
    let Some(lab) = mesh::lab("linkerd", Mode::Mtls, change) else {
        return;
    };
    // Connections that are older than the agent, and the sidecars' TLS sessions with them.
    load(&lab, &spec(&lab, 4, Schedule::Count(100)));
    let text = traced(&lab, &["--mesh=linkerd", "--proxy-names=envoy"]);

    const HOPS: &str = "hoptrace_hop_duration_seconds";
    let expected = f64::from(REQUESTS);
    let count = |labels: &[&str]| sum(&text, &format!("{HOPS}_count"), labels);
    let ends = [
        "source_workload=\"load\"",
        "destination_workload=\"capitol-info\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_code=\"2xx\"",
    ];
    // Two connections of a request stay in a pod, with two legs each; the others have one figure for
    // each leg and part.
    for (hop, times) in [
        ("sidecar_outbound", 4.0),
        ("sidecar_inbound", 4.0),
        ("network", 1.0),
        ("loopback", 4.0),
        ("app", 2.0),
    ] {
        let hop = format!("hop=\"{hop}\"");
        let found = count(&[&[hop.as_str()], ends.as_slice()].concat());
        // A connection more may be opened at any time, for one request.
        let connects = count(&[&[hop.as_str(), "part=\"connect\""], ends.as_slice()].concat());
        println!("{hop} {found}, with {connects} connects");
        assert_eq!(found - connects, times * expected, "{hop}");
        assert_eq!(count(&[&hop]), found, "{hop}, of somebody else");
    }
    let total = |part: &str| {
        let name = format!("hoptrace_request_duration_seconds_{part}");
        sum(&text, &name, &["reporter=\"source\""])
    };
    assert_eq!(total("count"), expected);
    let told = sum(&text, &format!("{HOPS}_sum"), &[]);
    println!("hops {told:.6} s, requests {:.6} s", total("sum"));
    assert!(
        (told / total("sum") - 1.0).abs() < 1e-6,
        "{told} s of {} s",
        total("sum")
    );

    // By Istio's ports nobody is a sidecar: what the app sends comes to somebody's administration, and
    // what comes to the pod's address to a gateway.
    let text = traced(&lab, &["--proxy-names=envoy"]);
    let count = |labels: &[&str]| sum(&text, &format!("{HOPS}_count"), labels);
    assert_eq!(count(&["hop=\"sidecar_inbound\""]), 0.0);
    let probes = sum(&text, "hoptrace_exchanges_total", &["result=\"probe\""]);
    assert_eq!(probes, 2.0 * expected, "both ends of what the app sent");
}

#[test]
fn heads_are_kept_of_the_apps_legs_only_whatever_the_port_of_the_wire() {
    let change = |options: &mut LabOptions| options.convention = Convention::Linkerd;
    let Some(lab) = mesh::lab("linkerd-plain", Mode::Plain, change) else {
        return;
    };
    let sidecars = Sidecars {
        inbound_port: 4143,
        outbound_port: 4140,
        app_source: AppSource::Own,
    };
    for (wire_port, on_the_wire) in [
        (4143, RequestHead::Absent),
        // Told otherwise, the kernel side takes this leg for an app's as well.
        (15006, RequestHead::Http1),
    ] {
        let tracing = Tracing {
            sidecars: sidecars.clone(),
            wire_port,
            ..Tracing::default()
        };
        let spec = spec(&lab, 2, Schedule::Count(200));
        let traced = trace(&lab, &tracing, || load(&lab, &spec));
        let heads = |port: u16| {
            let sockets = traced.requests.iter().flat_map(|request| &request.sockets);
            let served = sockets.flatten().filter(|exchange| {
                exchange.side == Side::Server && exchange.socket.local.port() == port
            });
            served
                .map(|exchange| exchange.http.request)
                .collect::<Vec<_>>()
        };
        assert_eq!(heads(4143), vec![on_the_wire; 200]);
        assert_eq!(heads(4140), vec![RequestHead::Http1; 200]);
    }
}
