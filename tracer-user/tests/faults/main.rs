//! The fault-localisation matrix: one place in a chain of three is held up, and that is where the added time
//! has to appear. `docs/accuracy.md` has the table that this prints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod chain;
mod drill;
mod envoy;
mod inside;
#[path = "../markdown/mod.rs"]
mod markdown;
#[path = "../mesh/mod.rs"]
mod mesh;
mod panels;
mod place;
mod steps;

use std::ops::{Range, RangeInclusive};
use std::thread;
use std::time::Duration;

use chain::{Bench, Times, Whole};
use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Detour, Pod, Worker};
use mesh::Tracing;
use place::Place;
use tracer_user::model::Ktime;
use tracer_user::tracer::monotonic_now;

/// Of each cell.
const DELAYS_MS: [u64; 3] = [1, 5, 50];
/// Requests with the fault and requests without it come at the same time, so that what the machine does
/// meanwhile is in both; at rates that do not keep step. Few enough that nothing else becomes slow by itself.
const RATES: [f64; 2] = [61.0, 53.0];
/// Enough for what is under way at once, also with the longest delay.
const CONNECTIONS: usize = 8;
/// What is slow by itself on a shared machine is tried again; what is wrong stays wrong.
const ATTEMPTS: usize = 3;
/// Least share of the delay put in that is to be in its place.
const LEAST: f64 = 0.95;
/// Share of all the added time that is to be there. Less than [`LEAST`]: on a machine that does much else, all
/// that wakes up once the delay is over is a little slower than it would have been.
const OF_ALL: RangeInclusive<f64> = 0.88..=1.05;
/// Greatest share, of either sign, in any other place.
const ELSEWHERE: f64 = 0.04;
/// What one place may be slower by for having been idle, whatever the delay: milliseconds. A wake-up costs the
/// same after a short delay and a long one, so that of 1 ms it is a share of its own.
const WAKE_UP_MS: f64 = 0.1;

struct Cell {
    place: Place,
    ms: u64,
    attempt: usize,
    verdict: Verdict,
}

struct Verdict {
    requests: usize,
    /// Milliseconds.
    added: f64,
    /// Of `added`, by place.
    shares: [f64; Place::ALL.len()],
    wrong: Option<String>,
}

/// How long a cell takes: the smaller the delay, the more requests its mean needs.
const fn seconds(ms: u64) -> f64 {
    match ms {
        1 => 7.0,
        5 => 4.0,
        _ => 3.0,
    }
}

/// Runs a cell.
fn run(bench: &Bench, wire: &Detour, place: Place, ms: u64) -> Verdict {
    let tracing = Tracing::default();
    let traced = mesh::trace(&bench.lab, &tracing, || {
        // What begins with the hooks is told apart for a hold time.
        thread::sleep(tracing.hold);
        if place == Place::Network {
            Split::Spans(in_turns(bench, wire, ms))
        } else {
            Split::Process(side_by_side(bench, place, ms))
        }
    });
    assert!(
        traced.books.balance() && traced.books.lost() == 0,
        "{}",
        traced.books
    );
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for one in chain::whole(&traced.requests) {
        match traced.result.is_faulty(&one) {
            Some(true) => with.push(one.times),
            Some(false) => without.push(one.times),
            None => {}
        }
    }
    judge(place, ms, without, with)
}

/// How requests with the fault are told from those without.
enum Split {
    /// By the process that asked: without, with.
    Process([u32; 2]),
    /// By the time in which they were on the wire.
    Spans(Vec<(bool, Range<Ktime>)>),
}

impl Split {
    /// `None` for what is neither.
    fn is_faulty(&self, one: &Whole) -> Option<bool> {
        match self {
            Self::Process(ids) => Some(ids.iter().position(|id| *id == one.asked_by)? == 1),
            Self::Spans(spans) => {
                let within = |span: &Range<Ktime>| {
                    span.start <= one.on_wire.start && one.on_wire.end <= span.end
                };
                let span = spans.iter().find(|(_, span)| within(span));
                span.map(|(faulty, _)| *faulty)
            }
        }
    }
}

/// Two loads at once, one of which asks for the fault.
fn side_by_side(bench: &Bench, place: Place, ms: u64) -> [u32; 2] {
    let fault = format!("{}-{ms}", place.as_str());
    let runs = [false, true].map(|faulty| {
        let mut headers = vec![("x-keep", "x-request-id")];
        headers.extend(faulty.then_some(("x-fault", fault.as_str())));
        bench.start(&headers, CONNECTIONS, rate(RATES[usize::from(faulty)], ms))
    });
    runs.map(|run| {
        let id = run.pid();
        chain::all_succeeded(&run.wait().unwrap());
        id
    })
}

/// One load, and a wire that is slow every other moment: packets do not say whose they are.
fn in_turns(bench: &Bench, wire: &Detour, ms: u64) -> Vec<(bool, Range<Ktime>)> {
    let headers = [("x-keep", "x-request-id")];
    let rate = rate(RATES.iter().sum(), ms);
    let mut run = bench.start(&headers, 2 * CONNECTIONS, rate);
    let mut spans = Vec::new();
    for turn in 0.. {
        if run.has_ended().unwrap() {
            break;
        }
        let faulty = turn % 2 == 1;
        // Of each packet, so twice in a request.
        let delay = Duration::from_micros(if faulty { 1000 * ms / 2 } else { 0 });
        wire.delay(delay);
        // What the turn before held up keeps others behind it.
        thread::sleep(Duration::from_micros(1000 * ms / 2 + 1000));
        let from = monotonic_now();
        thread::sleep(Duration::from_millis(40 + 2 * ms));
        spans.push((faulty, from..monotonic_now()));
    }
    wire.delay(Duration::ZERO);
    chain::all_succeeded(&run.wait().unwrap());
    spans
}

fn rate(per_second: f64, ms: u64) -> Schedule {
    Schedule::Rate {
        per_second,
        seconds: seconds(ms),
    }
}

fn judge(place: Place, ms: u64, without: Vec<Times>, with: Vec<Times>) -> Verdict {
    let requests = with.len();
    // Of the network's, those that are on the wire between two turns are neither.
    let enough = (0.4 * RATES[1] * seconds(ms)) as usize;
    let few = requests.min(without.len()) < enough;
    let (before, after) = (chain::means(without, place), chain::means(with, place));
    let added = after.total - before.total;
    let shares = Place::ALL.map(|at| (after.of[at as usize] - before.of[at as usize]) / added);
    let mut wrong = Vec::new();
    if few {
        wrong.push(format!("{requests} requests told of at least {enough}"));
    }
    if added < 0.9 * ms as f64 {
        wrong.push(format!("{added:.3} ms added"));
    }
    for at in Place::ALL {
        let share = shares[at as usize];
        let grown = share * added;
        let lands = if at == place {
            let rest = (added - grown).abs();
            grown >= LEAST * ms as f64 && (OF_ALL.contains(&share) || rest <= 2.0 * WAKE_UP_MS)
        } else {
            share.abs() <= ELSEWHERE || grown.abs() <= WAKE_UP_MS
        };
        if !lands {
            wrong.push(format!("{} {:+.2} %", at.as_str(), 100.0 * share));
        }
    }
    Verdict {
        requests,
        added,
        shares,
        wrong: (!wrong.is_empty()).then(|| wrong.join(", ")),
    }
}

impl Cell {
    /// A line of the table.
    fn line(&self) -> String {
        let Self {
            place,
            ms,
            attempt,
            verdict,
        } = self;
        let share = |at: Place| 100.0 * verdict.shares[at as usize];
        let others = Place::ALL.into_iter().filter(|at| at != place);
        let most = others.max_by(|one, other| share(*one).abs().total_cmp(&share(*other).abs()));
        let most = most.unwrap();
        let again = match attempt {
            1 => String::new(),
            attempt => format!(" (attempt {attempt})"),
        };
        format!(
            "| {} | {ms} ms | {} | {:+.3} ms | {:.2} %{again} | {:+.2} % {} |",
            place.words(),
            verdict.requests,
            verdict.added,
            share(*place),
            share(most),
            most.words(),
        )
    }
}

#[test]
fn added_time_lands_where_it_was_added() {
    let Some(bench) = Bench::up("fault", Worker::Threads, true) else {
        return;
    };
    let wire = bench.lab.detour(Pod::Client, Pod::Info).unwrap();
    // Connections open before anything is compared, as many as the longest delay needs.
    let warm = bench.start(
        &[("x-fault", "database-50")],
        2 * CONNECTIONS,
        Schedule::Count(200),
    );
    chain::all_succeeded(&warm.wait().unwrap());
    let only = std::env::var("HOPTRACE_CASE").ok();
    let mut cells = Vec::new();
    for place in Place::FAULTY {
        for ms in DELAYS_MS {
            let name = format!("{}-{ms}", place.as_str());
            if only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            let mut verdict = run(&bench, &wire, place, ms);
            let mut attempt = 1;
            while let (Some(wrong), true) = (&verdict.wrong, attempt < ATTEMPTS) {
                println!("   {name} again, for {wrong}");
                verdict = run(&bench, &wire, place, ms);
                attempt += 1;
            }
            let shares = Place::ALL.map(|at| {
                let share = 100.0 * verdict.shares[at as usize];
                format!("{} {share:+.2}", at.as_str())
            });
            println!("{name}: {}", shares.join(", "));
            cells.push(Cell {
                place,
                ms,
                attempt,
                verdict,
            });
        }
    }
    let (carried, dropped) = wire.packets();
    assert!(
        carried > 0 && dropped == 0,
        "{carried} packets, {dropped} lost"
    );
    println!("\n| held up | by | requests | added | of that in its hop | most in another |");
    println!("|---|---|---|---|---|---|");
    for cell in &cells {
        println!("{}", cell.line());
    }
    let wrong: Vec<_> = cells
        .iter()
        .filter_map(|cell| Some(format!("{}: {}", cell.line(), cell.verdict.wrong.as_ref()?)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn calls_are_told_from_the_apps_own_time() {
    let Some(rows) = inside::rows() else {
        return;
    };
    println!(
        "\n| app | calls | requests | found by | requests with exactly their own | `app` told | with the true calls |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        println!("{row}");
    }
    let wrong: Vec<_> = rows.iter().filter_map(inside::Row::complaint).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
