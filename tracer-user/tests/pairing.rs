//! Pairing through Envoy against the truth of its access log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::collections::HashMap;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Lab, Mode};
use mesh::truth::{self, Comparison, Legs, Sidecar};
use mesh::{Tracing, load, spec, trace};
use tracer_user::decode::Size;
use tracer_user::model::Fate;
use tracer_user::pair::{Downstream, Sizes, Upstream, Worker};

/// Concurrency, constant rate, and how many when saturated.
const RUNS: [(usize, f64, u64); 3] = [
    (1, 300.0, 1_500),
    (8, 1_000.0, 8_000),
    (64, 1_500.0, 12_000),
];
const RATE_SECONDS: f64 = 3.0;
/// The least share of pairs that have to be the log's, of a hundred, where lengths differ: at a rate
/// that the mesh keeps up with, and saturated, which it also is where it did not keep a rate.
const AT_A_RATE: f64 = 99.0;
const SATURATED: f64 = 90.0;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    /// Every request and every answer has the same length.
    Same,
    /// 201 lengths of requests, 50 of answers.
    Distinct,
}

impl Lengths {
    const fn path(self) -> &'static str {
        match self {
            Self::Same => "/capitols/1",
            Self::Distinct => "/capitols?limit={1..50}&pad={x0..200}",
        }
    }
}

/// One run of load.
#[derive(Clone, Copy, Debug)]
struct Run {
    connections: usize,
    lengths: Lengths,
    schedule: Schedule,
    /// The least share of pairs that have to be the log's, of a hundred.
    identical: f64,
}

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
        for lengths in [Lengths::Same, Lengths::Distinct] {
            let run = |schedule, identical| Run {
                connections,
                lengths,
                schedule,
                identical,
            };
            let seconds = RATE_SECONDS;
            let of_distinct = |share: f64| match lengths {
                // With one request at a time there is nothing to choose from.
                _ if connections == 1 => 100.0,
                Lengths::Distinct => share,
                Lengths::Same => 0.0,
            };
            let rate = Schedule::Rate {
                per_second,
                seconds,
            };
            check_twice(&lab, run(rate, of_distinct(AT_A_RATE)));
            let full = check_twice(&lab, run(Schedule::Count(count), of_distinct(SATURATED)));
            if connections > 1 {
                let half = Schedule::Rate {
                    per_second: full / 2.0,
                    seconds,
                };
                check_twice(&lab, run(half, of_distinct(AT_A_RATE)));
            }
        }
    }
}

/// Returns the requests a second that were made.
fn check_twice(lab: &Lab, run: Run) -> f64 {
    // The books and the sums must be right at once. The 99th percentile stands on a few dozen
    // requests; and a machine that stood still has answers that are under way for longer than the
    // hold time, and hundreds of requests at a time. Then it is taken again.
    let (rate, wrong) = check(lab, run);
    if wrong.is_empty() {
        return rate;
    }
    let (rate, again) = check(lab, run);
    assert!(again.is_empty(), "{wrong:?}, then {again:?}");
    rate
}

fn check(lab: &Lab, run: Run) -> (f64, Vec<String>) {
    let mut wrong = Vec::new();
    lab.clear_access_logs().unwrap();
    let mut spec = spec(lab, run.connections, run.schedule);
    spec.url = spec.url.replace(Lengths::Same.path(), run.lengths.path());
    let traced = trace(lab, &Tracing::default(), || load(lab, &spec));
    let sent = usize::try_from(traced.result.succeeded).unwrap();
    let books = &traced.books;
    traced.assert_all_counted(sent);
    let whole = traced.whole();
    let rate = traced.result.succeeded as f64 / traced.result.elapsed_seconds;
    println!("{run:?}: {sent} requests, {whole} on six sockets, {rate:.0}/s; {books}");
    let kept = match run.schedule {
        Schedule::Rate { per_second, .. } => rate >= 0.98 * per_second,
        _ => false,
    };
    let identical = match run.identical {
        share if share < 100.0 && !kept => share.min(SATURATED),
        share => share,
    };
    for (sidecar, found) in truth::both(lab, &traced.requests, sent) {
        wrong.extend(compare_legs(sidecar, &found, identical));
    }
    let exchanges = 6 * sent;
    let paired = usize::try_from(books.fate(Fate::Paired)).unwrap();
    assert!(paired <= exchanges, "{books}");
    if (paired as f64) < 0.995 * exchanges as f64 {
        wrong.push(format!("paired {paired} of {exchanges}: {books}"));
    }
    if (whole as f64) < 0.995 * sent as f64 {
        wrong.push(format!("{whole} of {sent} whole"));
    }
    (rate, wrong)
}

/// Sums within 0.5 %, or the test fails. Returned is what else is wrong: fewer pairs that are the
/// log's, a quantile that is off by more than 5 %, or by one more than times alone would have it.
fn compare_legs(sidecar: Sidecar, found: &Comparison, identical: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    let (simple, simple_identical) = by_times_alone(found);
    let share = |identical: usize| 100.0 * identical as f64 / found.entries as f64;
    let ours = share(found.identical);
    if ours < identical {
        wrong.push(format!("{sidecar:?}: {ours:.2} % identical"));
    }
    println!(
        "   {sidecar:?}: identical {ours:.2} %, by times alone {:.2} %",
        share(simple_identical)
    );
    for leg in ["request", "response"] {
        let of = |legs: &[Legs]| {
            let mut times: Vec<u64> = legs
                .iter()
                .map(|legs| match leg {
                    "request" => legs.request,
                    _ => legs.response,
                })
                .collect();
            times.sort_unstable();
            times
        };
        let (truth, ours, simple) = (of(&found.truth), of(&found.ours), of(&simple));
        let sum = |times: &[u64]| times.iter().sum::<u64>() as f64;
        let off = percent(sum(&ours), sum(&truth));
        let mut line = format!("   {sidecar:?} {leg}: sum {off:+.3} %");
        assert!(off.abs() <= 0.5, "{sidecar:?} {leg}: sum {off:+.3} %");
        for quantile in [0.50, 0.90, 0.99] {
            let at = |times: &[u64]| times[((times.len() - 1) as f64 * quantile) as usize] as f64;
            let off = percent(at(&ours), at(&truth));
            let simple = percent(at(&simple), at(&truth));
            let name = format!("p{:.0}", quantile * 100.0);
            let told = format!(
                "{name} {:.1} µs {off:+.2} % ({simple:+.2})",
                at(&truth) / 1e3
            );
            if off.abs() > 5.0 || off.abs() > simple.abs() + 1.0 {
                wrong.push(format!("{sidecar:?} {leg}: {told}"));
            }
            line += &format!(", {told}");
        }
        println!("{line}");
    }
    wrong
}

fn percent(ours: f64, truth: f64) -> f64 {
    100.0 * (ours - truth) / truth
}

/// The legs that come of pairing the log's exchanges without their lengths, and how many of those
/// pairs are the log's.
fn by_times_alone(found: &Comparison) -> (Vec<Legs>, usize) {
    let mut workers: HashMap<u32, Worker<usize>> = HashMap::new();
    for (id, (server, client)) in found.pairs.iter().enumerate() {
        let worker = workers.entry(server.tid()).or_default();
        worker.add_downstream(Downstream {
            id,
            read: server.request_taken(),
            wrote: server.response_first,
            size: Size::default(),
        });
        let worker = workers.entry(client.tid()).or_default();
        worker.add_upstream(Upstream {
            id,
            wrote: client.request_first,
            read: client.response_taken(),
            opened: client.opened,
            size: Size::default(),
        });
    }
    let mut legs = Vec::new();
    let mut identical = 0;
    for worker in workers.values_mut() {
        worker.pair(
            u64::MAX,
            u64::MAX,
            &mut Sizes::default(),
            |server, client| {
                identical += usize::from(server == client);
                legs.extend(Legs::of(&found.pairs[server].0, &found.pairs[client].1));
            },
        );
    }
    (legs, identical)
}
