//! What a person sees, from made-up findings.

use std::collections::BTreeMap;

use super::super::model::{
    Cost, Coverage, Experiment, Findings, HopPart, Pair, Program, Run, SidecarLog, Total,
};
use super::super::table::WIDEST;
use super::text;

const GOLDEN: &str = include_str!("golden.txt");

fn total(requests: u64, mean_us: f64) -> Total {
    Total {
        requests,
        mean_us,
        p50_us: mean_us * 0.9,
        p90_us: mean_us * 1.5,
        p99_us: mean_us * 4.0,
    }
}

/// Parts whose means are 10 µs, and 30 µs in apps.
fn hops(hops: &[(&str, &[&str], &[&str])]) -> Vec<HopPart> {
    let mut parts = Vec::new();
    for (hop, legs, names) in hops {
        for leg in *legs {
            for part in *names {
                let mean_us = if *hop == "app" { 30.0 } else { 10.0 };
                parts.push(HopPart {
                    hop: (*hop).to_owned(),
                    leg: (*leg).to_owned(),
                    part: (*part).to_owned(),
                    count: 3_000,
                    mean_us,
                    p50_us: mean_us - 4.0,
                    p99_us: mean_us * 50.0,
                });
            }
        }
    }
    parts
}

fn pair(source: &'static str, destination: &'static str, mean_us: f64, hops: Vec<HopPart>) -> Pair {
    Pair {
        source,
        destination,
        get: total(3_000, mean_us + 5.0),
        post: total(3_000, mean_us - 5.0),
        all: total(6_000, mean_us),
        hops,
    }
}

fn experiment(mode: &str) -> Experiment {
    let legs = ["request", "response"].as_slice();
    let split = ["queue", "processing"].as_slice();
    let whole = ["whole"].as_slice();
    let both = ["both"].as_slice();
    let bare = [("network", both, whole), ("app", both, split)];
    let inbound = [("sidecar_inbound", legs, split), ("loopback", legs, whole)];
    let outbound = [("sidecar_outbound", legs, split)];
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
        outer: pair("load", "capitol-client", outer_mean, hops(&outer)),
        inner: pair("capitol-client", "capitol-info", inner_mean, hops(&inner)),
        coverage: Coverage {
            exchanges: vec![
                ("paired".to_owned(), "tuple".to_owned(), 23_999),
                ("unpaired".to_owned(), "none".to_owned(), 1),
            ],
            lost: BTreeMap::from([("ring_full".to_owned(), u64::from(meshed))]),
            pending: 0,
        },
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
                log("capitol-client", "sidecar_inbound"),
                log("capitol-client", "sidecar_outbound"),
                log("capitol-info", "sidecar_inbound"),
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
