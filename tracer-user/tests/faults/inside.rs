//! Inside the app: how well the calls of an app are told from its own time, by each way of finding the
//! requests for which they were made, against the calls that the app wrote down itself.

use std::collections::HashMap;
use std::fmt;
use std::thread;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::wire::{self, Called, Done};
use hoptrace_lab::{Pod, Worker};
use tracer_user::http_head;
use tracer_user::model::{CallMethod, Hop, Part};

use crate::chain::{self, Bench};
use crate::mesh::{self, Request, Tracing};

/// How far a request with exactly its own calls may be off: all stamps are the same.
const OFF_NS: u64 = 1_000;
/// Calls of each request.
const CALLS: usize = 3;
/// Requests that are served at once, where it is not one.
const AT_ONCE: usize = 4;
/// A trace for each request, with the load's own hole in it.
const TRACE: &str = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
/// Least share of requests where a way is certain, percent.
const LEAST: f64 = 98.0;
const ATTEMPTS: usize = 3;
/// Requests to be followed.
const FEWEST: usize = 38;

/// What an app does with a request.
pub(crate) struct Case {
    /// Whether the calls are made at the same time.
    parallel: bool,
    /// What it hands on.
    keep: &'static str,
    /// Whether it serves one request at a time.
    alone: bool,
    /// Milliseconds until the first call.
    work: u64,
    /// Least share of requests, by the app's threads in the order of [`WORKERS`], percent.
    least: [f64; 3],
}

const WORKERS: [(Worker, &str); 3] = [
    (Worker::Threads, "a thread a connection"),
    (Worker::Loop, "one event loop"),
    (Worker::Workers, "two threads, any task on either"),
];

const fn case(parallel: bool, keep: &'static str, alone: bool, work: u64) -> Case {
    Case {
        parallel,
        keep,
        alone,
        work,
        least: [LEAST; 3],
    }
}

const CASES: [Case; 8] = [
    case(false, "x-request-id", false, 2),
    case(true, "x-request-id", false, 2),
    case(false, "traceparent", false, 2),
    case(true, "traceparent", false, 2),
    case(false, "", true, 2),
    case(true, "", true, 2),
    // What can be known without identifiers is what is measured here.
    Case {
        least: [LEAST, 0.0, 0.0],
        ..case(false, "", false, 0)
    },
    Case {
        least: [0.0; 3],
        ..case(true, "", false, 0)
    },
];

pub(crate) struct Row {
    app: &'static str,
    how: String,
    requests: usize,
    /// Calls found, by method.
    found: [u64; CallMethod::ALL.len()],
    calls: usize,
    exact: f64,
    /// Means of the own time, milliseconds.
    told: f64,
    truth: f64,
    wrong: bool,
    attempt: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: u64| 100.0 * count as f64 / self.calls as f64;
        let mut found: Vec<_> = CallMethod::ALL
            .into_iter()
            .zip(self.found)
            .filter(|(method, count)| *method != CallMethod::None && *count > 0)
            .map(|(method, count)| format!("{} {:.1} %", method.as_str(), share(count)))
            .collect();
        if found.is_empty() {
            found.push("none".to_owned());
        }
        let attempt = match self.attempt {
            1 => String::new(),
            attempt => format!(" (attempt {attempt})"),
        };
        write!(
            f,
            "| {} | {} | {} | {} | {:.1} %{attempt} | {:.2} ms | {:.2} ms |",
            self.app,
            self.how,
            self.requests,
            found.join(", "),
            self.exact,
            self.told,
            self.truth,
        )
    }
}

fn hash(id: &str) -> u64 {
    let head = format!("GET / HTTP/1.1\r\nx-request-id: {id}\r\n\r\n");
    http_head::parse(head.as_bytes(), b"").request_id
}

/// Holds what was told of the requests of capitol-client against the calls that it made for each: from which
/// port, and when.
fn compare(requests: &[Request], served: &[Done]) -> Row {
    let mut by_port: HashMap<u16, Vec<(u64, u64)>> = HashMap::new();
    let clients = requests
        .iter()
        .filter(|request| &*request.times.labels.source.name == Pod::Client.workload());
    for client in clients.filter_map(|call| call.sockets[0].as_ref()) {
        let port = client.socket.local.port();
        let span = (client.request_first, client.response_first);
        by_port.entry(port).or_default().push(span);
    }
    let found = |call: &Called| {
        let mut spans = by_port.get(&call.port)?.iter().copied();
        spans.find(|(began, _)| (call.sent..call.came).contains(began))
    };
    let spans: HashMap<u64, Vec<_>> = served
        .iter()
        .map(|done| {
            (
                hash(&done.id),
                done.calls.iter().filter_map(found).collect(),
            )
        })
        .collect();
    let own = requests.iter().filter_map(|request| {
        let named = &*request.times.labels.destination.name == Pod::Client.workload();
        let server = request.sockets[5].as_ref().filter(|_| named)?;
        let spans = spans.get(&server.http.request_id)?;
        (spans.len() == CALLS).then_some((request, server, spans))
    });
    let (mut found, mut exact, mut told, mut truth, mut count) = ([0; 5], 0, 0, 0, 0);
    for (request, server, spans) in own {
        let whole = server.response_first - server.request_taken();
        let real = whole - wire::union(spans.clone());
        let own = request.sum(|(hop, _, part)| hop == Hop::App && part == Part::Processing);
        let dropped = request
            .times
            .dropped
            .iter()
            .any(|time| time.hop == Some(Hop::App));
        exact += usize::from(!dropped && own.abs_diff(real) <= OFF_NS);
        told += own;
        truth += real;
        count += 1;
        for (sum, calls) in found.iter_mut().zip(request.times.calls) {
            *sum += calls;
        }
    }
    let all = count.max(1) as f64;
    Row {
        app: "",
        how: String::new(),
        requests: count,
        found,
        calls: CALLS * count.max(1),
        exact: 100.0 * exact as f64 / all,
        told: told as f64 / 1e6 / all,
        truth: truth as f64 / 1e6 / all,
        wrong: false,
        attempt: 1,
    }
}

/// One case.
fn run(bench: &Bench, case: &Case) -> Row {
    let start = bench.done_so_far(Pod::Client);
    let tracing = Tracing::default();
    let (calls, work) = (CALLS.to_string(), case.work.to_string());
    let parallel = if case.parallel { "1" } else { "0" };
    let headers = [
        ("x-fault", "database-20"),
        ("x-calls", &calls),
        ("x-work", &work),
        ("x-parallel", parallel),
        ("x-keep", case.keep),
        ("traceparent", TRACE),
    ];
    // As fast as answers come, so that as many are served at once.
    let (connections, count) = if case.alone { (1, 40) } else { (AT_ONCE, 120) };
    let schedule = Schedule::Count(count);
    let traced = mesh::trace(&bench.lab, &tracing, || {
        thread::sleep(tracing.hold);
        let load = bench.start(&headers, connections, schedule);
        chain::all_succeeded(&load.wait().unwrap());
    });
    assert!(
        traced.books.balance() && traced.books.lost() == 0,
        "{}",
        traced.books
    );
    compare(&traced.requests, &bench.done_since(Pod::Client, start))
}

/// Every way, with every kind of app.
pub(crate) fn rows() -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for (at, (worker, app)) in WORKERS.into_iter().enumerate() {
        let bench = Bench::up(&format!("inside-{at}"), worker, false)?;
        let warm = [
            ("x-calls", "3"),
            ("x-parallel", "1"),
            ("x-fault", "database-5"),
        ];
        let warm = bench.start(&warm, 16, Schedule::Count(150));
        chain::all_succeeded(&warm.wait().unwrap());
        for case in &CASES {
            let least = case.least[at];
            let mut attempt = 1;
            let mut row = run(&bench, case);
            // Nothing is slow here because the machine is, but a request that is cut in two is not followed.
            while (row.exact < least || row.requests < FEWEST) && attempt < ATTEMPTS {
                println!("   again: {row}");
                row = run(&bench, case);
                attempt += 1;
            }
            let calls = if case.parallel { "at once" } else { "in turn" };
            let keep = if case.keep.is_empty() {
                "nothing handed on".to_owned()
            } else {
                format!("`{}` handed on", case.keep)
            };
            let load = if case.alone {
                "one request at a time"
            } else {
                "four requests at a time"
            };
            row.app = app;
            row.how = format!("three {calls}, {keep}, {load}");
            row.wrong = row.exact < least || row.requests < FEWEST;
            row.attempt = attempt;
            println!("{row}");
            rows.push(row);
        }
    }
    Some(rows)
}

impl Row {
    /// What is not as expected.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.wrong.then(|| self.to_string())
    }
}
