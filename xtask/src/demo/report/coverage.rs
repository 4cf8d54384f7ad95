//! How much of what happened the figures stand on.

use super::super::figures::{count, percent};
use super::super::model::{Experiment, Findings};
use super::super::table::Table;
use super::{heading, sidecars};

pub(super) fn text(findings: &Findings) -> String {
    let experiments = [&findings.without, &findings.with];
    let both = experiments.map(|experiment| &experiment.coverage);
    let names = ["no sidecars", sidecars(&findings.with)];
    let mut table = Table::new(2, ["became", "how", names[0], "", names[1], ""]);
    let mut kinds: Vec<_> = both
        .iter()
        .flat_map(|coverage| &coverage.exchanges)
        .map(|(fate, method, _)| (fate.as_str(), method.as_str()))
        .collect();
    // What is paired comes first, then by name.
    kinds.sort_by_key(|(fate, method)| (*fate != "paired", *fate, *method));
    kinds.dedup();
    for (fate, method) in kinds {
        let cells = both.iter().flat_map(|coverage| {
            let of = coverage
                .exchanges
                .iter()
                .find(|(f, m, _)| f == fate && m == method)
                .map_or(0, |(_, _, count)| *count);
            [count(of), percent(of as f64, coverage.all() as f64)]
        });
        let how = if method == "none" { "" } else { method };
        table.row([fate.to_owned(), how.to_owned()].into_iter().chain(cells));
    }
    table.rule();
    let cells = both.iter().flat_map(|coverage| {
        let (paired, all) = (coverage.paired(), coverage.all());
        [
            format!("{} of {}", count(paired), count(all)),
            exact(paired, all),
        ]
    });
    table.row(
        ["paired".to_owned(), String::new()]
            .into_iter()
            .chain(cells),
    );
    let losses = experiments
        .iter()
        .zip(names)
        .map(|(experiment, name)| format!("Records lost, {name}: {}.\n", losses(experiment)));
    heading("Coverage: exchanges (request and response on one socket)")
        + &table.to_string()
        + "A call passes 4 sockets without sidecars and 10 with them. Connections between the services are \
           older than\nthe agent.\n"
        + &losses.collect::<String>()
}

/// A percentage that is 100 only when nothing is missing.
fn exact(part: u64, whole: u64) -> String {
    if part == whole {
        return "100 %".to_owned();
    }
    let hundredths = part.saturating_mul(10_000) / whole.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn losses(experiment: &Experiment) -> String {
    let mut parts: Vec<_> = experiment
        .coverage
        .lost
        .iter()
        .filter(|(_, lost)| **lost > 0)
        .map(|(reason, lost)| format!("{} {reason}", count(*lost)))
        .collect();
    if experiment.pending > 0 {
        parts.push(format!("{} still pending", count(experiment.pending)));
    }
    if parts.is_empty() {
        "none lost".to_owned()
    } else {
        parts.join(", ")
    }
}
