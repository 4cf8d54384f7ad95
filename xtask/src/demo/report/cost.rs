//! What the tracer itself costs.

use std::collections::BTreeMap;

use super::super::figures::{NONE, count};
use super::super::model::{Cost, Experiment, Findings};
use super::super::table::Table;
use super::{heading, sidecars};

const NOTE: &str = "\
The agent's CPU is that from the first call to the last scrape, which is counted. The kernel's accounting
of programs is on, which itself takes about 20 ns a run. The programs `read` and `close` run for every TCP
socket of the machine: others that are busy meanwhile add to their runs.
";

pub(super) fn text(findings: &Findings) -> String {
    let both = [&findings.without, &findings.with];
    let mut table = Table::new(1, ["", "no sidecars", sidecars(&findings.with)]);
    let mut row = |name: &str, cell: fn(&Experiment) -> String| {
        let cells = both.iter().map(|experiment| cell(experiment));
        table.row([name.to_owned()].into_iter().chain(cells));
    };
    row("calls a second under load", |experiment| {
        count((calls(experiment) / experiment.cost.load_seconds).round() as u64)
    });
    row("agent, CPU seconds", |e| {
        format!("{:.3}", e.cost.cpu_seconds)
    });
    row("agent, CPU of one core", |e| {
        format!("{:.1} %", e.cost.cpu_seconds / e.cost.load_seconds * 100.0)
    });
    row("agent, CPU µs a call", |e| {
        format!("{:.1}", e.cost.cpu_seconds / calls(e) * 1e6)
    });
    row("agent, memory (RSS)", |e| {
        format!("{:.1} MiB", e.cost.rss_bytes / 1_048_576.0)
    });
    row("kernel, µs a call in all programs", |e| {
        format!("{:.2}", seconds(&e.cost) / calls(e) * 1e6)
    });
    row("kernel, runs a call", |e| {
        format!("{:.1}", runs(&e.cost) / calls(e))
    });
    table.rule();
    let names: BTreeMap<&str, ()> = both
        .iter()
        .flat_map(|experiment| &experiment.cost.programs)
        .map(|program| (program.name.as_str(), ()))
        .collect();
    for name in names.into_keys() {
        let cells = both.iter().map(|experiment| {
            let mut programs = experiment.cost.programs.iter();
            let program = programs.find(|program| program.name == name && program.runs > 0);
            program.map_or(NONE.to_owned(), |program| {
                let ns = program.seconds / program.runs as f64 * 1e9;
                format!("{ns:.0} ns × {} runs", count(program.runs))
            })
        });
        table.row([format!("kernel, program {name}")].into_iter().chain(cells));
    }
    heading("What the tracer itself costs (kernel's accounting, Prometheus)")
        + &table.to_string()
        + NOTE
}

fn calls(experiment: &Experiment) -> f64 {
    experiment.outer.all.requests as f64
}

fn seconds(cost: &Cost) -> f64 {
    cost.programs.iter().map(|program| program.seconds).sum()
}

fn runs(cost: &Cost) -> f64 {
    cost.programs
        .iter()
        .map(|program| program.runs as f64)
        .sum()
}
