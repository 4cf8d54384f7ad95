//! Tracing in windows: what is told of them is as right as what is told of all the time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::time::Duration;

use hoptrace_lab::Mode;
use hoptrace_lab::load::{LoadSpec, Schedule};
use mesh::{Request, Tracing, load, spec, trace};
use tracer_user::model::{Fate, Hop, Reporter};
use tracer_user::tracer::monotonic_now;

const MS: u64 = 1_000_000;
/// Of the app; there are always requests on the way when a window begins or ends.
const DELAY: Duration = Duration::from_millis(80);
const RATE: f64 = 300.0;
const SECONDS: f64 = 6.0;
const WINDOW: u64 = 300 * MS;
const PERIOD: u64 = 1_500 * MS;
/// How late a window may end: the tracer looks every 20 ms, and others run on this machine.
const LATE: u64 = 100 * MS;

/// When its app sent it.
fn begun(request: &Request) -> u64 {
    request.sockets[0].as_ref().unwrap().request_first
}

#[test]
fn requests_of_a_window_are_told_whole_and_the_others_not_at_all() {
    let Some(lab) = mesh::lab("windows", Mode::Mtls, |_| {}) else {
        return;
    };
    let delayed = |schedule| {
        let spec = spec(&lab, 64, schedule);
        LoadSpec {
            url: format!("{}?delay_ms={}", spec.url, DELAY.as_millis()),
            ..spec
        }
    };
    // Every connection is older than the tracer: what it knows of them it learns in a window.
    load(&lab, &delayed(Schedule::Count(64)));
    let tracing = Tracing {
        windows: "300ms/1500ms".parse().unwrap(),
        ..Tracing::default()
    };
    let rate = Schedule::Rate {
        per_second: RATE,
        seconds: SECONDS,
    };
    let started = monotonic_now();
    let traced = trace(&lab, &tracing, || load(&lab, &delayed(rate)));
    let mut requests: Vec<&Request> = traced.requests.iter().collect();
    for request in &requests {
        assert!(request.is_whole(), "{:?}", request.sockets);
        let app = Duration::from_nanos(request.hop(Hop::App));
        assert!(app >= DELAY, "{app:?} in the app");
        let sum: u64 = request.times.hops.iter().map(|time| time.duration_ns).sum();
        let totals = &request.times.totals;
        let source = totals.iter().find(|(end, _)| *end == Reporter::Source);
        assert!(sum.abs_diff(source.unwrap().1) <= 1_000);
    }
    requests.sort_unstable_by_key(|request| begun(request));
    let windows: Vec<&[&Request]> = requests
        .chunk_by(|one, next| begun(next) - begun(one) < PERIOD / 2)
        .collect();
    assert!(
        (4..=5).contains(&windows.len()),
        "{} windows",
        windows.len()
    );
    // The first began before the load, the last may end with it.
    for window in &windows[1..windows.len() - 1] {
        let span = begun(window[window.len() - 1]) - begun(window[0]);
        println!("{} requests in {} ms", window.len(), span / MS);
        assert!(span <= WINDOW + LATE, "{span} ns");
        let planned = RATE * span as f64 / 1e9;
        let told = window.len() as f64;
        assert!(
            (told - planned).abs() <= 0.1 * planned,
            "{told} of {planned}"
        );
    }
    let books = &traced.books;
    println!("{books}; after {} ms", (monotonic_now() - started) / MS);
    assert!(books.balance(), "{books}");
    assert_eq!((books.lost(), books.missed), (0, 0), "{books}");
    assert_eq!(books.fate(Fate::Unpaired), 0, "{books}");
    // The hooks look for the window and a hold time, and a request's exchanges end 80 ms later.
    let all = 6.0 * RATE * SECONDS;
    let share = books.completed() as f64 / all;
    assert!(share < 0.5, "{share} of all exchanges were looked at");
}
