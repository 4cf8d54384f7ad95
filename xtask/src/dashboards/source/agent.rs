//! *Node and agent*: may the other pages be believed, and what do they cost?

use super::model::{Column, Dashboard, Look, Panel, Row, Unit, Variable};

const MATCHERS: &str = "job=~\"$job\", instance=~\"$instance\"";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "hoptrace-agent",
        title: "Hoptrace / Node and agent",
        about: "Whether the figures of the other pages can be believed on each node, and what measuring costs.",
        variables: variables(),
        rows: vec![
            Row {
                title: "Can the figures be believed?",
                panels: believed(),
            },
            Row {
                title: "What is lost, and why",
                panels: lost(),
            },
            Row {
                title: "Names",
                panels: names(),
            },
            Row {
                title: "What it costs",
                panels: cost(),
            },
        ],
    }
}

fn variables() -> Vec<Variable> {
    vec![
        Variable {
            name: "job",
            shown: "Job",
            series: "hoptrace_build_info".to_owned(),
            label: "job",
            many: true,
        },
        Variable {
            name: "instance",
            shown: "Agent",
            series: "hoptrace_build_info{job=~\"$job\"}".to_owned(),
            label: "instance",
            many: true,
        },
    ]
}

/// A counter's rate, summed by labels.
fn rate(by: &str, counter: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("sum by ({by}) (rate({counter}{{{MATCHERS}{comma}{more}}}[$__rate_interval]))")
}

fn gauge(name: &str) -> String {
    format!("{name}{{{MATCHERS}}}")
}

fn believed() -> Vec<Panel> {
    let records_lost = rate(
        "instance",
        "hoptrace_records_lost_total",
        "reason=~\"ring_full|parse_error|unknown_socket\"",
    );
    let judged = rate(
        "instance",
        "hoptrace_exchanges_total",
        "result=~\"paired|unpaired|evicted\"",
    );
    let paired = rate("instance", "hoptrace_exchanges_total", "result=\"paired\"");
    let records = rate("instance", "hoptrace_records_total", "");
    let column = |title, unit| Column { title, unit };
    vec![
        Panel::new(
            "Coverage",
            Look::Lines,
            Unit::Share,
            "Of the exchanges that should have a neighbour, those that found it; lost ones count as not \
             found. 1 is everything. On a node that calls pods of other nodes without sidecars it is rightly lower.",
        )
        .ask(
            "{{instance}}",
            format!("{paired} / (({judged} + {records_lost}) > 0)"),
        )
        .at_least(0.9, 0.95)
        .runbook("coverage-low"),
        Panel::new(
            "Records lost, as a share",
            Look::Lines,
            Unit::Share,
            "Of the records that the kernel side completed, those that the agent could not use. It should \
             be 0: requests with a lost record are incomplete, and busy moments lose most.",
        )
        .ask("{{instance}}", format!("{records_lost} / ({records} > 0)"))
        .warn(0.0001, 0.001)
        .runbook("records-lost"),
        Panel::new(
            "Exchanges by what became of them",
            Look::Stacked,
            Unit::PerSecond,
            "An exchange is a request and its response on one socket; a request through two sidecars is six. \
             unpaired: no neighbour here. handshake, probe and continuation are no requests. docs/metrics.md explains each.",
        )
        .ask("{{result}}", rate("result", "hoptrace_exchanges_total", ""))
        .runbook("coverage-low"),
        Panel::new(
            "How neighbours were found",
            Look::Stacked,
            Unit::PerSecond,
            "tuple: the two ends of one connection, exact. worker_order: the two sides of a sidecar, by \
             time and order on one worker: sums are exact, single pairs nearly.",
        )
        .ask(
            "{{method}}",
            rate("method", "hoptrace_exchanges_total", "result=\"paired\""),
        ),
        Panel::new(
            "Calls of apps, by how their request was found",
            Look::Stacked,
            Unit::PerSecond,
            "Calls that apps made while they served requests. none: whose call it was is not known, so its time \
             stays in the app's own. Apps that hand on x-request-id or traceparent have hardly any.",
        )
        .ask("{{method}}", rate("method", "hoptrace_app_calls_total", "")),
        Panel::new(
            "Network times, by whether they are split",
            Look::Stacked,
            Unit::PerSecond,
            "split: into source_pod, wire and destination_pod, whose sum is the whole. absent: the passage of \
             one veth is not known, so the time stays whole. order: the passage found was another's.",
        )
        .ask(
            "{{result}}",
            rate("result", "hoptrace_network_splits_total", ""),
        )
        .may_be_empty("agents without --pod-boundary on do not split"),
        Panel::new(
            "Agents",
            Look::Table(vec![
                column("seen", Unit::Count),
                column("records/s", Unit::PerSecond),
            ]),
            Unit::Count,
            "One line for each agent and build. Two builds at a time are a roll-out, and may count \
             differently. An agent without records traces nothing: wrong cgroup root, or no traffic.",
        )
        .ask(
            "",
            format!(
                "sum by (instance, version, arch) ({})",
                gauge("hoptrace_build_info")
            ),
        )
        .ask(
            "",
            format!(
                "{} * on (instance) group_left (version, arch) sum by (instance, version, arch) ({})",
                rate("instance", "hoptrace_records_total", ""),
                gauge("hoptrace_build_info")
            ),
        )
        .runbook("down"),
        Panel::new(
            "Answers to Prometheus",
            Look::Lines,
            Unit::Count,
            "1 while the agent answers, 0 while it does not. While it is 0 the node is not measured: what \
             happened then is in no figure.",
        )
        .ask("{{instance}}", gauge("up"))
        .at_least(1.0, 1.0)
        .runbook("down"),
    ]
}

fn lost() -> Vec<Panel> {
    vec![
        Panel::new(
            "Losses by reason",
            Look::Lines,
            Unit::PerSecond,
            "Reasons count different things: records, segments, heads. Do not add them up. ring_full and \
             unknown_socket are the agent's lack of time; socket_state_full is the kernel's lack of memory.",
        )
        .ask(
            "{{instance}} {{reason}}",
            rate("instance, reason", "hoptrace_records_lost_total", ""),
        )
        .size(8, 8)
        .runbook("records-lost"),
        Panel::new(
            "Exchanges that wait",
            Look::Lines,
            Unit::Count,
            "Exchanges whose neighbour may still come: about the exchanges of two hold times. When it \
             reaches --max-pending, the oldest are given up (evicted).",
        )
        .ask("{{instance}}", gauge("hoptrace_exchanges_pending"))
        .size(8, 8)
        .runbook("exchanges-evicted"),
        Panel::new(
            "Evicted",
            Look::Lines,
            Unit::PerSecond,
            "Exchanges given up because the table of waiting ones was full. It should be 0: their requests \
             are incomplete.",
        )
        .ask(
            "{{instance}}",
            rate("instance", "hoptrace_exchanges_total", "result=\"evicted\""),
        )
        .size(8, 8)
        .warn(0.001, 1.0)
        .runbook("exchanges-evicted"),
        Panel::new(
            "Times that cannot be",
            Look::Lines,
            Unit::PerSecond,
            "Times that would have been negative, by hop and reason: they are in no histogram. A few a \
             second of many thousand are stamps of paced packets; many are a fault to report.",
        )
        .ask(
            "{{time}} {{reason}}",
            rate("time, reason", "hoptrace_times_dropped_total", ""),
        )
        .may_be_empty("there may be none, and then there is no series"),
        Panel::new(
            "Requests counted as other",
            Look::Lines,
            Unit::RequestsPerSecond,
            "Requests whose workloads are not told apart, because --max-series sets of labels exist \
             already. It should be 0: what is here is missing under its own name.",
        )
        .ask(
            "{{instance}}",
            rate("instance", "hoptrace_label_sets_capped_total", ""),
        )
        .warn(0.001, 1.0)
        .runbook("label-sets-capped"),
    ]
}

fn names() -> Vec<Panel> {
    let reason = "names come from a file, not from the Kubernetes API";
    vec![
        Panel::new(
            "Names are up to date",
            Look::Lines,
            Unit::Count,
            "1 while all of a resource is known and kept up to date by the Kubernetes API. While it is 0, \
             new pods have no name: their requests are counted under unknown.",
        )
        .ask(
            "{{instance}} {{resource}}",
            gauge("hoptrace_identity_synced"),
        )
        .size(8, 8)
        .at_least(1.0, 1.0)
        .runbook("identity-not-synced")
        .may_be_empty(reason),
        Panel::new(
            "Objects known",
            Look::Lines,
            Unit::Count,
            "Pods, services, slices and nodes that the agent keeps to name addresses. It drives the \
             agent's memory; --peers says what is watched of other nodes.",
        )
        .ask(
            "{{instance}} {{resource}}",
            gauge("hoptrace_identity_objects"),
        )
        .size(8, 8)
        .may_be_empty(reason),
        Panel::new(
            "The API: failures and new starts",
            Look::Lines,
            Unit::PerSecond,
            "Requests to the API that failed, by reason, and watches that had to list everything anew. \
             gone and a new start now and then are in order; forbidden is a missing verb in the ClusterRole.",
        )
        .ask(
            "{{resource}} {{reason}}",
            rate("resource, reason", "hoptrace_identity_errors_total", ""),
        )
        .ask(
            "{{resource}} new start",
            rate("resource", "hoptrace_identity_restarts_total", ""),
        )
        .size(8, 8)
        .runbook("identity-not-synced")
        .may_be_empty(reason),
    ]
}

fn cost() -> Vec<Panel> {
    let seconds = "hoptrace_bpf_run_seconds_total";
    let off = "the kernel accounts for programs with --bpf-stats only";
    vec![
        Panel::new(
            "Agent: processor",
            Look::Lines,
            Unit::Cores,
            "Processor time of the agent itself; 0.02 is 2 % of one core. It follows the records. An agent \
             at its limit loses records: it should have none.",
        )
        .ask(
            "{{instance}}",
            rate("instance", "process_cpu_seconds_total", ""),
        )
        .warn(0.5, 0.9)
        .runbook("records-lost"),
        Panel::new(
            "Agent: memory",
            Look::Lines,
            Unit::Bytes,
            "Resident memory of the agent. It follows the sets of labels, the exchanges that wait, and \
             with the API the pods that are known. The kernel's state of sockets comes on top.",
        )
        .ask("{{instance}}", gauge("process_resident_memory_bytes")),
        Panel::new(
            "eBPF programs: processor",
            Look::Stacked,
            Unit::Cores,
            "Processor time of the programs, which the traced processes and the kernel's packet handling \
             spend. Accounting itself costs some: switch --bpf-stats off again.",
        )
        .ask("{{program}}", rate("program", seconds, ""))
        .may_be_empty(off),
        Panel::new(
            "eBPF programs: one run",
            Look::Lines,
            Unit::Seconds,
            "Mean time of one run of each program. A packet costs one run of ingress or egress; packets \
             without payload are let go at once and pull the mean down.",
        )
        .ask(
            "{{program}}",
            format!(
                "{} / ({} > 0)",
                rate("program", seconds, ""),
                rate("program", "hoptrace_bpf_runs_total", "")
            ),
        )
        .may_be_empty(off),
        Panel::new(
            "Scrapes: time",
            Look::Lines,
            Unit::Seconds,
            "How long Prometheus takes to fetch an agent's metrics. It follows the sets of labels; lower \
             --max-series, leave labels out or scrape less often.",
        )
        .ask("{{instance}}", gauge("scrape_duration_seconds")),
        Panel::new(
            "Scrapes: samples",
            Look::Lines,
            Unit::Count,
            "Samples that an agent shows at a scrape, and what Prometheus has to store for it. Each set of \
             labels is about 16 histograms.",
        )
        .ask("{{instance}}", gauge("scrape_samples_scraped")),
    ]
}
