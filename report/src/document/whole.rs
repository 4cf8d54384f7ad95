//! Whole calls, and the places on their way.

use super::opening::{signed, signed_share};
use super::{Block, Table};
use crate::figures::{NONE, added, count, mean, percent};
use crate::model::{Comparison, Kind, Place, Report, Run, Times};
use crate::svg;

pub(super) fn blocks(report: &Report, found: &Comparison, names: [&str; 2]) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Some(calls) = &found.calls {
        blocks.push(Block::Heading(
            3,
            "Whole calls, by the load generator's stopwatch".to_owned(),
        ));
        let mut table = Table::new(1, ["", names[0], names[1], "added", "share"]);
        table.rows.push(vec![
            "mean".to_owned(),
            mean(calls.without_us),
            mean(calls.with_us),
            signed(calls.added_us),
            calls.added_share.map_or(NONE.to_owned(), signed_share),
        ]);
        for tail in &found.tails {
            table.rows.push(vec![
                tail.name.clone(),
                mean(tail.without_us),
                mean(tail.with_us),
                signed(tail.added_us),
                percent(tail.with_us - tail.without_us, tail.without_us),
            ]);
        }
        blocks.push(Block::Chart(svg::tails(found, names)));
        blocks.push(Block::Table(table));
        blocks.push(Block::Text(
            "The figures of a target are of all its calls together. Intervals of quantiles and of the \
             maximum are between the runs' own, which for p99.9 and max rest on a call or two a run."
                .to_owned(),
        ));
        blocks.extend(runs(report, &found.method));
    }
    if found.place_verdict.is_carried() && !found.places.is_empty() {
        blocks.push(Block::Heading(
            3,
            "Where the time of a call goes".to_owned(),
        ));
        blocks.push(Block::Chart(svg::places(found, names)));
        blocks.push(Block::Table(places(found, names)));
    }
    blocks
}

/// One target by itself.
pub(super) fn alone(kind: &Kind) -> Vec<Block> {
    let Some(all) = kind.all else {
        return Vec::new();
    };
    let mut table = Table::new(1, RUNS);
    for (number, run) in kind.runs.iter().enumerate() {
        table.rows.push(run_row(format!("run {}", number + 1), run));
    }
    table
        .rows
        .push(row("all".to_owned(), NONE.to_owned(), &all));
    vec![
        Block::Heading(
            3,
            "Whole calls, by the load generator's stopwatch".to_owned(),
        ),
        Block::Table(table),
    ]
}

const RUNS: [&str; 7] = ["", "calls/s", "mean", "p50", "p99", "p99.9", "max"];

/// Every run, and what failed in it.
fn runs(report: &Report, method: &str) -> Vec<Block> {
    let mut table = Table::new(1, RUNS);
    for side in [&report.without, &report.with].into_iter().flatten() {
        let kinds = side.kinds.iter().filter(|kind| kind.method == method);
        for (number, run) in kinds.flat_map(|kind| kind.runs.iter().enumerate()) {
            table
                .rows
                .push(run_row(format!("{} {}", side.name, number + 1), run));
        }
    }
    vec![
        Block::Heading(4, "Run by run".to_owned()),
        Block::Table(table),
    ]
}

fn run_row(name: String, run: &Run) -> Vec<String> {
    let name = match run.failed {
        0 => name,
        failed => format!("{name} ({} failed)", count(failed)),
    };
    row(name, count(run.per_second.round() as u64), &run.times)
}

fn row(name: String, per_second: String, times: &Times) -> Vec<String> {
    let figures = [
        times.mean_us,
        times.p50_us,
        times.p99_us,
        times.p999_us,
        times.max_us,
    ];
    [name, per_second]
        .into_iter()
        .chain(figures.map(mean))
        .collect()
}

fn places(found: &Comparison, names: [&str; 2]) -> Table {
    let mut table = Table::new(
        1,
        [
            "on the way of a call",
            names[0],
            names[1],
            "added",
            "of it queue",
            "share",
        ],
    );
    let all = found.calls.map_or(f64::NAN, |calls| calls.added_us.value);
    for place in &found.places {
        let penalty = &place.penalty;
        let is_there = |us: f64| if us == 0.0 { NONE.to_owned() } else { mean(us) };
        let queue = match place.queue_added_us {
            0.0 => NONE.to_owned(),
            us => added(us),
        };
        table.rows.push(vec![
            name(place),
            is_there(penalty.without_us),
            is_there(penalty.with_us),
            signed(penalty.added_us),
            queue,
            percent(penalty.added_us.value, all),
        ]);
    }
    let sum = |of: fn(&Place) -> f64| found.places.iter().map(of).sum::<f64>();
    let (without, with) = (
        sum(|place| place.penalty.without_us),
        sum(|place| place.penalty.with_us),
    );
    table.rows.push(vec![
        "sum".to_owned(),
        mean(without),
        mean(with),
        added(with - without),
        added(sum(|place| place.queue_added_us)),
        percent(with - without, all),
    ]);
    table
}

/// As a person calls it.
pub(crate) fn name(place: &Place) -> String {
    match place.hop {
        Some(hop) => format!("{} {}", hop.as_str(), place.at),
        None => format!("the load generator itself ({})", place.at),
    }
}
