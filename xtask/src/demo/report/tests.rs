//! What a person sees, from made-up findings.

use std::collections::BTreeMap;

use hoptrace_exposition::{Coverage, Hop, Leg, Part, Reporter};
use hoptrace_report::{HopFigures, PairFigures, Spread, StepFigures};

use super::super::model::{Cost, Experiment, Findings, Pair, Program, Run, SidecarLog};
use super::super::table::WIDEST;
use super::text;

const GOLDEN: &str = include_str!("golden.txt");

fn spread(mean_us: f64, [p50, p90, p99]: [f64; 3]) -> Spread {
    Spread {
        p50_us: Some(p50),
        p90_us: Some(p90),
        p99_us: Some(p99),
        p999_us: Some(99.0 * mean_us),
        max_below_us: None,
    }
}

/// Parts whose means are 10 µs, and 30 µs in apps.
fn hops(hops: &[(Hop, &[Leg], &[Part])]) -> Vec<HopFigures> {
    let figures = |(hop, legs, parts): &(Hop, &[Leg], &[Part])| {
        let mean_us = if *hop == Hop::App { 30.0 } else { 10.0 };
        let steps = legs
            .iter()
            .flat_map(|leg| parts.iter().map(move |part| (*leg, *part)));
        let steps: Vec<_> = steps
            .map(|(leg, part)| StepFigures {
                leg,
                part,
                count: 3_000,
                mean_us,
                spread: spread(mean_us, [mean_us - 4.0, mean_us, mean_us * 50.0]),
            })
            .collect();
        let queue = steps.iter().filter(|step| step.part == Part::Queue);
        HopFigures {
            hop: *hop,
            requests: 3_000,
            mean_us: mean_us * steps.len() as f64,
            queue_us: mean_us * queue.count() as f64,
            runs_us: Vec::new(),
            by_difference: false,
            steps,
        }
    };
    hops.iter().map(figures).collect()
}

fn pair(
    source: &'static str,
    destination: &'static str,
    (mean_us, calls_us): (f64, f64),
    hops: &[HopFigures],
) -> Pair {
    let figures = |requests, mean_us: f64| PairFigures {
        source: format!("{source}.default"),
        destination: format!("{destination}.default"),
        service: destination.to_owned(),
        reporter: Reporter::Source,
        requests,
        mean_us,
        runs_us: Vec::new(),
        spread: spread(mean_us, [0.9, 1.5, 4.0].map(|times| times * mean_us)),
        hops: hops.to_vec(),
        calls_us,
    };
    Pair {
        source,
        destination,
        get: figures(3_000, mean_us + 5.0),
        post: figures(3_000, mean_us - 5.0),
        all: figures(6_000, mean_us),
    }
}

fn experiment(mode: &str) -> Experiment {
    let legs = [Leg::Request, Leg::Response].as_slice();
    let split = [Part::Queue, Part::Processing].as_slice();
    let whole = [Part::Whole].as_slice();
    let both = [Leg::Both].as_slice();
    let bare = [(Hop::Network, both, whole), (Hop::App, both, split)];
    let inbound = [
        (Hop::SidecarInbound, legs, split),
        (Hop::Loopback, legs, whole),
    ];
    let outbound = [(Hop::SidecarOutbound, legs, split)];
    let meshed = mode != "none";
    let (outer, inner) = if meshed {
        let outer = [&bare[..], &inbound].concat();
        let inner = [&bare[..], &inbound, &outbound].concat();
        (outer, inner)
    } else {
        (bare.to_vec(), bare.to_vec())
    };
    let inner_mean = if meshed { 170.0 } else { 70.0 };
    let outer_mean = inner_mean + if meshed { 130.0 } else { 70.0 };
    let log = |pod, hop| SidecarLog {
        pod,
        hop,
        requests: 6_000,
        mean_us: 12.0,
    };
    let run = |method, number| Run {
        method,
        number,
        per_second: 12_345.0,
        mean_us: outer_mean,
        p50_us: outer_mean,
        p90_us: outer_mean,
        p99_us: outer_mean * 3.0,
    };
    Experiment {
        mode: mode.to_owned(),
        outer: pair(
            "load",
            "capitol-client",
            (outer_mean, inner_mean),
            &hops(&outer),
        ),
        inner: pair(
            "capitol-client",
            "capitol-info",
            (inner_mean, 0.0),
            &hops(&inner),
        ),
        coverage: Coverage {
            exchanges: vec![
                ("paired".to_owned(), "tuple".to_owned(), 23_999),
                ("unpaired".to_owned(), "none".to_owned(), 1),
            ],
            lost: BTreeMap::from([("ring_full".to_owned(), u64::from(meshed))]),
        },
        pending: 0,
        cost: Cost {
            cpu_seconds: 0.05,
            load_seconds: 2.0,
            rss_bytes: 2e7,
            programs: vec![Program {
                name: "egress".to_owned(),
                runs: 30_000,
                seconds: 0.006,
            }],
        },
        envoy: if meshed {
            vec![
                log("capitol-client", Hop::SidecarInbound),
                log("capitol-client", Hop::SidecarOutbound),
                log("capitol-info", Hop::SidecarInbound),
            ]
        } else {
            Vec::new()
        },
        load: vec![run("GET", 1), run("POST", 1)],
    }
}

#[test]
fn findings_read_as_in_the_golden_file() {
    let findings = Findings {
        cpus: 2,
        calls: 3_000,
        runs: 1,
        connections: 10,
        without: experiment("none"),
        with: experiment("mtls"),
    };
    let text = text(&findings);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDEST, "too wide: {line}");
    }
    assert_eq!(text, GOLDEN, "what is printed now:\n{text}");
}
