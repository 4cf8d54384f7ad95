//! One row: what was told, beside what the two ends and Envoy's log say.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;

use hoptrace_lab::{Lab, Pod};
use tracer_user::books::Books;
use tracer_user::model::{Fate, Hop, Part, Protocol, Reporter};

use crate::ends::{Asked, Bench};
use crate::mesh::truth::{self, Sidecar};
use crate::mesh::{Request, Tracing, trace};

/// What is slow by itself on a shared machine is tried again; what is wrong stays wrong.
const ATTEMPTS: usize = 3;

/// Which of the six sockets an exchange has: `Uc`, `Us`, `N`, `D`, `Lc`, `Ls`.
pub(crate) type Shape = &'static str;

/// What is right for a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Every exchange is told, with the right times.
    Exact,
    /// None is told as the client's, and each counts at least so often with this fate.
    Counted(Fate, usize),
    /// Not all are told, or not rightly; at least what is missing counts with this fate.
    NotSupported(Fate),
}

/// A case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What does it.
    pub(crate) client: &'static str,
    pub(crate) work: fn(&Bench<'_>) -> Vec<Asked>,
    /// The sockets of an exchange with this status.
    pub(crate) shape: fn(u16) -> Shape,
    pub(crate) expect: Expect,
    /// Requests told beside those of the client, one for each of its own, by their shape: attempts that
    /// failed, copies, what a server did for nobody.
    pub(crate) beside: Option<fn(&str) -> bool>,
    /// Of so many of the client's own there is one of those.
    pub(crate) one_in: usize,
    /// Pods whose sidecars log each exchange once.
    pub(crate) logs: &'static [(Sidecar, Pod)],
    /// Whether the server is on this node.
    pub(crate) app: bool,
    /// Whose requests those of the client are, where others pass the same sockets.
    pub(crate) from: Option<Pod>,
    /// Whether the client has a clock that is good enough.
    pub(crate) timed: bool,
}

/// Both sidecars on the way from the load pod to capitol-info.
pub(crate) const BOTH: &[(Sidecar, Pod)] = &[
    (Sidecar::Outbound, Pod::Load),
    (Sidecar::Inbound, Pod::Info),
];

impl Case {
    /// A request through six sockets.
    pub(crate) const fn new(
        name: &'static str,
        client: &'static str,
        work: fn(&Bench<'_>) -> Vec<Asked>,
    ) -> Self {
        Self {
            name,
            client,
            work,
            shape: |_status| "111111",
            expect: Expect::Exact,
            beside: None,
            one_in: 1,
            logs: BOTH,
            app: true,
            from: None,
            timed: true,
        }
    }
}

/// How far ours are from the truth, percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Off {
    sum: f64,
    p50: f64,
    p99: f64,
}

impl Off {
    fn of(mut ours: Vec<u64>, mut truth: Vec<u64>) -> Self {
        ours.sort_unstable();
        truth.sort_unstable();
        let percent = |ours: f64, truth: f64| 100.0 * (ours - truth) / truth;
        let sum = |times: &[u64]| times.iter().sum::<u64>() as f64;
        let at =
            |times: &[u64], part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64;
        if ours.is_empty() || truth.is_empty() {
            return Self {
                sum: -100.0,
                p50: -100.0,
                p99: -100.0,
            };
        }
        Self {
            sum: percent(sum(&ours), sum(&truth)),
            p50: percent(at(&ours, 0.5), at(&truth, 0.5)),
            p99: percent(at(&ours, 0.99), at(&truth, 0.99)),
        }
    }

    /// The one that is further off, in each figure.
    fn worst(self, other: Self) -> Self {
        let worst = |one: f64, other: f64| if one.abs() >= other.abs() { one } else { other };
        Self {
            sum: worst(self.sum, other.sum),
            p50: worst(self.p50, other.p50),
            p99: worst(self.p99, other.p99),
        }
    }
}

/// A row of the table.
pub(crate) struct Row {
    name: &'static str,
    client: &'static str,
    exchanges: usize,
    told: usize,
    off: Off,
    unsupported: bool,
    /// Which attempt this is, from 1.
    pub(crate) attempt: usize,
    verdict: String,
    /// What is not as expected.
    pub(crate) wrong: Vec<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coverage = 100.0 * self.told as f64 / self.exchanges.max(1) as f64;
        let Off { sum, p50, p99 } = self.off;
        let figures = if self.told == 0 || self.unsupported {
            "| | |".to_owned()
        } else {
            format!("{sum:+.2} % | {p50:+.2} % | {p99:+.2} %")
        };
        let attempt = match self.attempt {
            1 => String::new(),
            attempt => format!(" (attempt {attempt})"),
        };
        write!(
            f,
            "| {} | {} | {} | {coverage:.1} % | {figures} | {}{attempt} |",
            self.name, self.client, self.exchanges, self.verdict
        )
    }
}

/// Which sockets a request has.
pub(crate) fn shape(request: &Request) -> String {
    let has = |socket: &Option<_>| if socket.is_some() { '1' } else { '0' };
    request.sockets.iter().map(has).collect()
}

/// The client's total, and what it needed to read the answer then: its own stamp stands behind that.
fn total(request: &Request) -> Option<u64> {
    let mut totals = request.times.totals.iter();
    let source = totals.find(|(reporter, _)| *reporter == Reporter::Source);
    let client = request.sockets[0].as_ref()?;
    let read = client.response_taken() - client.response_first;
    source.map(|(_, total)| *total + read)
}

/// Runs a case and holds what was told against what happened.
pub(crate) fn run(lab: &Lab, case: &Case) -> Row {
    let bench = Bench { lab };
    lab.clear_access_logs().unwrap();
    let start = bench.served_so_far();
    let traced = trace(lab, &Tracing::default(), || {
        // What begins with the hooks is told apart for a hold time.
        thread::sleep(Tracing::default().hold);
        (case.work)(&bench)
    });
    let asked = traced.result;
    let served = bench.served_since(start);
    let books = &traced.books;
    let fits = |request: &&Request| {
        let labels = &request.times.labels;
        let http = labels.protocol == Protocol::Http;
        let from = case
            .from
            .is_none_or(|pod| &*labels.source.name == pod.workload());
        from && shape(request) == (case.shape)(labels.response_code)
            && http == (labels.response_code != 0)
    };
    let (told, rest): (Vec<_>, Vec<_>) = traced.requests.iter().partition(fits);
    let beside = rest
        .iter()
        .filter(|request| case.beside.is_some_and(|wanted| wanted(&shape(request))))
        .count();
    let mut off = Off::default();
    let mut parts = Vec::new();
    let mut add = |what: String, ours: Vec<u64>, truth: Vec<u64>| {
        let one = Off::of(ours, truth);
        parts.push(format!(
            "{what} {:+.2}/{:+.2}/{:+.2}",
            one.sum, one.p50, one.p99
        ));
        off = off.worst(one);
    };
    let client: Vec<u64> = asked.iter().filter_map(|asked| asked.took).collect();
    if case.timed && !told.is_empty() {
        let ours = told.iter().filter_map(|request| total(request)).collect();
        add("client".to_owned(), ours, client);
    }
    if case.app && !served.is_empty() {
        let ours = traced
            .requests
            .iter()
            .filter(|request| request.sockets[5].is_some() && !is_nginx(request))
            .map(|request| {
                request.sum(|(hop, _, part)| hop == Hop::App && part == Part::Processing)
            })
            .collect();
        let truth = served
            .iter()
            .map(|served| served.wrote.saturating_sub(served.read));
        add("app".to_owned(), ours, truth.collect());
    }
    let mut wrong = Vec::new();
    if !told.is_empty() {
        for (sidecar, pod) in case.logs {
            let log = lab.access_log(*pod).unwrap();
            let theirs: Vec<_> = traced
                .requests
                .iter()
                .filter(|request| match sidecar {
                    Sidecar::Outbound => {
                        case.from.is_none() || &*request.times.labels.source.name == pod.workload()
                    }
                    Sidecar::Inbound => &*request.times.labels.destination.name == pod.workload(),
                })
                .collect();
            let found = truth::compare(*sidecar, &theirs, &log);
            let legs = |legs: &[truth::Legs], response: bool| {
                let pick = |legs: &truth::Legs| {
                    if response {
                        legs.response
                    } else {
                        legs.request
                    }
                };
                legs.iter().map(pick).collect::<Vec<_>>()
            };
            for response in [false, true] {
                let leg = if response { "response" } else { "request" };
                add(
                    format!("{sidecar:?} {leg}"),
                    legs(&found.ours, response),
                    legs(&found.truth, response),
                );
            }
            if found.missing > 0 && case.expect == Expect::Exact {
                wrong.push(format!(
                    "{sidecar:?}: {} of the log not seen",
                    found.missing
                ));
            }
        }
    }
    let exchanges = asked.len();
    judge(case, exchanges, told.len(), &mut wrong, off, books);
    let unexpected: Vec<_> = rest.iter().map(|request| describe(request)).collect();
    let extra = rest.len() - beside;
    let silent = matches!(case.expect, Expect::NotSupported(_));
    if !silent && 100 * extra > exchanges {
        wrong.push(format!("{extra} told beside: {:?}", tally(unexpected)));
    }
    if case.beside.is_some() && !within(beside * case.one_in, exchanges) {
        wrong.push(format!(
            "{beside} told beside {exchanges}, one in {}",
            case.one_in
        ));
    }
    if case.expect == Expect::Exact {
        let told = told
            .iter()
            .map(|request| request.times.labels.response_code);
        let (told, asked) = (
            statuses(told),
            statuses(asked.iter().map(|asked| asked.status)),
        );
        let differ = asked
            .iter()
            .any(|(status, count)| !within(told.get(status).copied().unwrap_or(0), *count));
        if differ {
            wrong.push(format!("status: {told:?} told, {asked:?} came"));
        }
    }
    if !books.balance() || books.lost() > 0 {
        wrong.push(format!("the books: {books}"));
    }
    let verdict = match case.expect {
        Expect::Exact => "exact".to_owned(),
        Expect::Counted(fate, _) => format!("not a request; counted as `{}`", fate.as_str()),
        Expect::NotSupported(fate) => format!("not supported; counted as `{}`", fate.as_str()),
    };
    println!("{}: {}; {books}", case.name, parts.join(", "));
    Row {
        name: case.name,
        client: case.client,
        exchanges,
        told: told.len(),
        off,
        unsupported: silent,
        attempt: 1,
        verdict,
        wrong,
    }
}

/// At least 99 %, and no more than there are.
const fn within(told: usize, exchanges: usize) -> bool {
    told <= exchanges && 100 * told >= 99 * exchanges
}

/// NGINX has no stamps of its own.
fn is_nginx(request: &Request) -> bool {
    &*request.times.labels.destination.name == Pod::Client.workload()
}

/// How often each status came.
fn statuses(of: impl Iterator<Item = u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in of {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

fn describe(request: &Request) -> String {
    let labels = &request.times.labels;
    format!(
        "{} {} {} {}",
        shape(request),
        labels.protocol.as_str(),
        labels.response_code,
        labels.destination.name
    )
}

fn tally(mut texts: Vec<String>) -> Vec<(String, usize)> {
    texts.sort();
    let groups = texts.chunk_by(|one, other| one == other);
    groups
        .map(|group| (group[0].clone(), group.len()))
        .collect()
}

fn judge(
    case: &Case,
    exchanges: usize,
    told: usize,
    wrong: &mut Vec<String>,
    off: Off,
    books: &Books,
) {
    match case.expect {
        Expect::Exact => {
            if !within(told, exchanges) {
                wrong.push(format!("{told} of {exchanges} told"));
            }
            if off.sum.abs() > 1.0 {
                wrong.push(format!("sum off by {:+.2} %", off.sum));
            }
            for (what, off) in [("p50", off.p50), ("p99", off.p99)] {
                if off.abs() > 5.0 {
                    wrong.push(format!("{what} off by {off:+.2} %"));
                }
            }
        }
        Expect::Counted(fate, times) => {
            let counted = usize::try_from(books.fate(fate)).unwrap();
            if told > 0 || counted < times * exchanges {
                wrong.push(format!("{told} told, {counted} counted of {exchanges}"));
            }
        }
        Expect::NotSupported(fate) => {
            let counted = usize::try_from(books.fate(fate)).unwrap();
            if told + counted < exchanges {
                wrong.push(format!(
                    "{told} told and {counted} counted of {exchanges}: the counter says too little"
                ));
            }
        }
    }
}

/// Runs a case until it holds, a few times at most, and prints its row.
pub(crate) fn tried(lab: &Lab, case: &Case) -> Row {
    let mut row = run(lab, case);
    for attempt in 2..=ATTEMPTS {
        if row.wrong.is_empty() {
            break;
        }
        println!("   again, for {}", row.wrong.join("; "));
        row = run(lab, case);
        row.attempt = attempt;
    }
    println!("{row}");
    row
}

/// Prints the table that docs/accuracy.md has, its first column under this heading; every row must hold.
pub(crate) fn assert_all_hold(heading: &str, rows: &[Row]) {
    println!(
        "\n| {heading} | client | exchanges | coverage | sum off by | p50 off by | p99 off by | |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    let wrong: Vec<_> = rows
        .iter()
        .filter(|row| !row.wrong.is_empty())
        .map(|row| format!("{row}: {}", row.wrong.join("; ")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
