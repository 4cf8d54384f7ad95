//! *Mesh tax*: what the sidecars cost, on one picture.

use super::model::{Column, Dashboard, Look, Panel, Row, Unit, Variable};
use super::promql::{Over, Reporter, Select, with_pair};

const MATCHERS: &str = "source_workload=~\"$source\", destination_workload=~\"$destination\", \
                        destination_workload_namespace=~\"$namespace\"";
const SIDECARS: &str = "hop=~\"sidecar_.+\"";
const PAIR: &str = "source_workload, destination_workload";
/// What tells requests through sidecars from others, as far as labels can.
const KIND: &str = "source_workload_namespace, source_workload, destination_workload_namespace, \
                    destination_workload, connection_security_policy";
const SHOWS_PAIR: &str =
    "Workloads of one name in several namespaces are one pair unless a namespace is chosen.";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "hoptrace-mesh-tax",
        title: "Hoptrace / Mesh tax",
        about: "What the sidecars of the mesh cost each request, pair by pair, and where it goes.",
        variables: variables(),
        rows: vec![
            Row {
                title: "In one look",
                panels: in_one_look(),
            },
            Row {
                title: "Pair by pair",
                panels: pair_by_pair(),
            },
            Row {
                title: "Over time, of the pairs chosen",
                panels: over_time(),
            },
            Row {
                title: "With and without sidecars",
                panels: with_and_without(),
            },
            Row {
                title: "Between nodes",
                panels: between_nodes(),
            },
        ],
    }
}

fn variables() -> Vec<Variable> {
    let series = "hoptrace_request_duration_seconds_count";
    vec![
        Variable {
            name: "namespace",
            shown: "Namespace called",
            series: series.to_owned(),
            label: "destination_workload_namespace",
            many: true,
        },
        Variable {
            name: "source",
            shown: "From",
            series: format!("{series}{{destination_workload_namespace=~\"$namespace\"}}"),
            label: "source_workload",
            many: true,
        },
        Variable {
            name: "destination",
            shown: "To",
            series: format!(
                "{series}{{destination_workload_namespace=~\"$namespace\", source_workload=~\"$source\"}}"
            ),
            label: "destination_workload",
            many: true,
        },
    ]
}

fn in_one_look() -> Vec<Panel> {
    let page = Select::new(MATCHERS, Over::Moment);
    let sidecars = page.hop_mean("", "", SIDECARS);
    let share = format!(
        "{} / ({} > 0)",
        page.hop_seconds("", SIDECARS),
        page.seconds(Reporter::Source, "", "")
    );
    let queue = format!(
        "{} / ({} > 0)",
        page.hop_seconds("", &format!("{SIDECARS}, part=\"queue\"")),
        page.hop_seconds("", SIDECARS)
    );
    let stat = |title, unit, about: &str, expr: String| {
        Panel::new(title, Look::Stat, unit, about)
            .ask("", expr)
            .size(6, 5)
    };
    vec![
        stat(
            "Sidecars take of each request",
            Unit::Seconds,
            "Mean self time in all sidecars that a request passed, both legs: seconds in sidecars by requests. \
             This is the tax. It is not what would be saved without a mesh: apps and network change too.",
            sidecars,
        ),
        stat(
            "Their share of the wait",
            Unit::Share,
            "Of all the seconds that callers waited for an answer, those that passed in sidecars. Callers \
             outside of what is traced do not count. High where services are quick.",
            share,
        )
        .warn(0.3, 0.6)
        .runbook("sidecar-queue-high"),
        stat(
            "Of it, bytes that wait to be read",
            Unit::Share,
            "Part of the sidecars' time in which a sidecar had not yet read what was there (queue). Above a \
             half the sidecars lack processor time rather than being slow: look at their CPU limits first.",
            queue,
        )
        .warn(0.4, 0.6)
        .runbook("sidecar-queue-high"),
        stat(
            "Requests",
            Unit::RequestsPerSecond,
            "Requests a second between the pairs chosen: each once, as its client saw it, else as its server \
             did. The figures beside it are means over these.",
            page.per_second(&page.requests("", "")),
        ),
    ]
}

fn pair_by_pair() -> Vec<Panel> {
    let page = Select::new(MATCHERS, Over::Page);
    let by_hop = format!("{PAIR}, hop");
    let means = with_pair(&page.hop_mean(&by_hop, "hop", ""));
    let wait = page.mean(Reporter::Source, PAIR, "");
    let sidecars = page.hop_mean(PAIR, "", SIDECARS);
    let share = format!(
        "{} / ({} > 0)",
        page.hop_seconds(PAIR, SIDECARS),
        page.seconds(Reporter::Source, PAIR, "")
    );
    let columns = [
        ("requests/s", Unit::RequestsPerSecond),
        ("client waits, mean", Unit::Seconds),
        ("in sidecars, mean", Unit::Seconds),
        ("sidecars' share", Unit::Share),
    ];
    let columns = columns.map(|(title, unit)| Column { title, unit });
    vec![
        Panel::new(
            "Where a request's time goes, by pair",
            Look::Bars { percent: false },
            Unit::Seconds,
            format!(
                "Mean self time of each hop of a request, over the time shown. The pieces of a bar add up to \
                 what the client waits, less the calls that the called app makes itself: those are pairs of \
                 their own. {SHOWS_PAIR}"
            ),
        )
        .ask("", means.clone())
        .size(12, 12),
        Panel::new(
            "The same as shares of the total",
            Look::Bars { percent: true },
            Unit::Seconds,
            format!(
                "Each bar is all the time in the hops of a pair: read which colour is longest. A pair \
                 whose sidecars are most of it has quick services. {SHOWS_PAIR}"
            ),
        )
        .ask("", means)
        .size(12, 12),
        Panel::new(
            "The tax, pair by pair",
            Look::Table(columns.to_vec()),
            Unit::Seconds,
            format!(
                "Means over the time shown; sort by a column. The share is of the seconds that the client \
                 waits. A workload leads to the page on which its slowness is looked into. {SHOWS_PAIR}"
            ),
        )
        .ask("", page.per_second(&page.requests(PAIR, "")))
        .ask("", wait)
        .ask("", sidecars)
        .ask("", share)
        .size(24, 9),
    ]
}

fn over_time() -> Vec<Panel> {
    let now = Select::new(MATCHERS, Over::Moment);
    vec![
        Panel::new(
            "Mean request, hop by hop",
            Look::Stacked,
            Unit::Seconds,
            "Mean self times of the hops of a request, on top of each other. What grows is what got \
             slower: a mean over all pairs chosen, so choose one when they differ.",
        )
        .ask("{{hop}}", now.hop_mean("hop", "hop", "")),
        Panel::new(
            "Sidecars: waiting and working",
            Look::Stacked,
            Unit::Seconds,
            "Mean time in sidecars for each request. queue: the bytes were there and nobody read them; \
             processing: from the read to the write; connect: a connection was opened for the request, with \
             its handshakes; whole: the read was not seen (no read hook).",
        )
        .ask(
            "{{hop}} {{part}}",
            now.hop_mean("hop, part", "hop, part", SIDECARS),
        )
        .runbook("sidecar-queue-high"),
    ]
}

fn with_and_without() -> Vec<Panel> {
    let page = Select::new(MATCHERS, Over::Page);
    let now = Select::new(MATCHERS, Over::Moment);
    let split = |select: Select, by: &str, operator: &str| {
        // A loopback connection is to a sidecar, also where that one is not measured.
        let passed = "hop=~\"sidecar_.+|loopback\"";
        let taxed = format!("({} > 0)", select.hop_seconds(KIND, passed));
        let of = |what: String| format!("sum by ({by}) ({what} {operator} on ({KIND}) {taxed})");
        let seconds = of(select.seconds(Reporter::Source, KIND, ""));
        let seen = of(select.seen(Reporter::Source, KIND, ""));
        let mean = format!("{seconds} / ({seen} > 0)");
        (mean, select.per_second(&seen))
    };
    let (with, with_rate) = split(page, PAIR, "and");
    let (without, without_rate) = split(page, PAIR, "unless");
    let columns = [
        ("with: mean wait", Unit::Seconds),
        ("with: requests/s", Unit::RequestsPerSecond),
        ("without: mean wait", Unit::Seconds),
        ("without: requests/s", Unit::RequestsPerSecond),
    ];
    let columns = columns.map(|(title, unit)| Column { title, unit });
    let line = |operator| split(now, "destination_workload", operator).0;
    vec![
        Panel::new(
            "Mean wait with and without sidecars",
            Look::Table(columns.to_vec()),
            Unit::Seconds,
            "What clients waited, of requests that passed a sidecar and of those that passed none, pair by \
             pair. Only pairs that have both compare like with like: during a roll-out, or with one \
             replica outside of the mesh. Told apart by pair and by mutual TLS.",
        )
        .ask("", with)
        .ask("", with_rate)
        .ask("", without)
        .ask("", without_rate)
        .size(12, 9)
        .may_be_empty("a mesh may have no pair at all without sidecars, or none with"),
        Panel::new(
            "Mean wait by what was called",
            Look::Lines,
            Unit::Seconds,
            "The same over time, by the workload called. The distance between its two lines is what the \
             mesh costs where callers are alike; where they are not, it is also what they ask for.",
        )
        .ask("{{destination_workload}}, with", line("and"))
        .ask("{{destination_workload}}, without", line("unless"))
        .size(12, 9)
        .may_be_empty("a mesh may have no pair at all without sidecars, or none with"),
    ]
}

fn between_nodes() -> Vec<Panel> {
    let now = Select::new(MATCHERS, Over::Moment);
    let by_difference = now.network_by_difference(PAIR);
    let measured = now.hop_mean(&format!("{PAIR}, hop"), "hop", "hop=\"network\"");
    let wait = now.mean(Reporter::Source, PAIR, "");
    vec![
        Panel::new(
            "Network, measured and by difference",
            Look::Lines,
            Unit::Seconds,
            "measured: both pods on one node, request by request. by difference: mean wait of the client \
             less mean time of the server, less the calling sidecar and its loopback; it is right \
             between nodes too. Means only: no quantile can be had so. It swings by what the other terms swing. \
             Not for pairs whose sidecars are passed and not measured (gRPC under mutual TLS).",
        )
        .ask(
            "{{source_workload}} → {{destination_workload}}, by difference",
            by_difference.clone(),
        )
        .ask(
            "{{source_workload}} → {{destination_workload}}, measured",
            measured,
        )
        .signed(),
        Panel::new(
            "Network's share of the wait",
            Look::Lines,
            Unit::Share,
            "Network by difference, as a share of what the client waits. It needs agents on both nodes \
             that name the pods alike. Below 0 the two ends did not see the same requests: compare coverage.",
        )
        .ask(
            "{{source_workload}} → {{destination_workload}}",
            format!("({by_difference}) / ({wait})"),
        )
        .signed()
        .runbook("hop-share-grew"),
    ]
}
