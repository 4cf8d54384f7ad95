//! Pairing through Envoy against the truth of its access log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Lab, Mode};
use mesh::truth::{self, Comparison, Sidecar};
use mesh::{Tracing, load, spec, trace};
use tracer_user::model::Fate;

/// Concurrency, constant rate, and how many when saturated.
const RUNS: [(usize, f64, u64); 3] = [
    (1, 300.0, 1_500),
    (8, 1_000.0, 8_000),
    (64, 1_500.0, 12_000),
];
const RATE_SECONDS: f64 = 3.0;

#[test]
fn plain() {
    check_mode("pair-plain", Mode::Plain);
}

#[test]
fn mtls() {
    check_mode("pair-mtls", Mode::Mtls);
}

fn check_mode(name: &str, mode: Mode) {
    let Some(lab) = mesh::lab(name, mode, |_| {}) else {
        return;
    };
    for (connections, per_second, count) in RUNS {
        let rate = Schedule::Rate {
            per_second,
            seconds: RATE_SECONDS,
        };
        for schedule in [rate, Schedule::Count(count)] {
            // The books and the pairs must be right at once. The 99th percentile stands on a few
            // dozen requests: where a machine that stood still moved them, it is taken again.
            let wrong = check(&lab, connections, schedule);
            if !wrong.is_empty() {
                let again = check(&lab, connections, schedule);
                assert!(again.is_empty(), "{wrong:?}, then {again:?}");
            }
        }
    }
}

fn check(lab: &Lab, connections: usize, schedule: Schedule) -> Vec<String> {
    let mut wrong = Vec::new();
    lab.clear_access_logs().unwrap();
    let spec = spec(lab, connections, schedule);
    let traced = trace(lab, &Tracing::default(), || load(lab, &spec));
    let sent = usize::try_from(traced.result.succeeded).unwrap();
    let books = &traced.books;
    traced.assert_all_counted(sent);
    let whole = traced.whole();
    println!(
        "{connections:>2} connections, {schedule:?}: {sent} requests, {whole} on six sockets, {:.0}/s; {books}",
        traced.result.succeeded as f64 / traced.result.elapsed_seconds,
    );
    for (sidecar, found) in truth::both(lab, &traced.requests, sent) {
        if connections == 1 {
            assert_eq!(
                found.identical, sent,
                "{sidecar:?}: every request its own pair"
            );
        }
        wrong.extend(compare_legs(sidecar, &found));
    }
    let exchanges = 6 * sent;
    let paired = usize::try_from(books.fate(Fate::Paired)).unwrap();
    assert!(paired <= exchanges, "{books}");
    assert!(
        paired as f64 >= 0.995 * exchanges as f64,
        "paired {paired} of {exchanges}: {books}"
    );
    assert!(
        whole as f64 >= 0.995 * sent as f64,
        "{whole} of {sent} whole"
    );
    wrong
}

/// Sums within 0.5 %, or the test fails; quantiles that are off by more than 5 % are returned.
fn compare_legs(sidecar: Sidecar, found: &Comparison) -> Vec<String> {
    let mut wrong = Vec::new();
    for leg in ["request", "response"] {
        let of = |legs: &[truth::Legs]| {
            let mut times: Vec<u64> = legs
                .iter()
                .map(|legs| {
                    if leg == "request" {
                        legs.request
                    } else {
                        legs.response
                    }
                })
                .collect();
            times.sort_unstable();
            times
        };
        let (truth, ours) = (of(&found.truth), of(&found.ours));
        let sum = |times: &[u64]| times.iter().sum::<u64>() as f64;
        let mut line = format!(
            "   {sidecar:?} {leg}: identical {:.1} %, sum {:+.3} %",
            100.0 * found.identical as f64 / found.entries as f64,
            percent(sum(&ours), sum(&truth))
        );
        let off = percent(sum(&ours), sum(&truth));
        assert!(off.abs() <= 0.5, "{sidecar:?} {leg}: sum {off:+.3} %");
        for quantile in [0.50, 0.90, 0.99] {
            let at = |times: &[u64]| times[((times.len() - 1) as f64 * quantile) as usize] as f64;
            let off = percent(at(&ours), at(&truth));
            line += &format!(
                ", p{:.0} {:.1} µs {off:+.2} %",
                quantile * 100.0,
                at(&truth) / 1e3
            );
            if off.abs() > 5.0 {
                wrong.push(format!(
                    "{sidecar:?} {leg}: p{:.0} {off:+.2} %",
                    quantile * 100.0
                ));
            }
        }
        println!("{line}");
    }
    wrong
}

fn percent(ours: f64, truth: f64) -> f64 {
    100.0 * (ours - truth) / truth
}
