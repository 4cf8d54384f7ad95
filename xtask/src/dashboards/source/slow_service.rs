//! *Troubleshoot a slow service*: from "it is slow" to the hop, in a minute.

use super::model::{Column, Dashboard, Look, Panel, Row, Unit, Variable};
use super::promql::{Over, Reporter, Select};

/// Requests to the workload.
const CALLED: &str = "destination_workload=\"$workload\", \
                      destination_workload_namespace=~\"$namespace\", source_workload=~\"$caller\"";
/// Requests that the workload makes.
const CALLING: &str = "source_workload=\"$workload\", source_workload_namespace=~\"$namespace\"";
const ERRORS: &str = "response_code=~\"[45].*\"";
const INSIDE: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "max")];
const HEATMAP: &str = "Each column is a moment, each row a bucket of time, the colour how many. One band \
                       is one behaviour; a second band is a second one: a cold cache, a retry, a starved thread.";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "hoptrace-slow-service",
        title: "Hoptrace / Troubleshoot a slow service",
        about: "Choose a workload and read from top to bottom: is it slow, which hop has the time, does it \
                wait or work, who asks, whom does it ask, what fails.",
        variables: variables(),
        rows: vec![
            Row {
                title: "1. Is it slow?",
                panels: is_it_slow(),
            },
            Row {
                title: "2. Which hop has the time?",
                panels: which_hop(),
            },
            Row {
                title: "3. Does it wait, or does it work?",
                panels: waits_or_works(),
            },
            Row {
                title: "4. Who asks, and whom does it ask?",
                panels: peers(),
            },
            Row {
                title: "5. What fails?",
                panels: errors(),
            },
            Row {
                title: "6. Is it the network?",
                panels: network(),
            },
        ],
    }
}

fn variables() -> Vec<Variable> {
    let series = "hoptrace_hop_duration_seconds_count";
    let called = "destination_workload_namespace=~\"$namespace\"";
    let workload = "destination_workload=\"$workload\"";
    vec![
        Variable {
            name: "namespace",
            shown: "Namespace",
            series: series.to_owned(),
            label: "destination_workload_namespace",
            many: true,
        },
        Variable {
            name: "workload",
            shown: "Slow workload",
            series: format!("{series}{{{called}}}"),
            label: "destination_workload",
            many: false,
        },
        Variable {
            name: "caller",
            shown: "Called by",
            series: format!("{series}{{{called}, {workload}}}"),
            label: "source_workload",
            many: true,
        },
        Variable {
            name: "hop",
            shown: "Hop of the heatmaps",
            series: format!("{series}{{{called}, {workload}}}"),
            label: "hop",
            many: true,
        },
    ]
}

fn is_it_slow() -> Vec<Panel> {
    let now = Select::new(CALLED, Over::Moment);
    let errors = format!(
        "(({}) or 0 * {}) / {}",
        now.requests("", ERRORS),
        now.requests("", ""),
        now.requests("", "")
    );
    let mut whole = Panel::new(
        "Whole requests, as the workload's pod saw them",
        Look::Lines,
        Unit::Seconds,
        "From a request's first byte at the pod to the response's first byte out of it: sidecar, app, and \
         all that the app asks of others. max is the upper edge of the highest bucket that got a request.",
    )
    .size(12, 8);
    for (quantile, name) in INSIDE {
        whole = whole.ask(name, now.quantile(quantile, Reporter::Destination, ""));
    }
    vec![
        Panel::new(
            "Requests",
            Look::Stat,
            Unit::RequestsPerSecond,
            "Requests a second to the workload, from the callers chosen. Slow and busier than before is \
             another matter than slow at the same load.",
        )
        .ask("", now.per_second(&now.requests("", "")))
        .size(4, 8),
        Panel::new(
            "Mean request",
            Look::Stat,
            Unit::Seconds,
            "Mean time from first byte to first byte, as the workload's pod saw it. What its callers \
             waited is in step 4: when that is far more, the time is before the pod.",
        )
        .ask("", now.mean(Reporter::Destination, "", ""))
        .size(4, 8),
        Panel::new(
            "Errors",
            Look::Stat,
            Unit::Share,
            "Share of the answers that were 4xx or 5xx. A service that fails fast looks quick: read the \
             other figures together with this one.",
        )
        .ask("", errors)
        .size(4, 8)
        .warn(0.01, 0.05),
        whole,
        Panel::new(
            "Whole requests, each of them",
            Look::Heatmap,
            Unit::Seconds,
            format!("As the workload's pod saw them. {HEATMAP}"),
        )
        .ask("{{le}}", now.heatmap(Reporter::Destination)),
    ]
}

fn which_hop() -> Vec<Panel> {
    let now = Select::new(CALLED, Over::Moment);
    let page = Select::new(CALLED, Over::Page);
    let legs = "hop, leg, part";
    let columns = ["mean", "p50", "p90", "p99", "max"].map(|title| Column {
        title,
        unit: Unit::Seconds,
    });
    let mut table = Panel::new(
        "Every hop, leg and part",
        Look::Table(columns.to_vec()),
        Unit::Seconds,
        "One line for each part of each leg of each hop, over the time shown. mean is per request and adds \
         up; quantiles are of that part alone, request by request, and do not. connect is in few requests: its \
         quantiles are of those that opened a connection. Sort by mean to find the hop, compare p99 with p50 to \
         see whether all requests are slow or some. max is the upper edge of the highest bucket that got a \
         request.",
    )
    .ask("", page.hop_mean(legs, legs, ""))
    .size(12, 11)
    .runbook("hop-share-grew");
    for (quantile, _) in INSIDE {
        table = table.ask("", page.hop_quantile(quantile, legs, ""));
    }
    vec![
        Panel::new(
            "Mean request, hop by hop",
            Look::Stacked,
            Unit::Seconds,
            "Mean self times of the hops of a request to this workload, on top of each other. The widest \
             band is the hop to look at; a band that got wider is what changed.",
        )
        .ask("{{hop}}", now.hop_mean("hop", "hop", ""))
        .size(12, 11)
        .runbook("hop-share-grew"),
        table,
        Panel::new(
            "p99 of each hop, leg and part",
            Look::Lines,
            Unit::Seconds,
            "The slowest hundredth, each part for itself, from single requests. Lines do not add up to the \
             p99 of the request: the slow ones of one hop are not those of another.",
        )
        .ask("{{hop}} {{leg}} {{part}}", now.hop_quantile(0.99, legs, "")),
        Panel::new(
            "Self times of the hop chosen",
            Look::Heatmap,
            Unit::Seconds,
            format!("Legs and parts of the hop chosen above, all of them while none is. {HEATMAP}"),
        )
        .ask("{{le}}", now.hop_heatmap("hop=~\"$hop\"")),
    ]
}

fn waits_or_works() -> Vec<Panel> {
    let now = Select::new(CALLED, Over::Moment);
    let share = format!(
        "{} / ({} > 0)",
        now.hop_seconds("hop", "part=\"queue\""),
        now.hop_seconds("hop", "part=~\"queue|processing|connect\"")
    );
    vec![
        Panel::new(
            "Queue against processing",
            Look::Stacked,
            Unit::Seconds,
            "Mean per request. queue: the bytes had arrived and the process did not read them: no processor \
             time, or no free thread. processing: from the read to the first byte written on. connect: the \
             sidecar opened a connection for the request, TCP and TLS handshakes included. whole: the hop has \
             no parts. source_pod, wire, destination_pod: the network, where the agent splits it.",
        )
        .ask(
            "{{hop}} {{part}}",
            now.hop_mean("hop, part", "hop, part", ""),
        )
        .size(8, 9)
        .runbook("sidecar-queue-high"),
        Panel::new(
            "Share of queue",
            Look::Lines,
            Unit::Share,
            "Of the time in a hop that has parts (queue, processing, connect), what passed before the process \
             read. Above a half, more CPU (or a higher limit, or more threads) helps more than quicker code.",
        )
        .ask("{{hop}}", share)
        .size(8, 9)
        .warn(0.4, 0.6)
        .runbook("sidecar-queue-high"),
        Panel::new(
            "Queue of the hop chosen",
            Look::Heatmap,
            Unit::Seconds,
            format!(
                "How long bytes waited to be read. A band at a scheduler's period (100 ms is that of CPU \
                 limits) is throttling. {HEATMAP}"
            ),
        )
        .ask(
            "{{le}}",
            now.hop_heatmap("hop=~\"$hop\", part=\"queue\""),
        )
        .size(8, 9)
        .runbook("sidecar-queue-high"),
    ]
}

fn peers() -> Vec<Panel> {
    let inbound = Select::new(CALLED, Over::Page);
    let outbound = Select::new(CALLING, Over::Page);
    let now = Select::new(CALLING, Over::Moment);
    let served = Select::new(CALLED, Over::Moment);
    let columns = [
        ("requests/s", Unit::RequestsPerSecond),
        ("mean", Unit::Seconds),
        ("p99", Unit::Seconds),
        ("in sidecars, mean", Unit::Seconds),
        ("errors/s", Unit::RequestsPerSecond),
    ];
    let columns = columns.map(|(title, unit)| Column { title, unit });
    let table = |title, about: &str, select: Select, reporter, by: &str| {
        let errors = format!(
            "{} or 0 * {}",
            select.per_second(&format!("({})", select.requests(by, ERRORS))),
            select.requests(by, "")
        );
        Panel::new(title, Look::Table(columns.to_vec()), Unit::Seconds, about)
            .ask("", select.per_second(&select.requests(by, "")))
            .ask("", select.mean(reporter, by, ""))
            .ask("", select.quantile(0.99, reporter, by))
            .ask("", select.hop_mean(by, "", "hop=~\"sidecar_.+\""))
            .ask("", errors)
    };
    let waits = format!(
        "{} / ignoring (destination_workload) group_left () {}",
        now.seconds(Reporter::Source, "destination_workload", ""),
        served.requests("", "")
    );
    vec![
        table(
            "Who calls it",
            "Each caller: how often, and what it takes from the first byte at this pod. One caller that is \
             slow alone asks for something else, or sits somewhere else.",
            inbound,
            Reporter::Destination,
            "source_workload",
        ),
        table(
            "Whom it calls",
            "Each workload that this one calls, and how long it waited there: first byte out to first byte \
             back, sidecars and network included. The slow one is the next to be chosen above.",
            outbound,
            Reporter::Source,
            "destination_workload, destination_service_name",
        )
        .may_be_empty("a workload may call nobody"),
        Panel::new(
            "What callers wait",
            Look::Lines,
            Unit::Seconds,
            "Mean wait of each caller, as its own socket saw it. What is above the mean that the pod saw \
             (step 1) lies before the pod: the caller's sidecar, and the network.",
        )
        .ask(
            "{{source_workload}}",
            served.mean(Reporter::Source, "source_workload", ""),
        ),
        Panel::new(
            "Waiting for others, per request served",
            Look::Stacked,
            Unit::Seconds,
            "Seconds that the workload waits for the services it calls, for each request that it serves. It \
             may be more than the request takes: calls that go on side by side are added.",
        )
        .ask("{{destination_workload}}", waits)
        .may_be_empty("a workload may call nobody"),
    ]
}

fn errors() -> Vec<Panel> {
    let now = Select::new(CALLED, Over::Moment);
    vec![
        Panel::new(
            "Answers by status",
            Look::Stacked,
            Unit::RequestsPerSecond,
            "Requests a second by class of status. unknown: no plaintext leg showed one (TLS by the app \
             itself, or --headers off).",
        )
        .ask(
            "{{response_code}}",
            now.per_second(&now.requests("response_code", "")),
        )
        .size(8, 8),
        Panel::new(
            "Errors by caller",
            Look::Lines,
            Unit::RequestsPerSecond,
            "4xx and 5xx a second, by who asked. 4xx of one caller is mostly the caller's fault; 5xx for \
             all of them is the workload's, or its sidecar's.",
        )
        .ask(
            "{{source_workload}} {{response_code}}",
            now.per_second(&now.requests("source_workload, response_code", ERRORS)),
        )
        .size(8, 8)
        .may_be_empty("nothing may have failed"),
        Panel::new(
            "Mean request by status",
            Look::Lines,
            Unit::Seconds,
            "How long good and bad answers take. Errors as slow as a timeout are timeouts; errors far \
             quicker than answers are refused at the door.",
        )
        .ask(
            "{{response_code}}",
            now.mean(Reporter::Destination, "response_code", ""),
        )
        .size(8, 8),
    ]
}

fn network() -> Vec<Panel> {
    let now = Select::new(CALLED, Over::Moment);
    let rtt = "rate(hoptrace_tcp_rtt_seconds_bucket{destination_workload=\"$workload\", \
               destination_workload_namespace=~\"$namespace\", source_workload=~\"$caller\"}[$__rate_interval])";
    vec![
        Panel::new(
            "Network, piece by piece",
            Look::Stacked,
            Unit::Seconds,
            "Mean per request, of those with both ends on one node. wire: between the host's ends of the two pods' \
             veths, the node's own stack and what is behind it. source_pod, destination_pod: between the pod's \
             veth and its socket, both legs: scheduling and softirqs of that pod. whole: not split.",
        )
        .ask(
            "{{part}}",
            now.hop_mean("hop, part", "hop, part", "hop=\"network\""),
        )
        .size(8, 8)
        .may_be_empty("callers may all be on other nodes; without --pod-boundary on there is only whole"),
        Panel::new(
            "Network, by difference",
            Look::Lines,
            Unit::Seconds,
            "Mean wait of the client less mean time of the pod, less the calling sidecar and its loopback: \
             right between nodes too, as a mean. Below 0 the two ends did not see the same requests.",
        )
        .ask(
            "{{source_workload}}",
            now.network_by_difference("source_workload"),
        )
        .size(8, 8)
        .signed(),
        Panel::new(
            "TCP round trip of the connections",
            Look::Lines,
            Unit::Seconds,
            "The kernel's smoothed round trip between the pods, one value a request, at most 16 requests old. \
             It includes the peer's delayed acknowledgements: up to 40 ms of it may be no network.",
        )
        .ask(
            "{{source_workload}} p50",
            format!("histogram_quantile(0.5, sum by (le, source_workload) ({rtt}))"),
        )
        .ask(
            "{{source_workload}} p99",
            format!("histogram_quantile(0.99, sum by (le, source_workload) ({rtt}))"),
        )
        .size(8, 8),
    ]
}
