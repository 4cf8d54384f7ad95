//! Pair by pair: whole requests, hops, their legs and parts, and what all of it stands on.

use super::opening::{signed, signed_share};
use super::{Block, Table};
use crate::figures::{NONE, count, mean, percent, quantile};
use crate::model::{
    Comparison, HopFigures, Kind, PairFigures, PairPenalty, Report, Side, Spread, StepFigures,
};
use hoptrace_exposition::{Hop, Leg, Part};

/// Every pair that is on both targets.
pub(super) fn compared(report: &Report, found: &Comparison, names: [&str; 2]) -> Vec<Block> {
    if !found.place_verdict.is_carried() {
        return Vec::new();
    }
    let mut blocks = Vec::new();
    for pair in &found.pairs {
        blocks.push(Block::Heading(
            3,
            format!("{} → {}", pair.source, pair.destination),
        ));
        blocks.push(Block::Table(penalties(pair, names)));
        for side in [&report.without, &report.with].into_iter().flatten() {
            let kinds = side.kinds.iter().filter(|kind| kind.method == found.method);
            let fits = |of: &&PairFigures| is_same(of, pair);
            if let Some(figures) = kinds.flat_map(|kind| &kind.pairs).find(fits) {
                blocks.extend(alone(side, figures));
            }
        }
    }
    blocks
}

fn is_same(figures: &PairFigures, pair: &PairPenalty) -> bool {
    let bare = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    bare(&figures.source) == bare(&pair.source)
        && bare(&figures.destination) == bare(&pair.destination)
}

fn penalties(pair: &PairPenalty, names: [&str; 2]) -> Table {
    let mut table = Table::new(
        1,
        [
            "mean of a request",
            names[0],
            names[1],
            "added",
            "to itself",
            "of all that was added",
        ],
    );
    for hop in &pair.hops {
        let is_there = |us: f64| if us == 0.0 { NONE.to_owned() } else { mean(us) };
        table.rows.push(vec![
            hop.hop.as_str().to_owned(),
            is_there(hop.penalty.without_us),
            is_there(hop.penalty.with_us),
            signed(hop.penalty.added_us),
            hop.penalty
                .added_share
                .map_or(NONE.to_owned(), signed_share),
            hop.share
                .map_or(NONE.to_owned(), |share| percent(share, 1.0)),
        ]);
    }
    table.rows.push(vec![
        "whole request".to_owned(),
        mean(pair.whole.without_us),
        mean(pair.whole.with_us),
        signed(pair.whole.added_us),
        pair.whole.added_share.map_or(NONE.to_owned(), signed_share),
        percent(1.0, 1.0),
    ]);
    table
}

/// One pair of one target.
pub(super) fn alone(side: &Side, pair: &PairFigures) -> Vec<Block> {
    let mut table = Table::new(
        1,
        [
            "hop", "told of", "mean", "share", "p50", "p99", "p99.9", "max",
        ],
    );
    let share = |us: f64| percent(us, pair.mean_us);
    for hop in &pair.hops {
        let figures = match hop.steps.as_slice() {
            [only] => spread(&only.spread),
            _ => none(),
        };
        let told = format!("{} of {}", count(hop.requests), count(pair.requests));
        let name = match hop.by_difference {
            true => format!("{}, what is left of the whole", hop.hop.as_str()),
            false => hop.hop.as_str().to_owned(),
        };
        table.rows.push(row(
            [name, told, mean(hop.mean_us), share(hop.mean_us)],
            figures,
        ));
        if hop.steps.len() > 1 {
            table.rows.extend(steps(hop, pair));
        }
    }
    if pair.calls_us > 0.0 {
        let name = format!("calls of {}", pair.destination);
        table.rows.push(row(
            [
                name,
                NONE.to_owned(),
                mean(pair.calls_us),
                share(pair.calls_us),
            ],
            none(),
        ));
    }
    let whole = format!("whole request, by the {}", pair.reporter.as_str());
    table.rows.push(row(
        [
            whole,
            count(pair.requests),
            mean(pair.mean_us),
            percent(pair.told(), 1.0) + " told",
        ],
        spread(&pair.spread),
    ));
    vec![
        Block::Heading(
            4,
            format!("{} → {}, {}", pair.source, pair.destination, side.name),
        ),
        Block::Table(table),
    ]
}

fn steps(hop: &HopFigures, pair: &PairFigures) -> Vec<Vec<String>> {
    let name = |step: &StepFigures| match (step.leg, step.part) {
        (Leg::Both, part) => part.as_str().to_owned(),
        (leg, Part::Whole) if hop.hop == Hop::Loopback => leg.as_str().to_owned(),
        // Where others of the leg have parts, a whole one is a read nobody saw.
        (leg, Part::Whole) => format!("{}, unsplit", leg.as_str()),
        (leg, part) => format!("{}, {}", leg.as_str(), part.as_str()),
    };
    let mut steps: Vec<_> = hop.steps.iter().collect();
    steps.sort_by_key(|step| (step.leg, step.part));
    steps
        .into_iter()
        .map(|step| {
            let share = percent(step.mean_us, pair.mean_us);
            let texts = [
                format!("\u{2003}{}", name(step)),
                count(step.count),
                mean(step.mean_us),
                share,
            ];
            row(texts, spread(&step.spread))
        })
        .collect()
}

fn row(texts: [String; 4], figures: [String; 4]) -> Vec<String> {
    texts.into_iter().chain(figures).collect()
}

fn none() -> [String; 4] {
    [NONE; 4].map(str::to_owned)
}

fn spread(spread: &Spread) -> [String; 4] {
    let us = |us: Option<f64>| us.map_or(NONE.to_owned(), quantile);
    [
        us(spread.p50_us),
        us(spread.p99_us),
        us(spread.p999_us),
        spread
            .max_below_us
            .map_or("above all".to_owned(), |us| format!("≤ {}", quantile(us))),
    ]
}

/// What the figures stand on, target by target and method by method.
pub(super) fn coverage(report: &Report) -> Vec<Block> {
    let mut table = Table::new(
        2,
        [
            "target",
            "method",
            "calls",
            "requests told",
            "exchanges paired",
            "of",
            "share",
            "lost",
        ],
    );
    for side in [&report.without, &report.with].into_iter().flatten() {
        table
            .rows
            .extend(side.kinds.iter().map(|kind| covered(side, kind)));
    }
    vec![
        Block::Heading(2, "What it stands on".to_owned()),
        Block::Table(table),
        Block::Text(
            "An exchange is a request and its response on one socket; paired is one whose neighbour was \
             found. Exchanges are of everything that the agents saw meanwhile, requests of the load \
             alone. Of each hop its own table says how many requests it is told of."
                .to_owned(),
        ),
    ]
}

fn covered(side: &Side, kind: &Kind) -> Vec<String> {
    let calls: u64 = kind.runs.iter().map(|run| run.succeeded + run.failed).sum();
    let told = crate::compare::entry(&kind.pairs).requests as u64;
    let (paired, judged) = (kind.coverage.paired(), kind.coverage.judged());
    let lost: Vec<_> = kind
        .coverage
        .lost
        .iter()
        .map(|(reason, lost)| format!("{} {reason}", count(*lost)))
        .collect();
    vec![
        side.name.clone(),
        kind.method.clone(),
        if calls > 0 {
            count(calls)
        } else {
            NONE.to_owned()
        },
        count(told),
        count(paired),
        count(judged),
        percent(paired as f64, judged as f64),
        if lost.is_empty() {
            "nothing".to_owned()
        } else {
            lost.join(", ")
        },
    ]
}
