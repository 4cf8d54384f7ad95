//! Tracing in windows: what is told of them is as right as what is told of all the time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{AccessDirection, Mode, Pod};
use mesh::{Request, Tracing, load, spec, trace};
use tracer_user::model::{Fate, Hop, Reporter};
use tracer_user::tracer::monotonic_now;

const MS: u64 = 1_000_000;
/// Of the app; there are always requests on the way when a window begins or ends.
const DELAY: Duration = Duration::from_millis(80);
const RATE: f64 = 300.0;
const SECONDS: f64 = 12.0;
const WINDOW: u64 = 300 * MS;
const PERIOD: u64 = 3_000 * MS;
/// Longer than a request takes on a machine that does much else.
const HOLD: Duration = Duration::from_millis(600);
/// How late a window may end: the tracer looks every 20 ms, and others run on this machine.
const LATE: u64 = 500 * MS;

/// When it came to its first sidecar.
fn begun(request: &Request) -> u64 {
    request.sockets[1].as_ref().unwrap().request_first
}

/// What to add to the tracer's clock for the one of Envoy's log, nanoseconds.
fn since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap() - monotonic_now()
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
    let before: u16 = 64;
    load(&lab, &delayed(Schedule::Count(before.into())));
    let tracing = Tracing {
        windows: "300ms/3s".parse().unwrap(),
        hold: HOLD,
        ..Tracing::default()
    };
    let rate = Schedule::Rate {
        per_second: RATE,
        seconds: SECONDS,
    };
    let started = monotonic_now();
    let traced = trace(&lab, &tracing, || load(&lab, &delayed(rate)));
    let sent = u64::from(before) + traced.result.succeeded;
    let limit = Duration::from_secs(5);
    let log = lab.wait_access_log(Pod::Load, usize::try_from(sent).unwrap(), limit);
    let clock = since_1970();
    let logged: Vec<u64> = log
        .unwrap()
        .iter()
        .filter(|entry| entry.direction == AccessDirection::Out)
        .map(|entry| 1_000 * entry.start_us - clock)
        .collect();
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
        (3..=5).contains(&windows.len()),
        "{} windows",
        windows.len()
    );
    // The first began before the load, the last may end with it.
    for window in &windows[1..windows.len() - 1] {
        let (first, last) = (begun(window[0]), begun(window[window.len() - 1]));
        let came = logged.iter().filter(|at| (first..=last).contains(at));
        let (told, came, span) = (window.len(), came.count(), last - first);
        println!("{told} requests told of {came} in {} ms", span / MS);
        assert!(span <= WINDOW + LATE, "{span} ns");
        // At both edges Envoy writes down when it read what had come.
        assert!(told.abs_diff(came) <= came / 10, "{told} of {came}");
    }
    let books = &traced.books;
    println!("{books}; after {} ms", (monotonic_now() - started) / MS);
    assert!(books.balance(), "{books}");
    assert_eq!((books.lost(), books.missed), (0, 0), "{books}");
    assert_eq!(books.fate(Fate::Unpaired), 0, "{books}");
    // The hooks look for the window and a hold time, and a request's exchanges end 80 ms later.
    let share = books.completed() as f64 / (6 * traced.result.succeeded) as f64;
    assert!(share < 0.5, "{share} of all exchanges were looked at");
}
