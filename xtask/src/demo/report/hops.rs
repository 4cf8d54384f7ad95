//! One pair: every hop, its legs and their parts, without and with sidecars side by side.

use super::super::figures::{NONE, mean, percent, quantile};
use super::super::model::{Experiment, Findings, HopPart, Pair};
use super::super::table::Table;
use super::{heading, sidecars};

/// In the order of a request's way.
pub(super) const HOPS: [&str; 5] = [
    "sidecar_outbound",
    "network",
    "sidecar_inbound",
    "loopback",
    "app",
];
const LEGS: [&str; 3] = ["request", "response", "both"];
const PARTS: [&str; 7] = [
    "queue",
    "processing",
    "connect",
    "source_pod",
    "wire",
    "destination_pod",
    "whole",
];

pub(super) fn text(findings: &Findings, of: impl Fn(&Experiment) -> &Pair) -> String {
    let pairs = [of(&findings.without), of(&findings.with)];
    let called = [&findings.without, &findings.with].map(|experiment| called(experiment, &of));
    let figures = ["mean", "p50", "p99", "share"];
    let mut table = Table::new(1, ["hop"].into_iter().chain(figures).chain(figures));
    table.spans([(1, ""), (4, "no sidecars"), (4, sidecars(&findings.with))]);
    for hop in HOPS {
        let is_there = |part: &HopPart| part.hop == hop;
        if !pairs.iter().any(|pair| pair.hops.iter().any(is_there)) {
            continue;
        }
        line(&mut table, hop, pairs, &is_there);
        for leg in LEGS {
            let in_leg = |part: &HopPart| is_there(part) && part.leg == leg;
            let depth = if leg == "both" { 1 } else { 2 };
            if leg != "both" && pairs.iter().any(|pair| pair.hops.iter().any(in_leg)) {
                line(&mut table, &indent(1, leg), pairs, &in_leg);
            }
            for part in PARTS {
                let in_part = |found: &HopPart| in_leg(found) && found.part == part;
                let splits = |found: &HopPart| in_leg(found) && found.part != "whole";
                let is_split = pairs.iter().any(|pair| pair.hops.iter().any(splits));
                let is_part = pairs.iter().any(|pair| pair.hops.iter().any(in_part));
                if is_split && is_part {
                    // Where others of the leg have parts, a whole one is a read nobody saw.
                    let name = if part == "whole" { "unsplit" } else { part };
                    line(&mut table, &indent(depth, name), pairs, &in_part);
                }
            }
        }
    }
    if called.iter().any(|called| *called > 0.0) {
        let callee = findings.with.inner.destination;
        let cells = pairs.iter().zip(called).flat_map(|(pair, called)| {
            let share = percent(called, pair.all.mean_us);
            [mean(called), NONE.into(), NONE.into(), share]
        });
        table.row([format!("calls to {callee}")].into_iter().chain(cells));
    }
    table.rule();
    let sums = pairs.iter().zip(called).flat_map(|(pair, called)| {
        let sum = pair.mean_us(|_| true) + called;
        [
            mean(sum),
            String::new(),
            String::new(),
            percent(sum, pair.all.mean_us),
        ]
    });
    table.row(["sum".to_owned()].into_iter().chain(sums));
    let totals = pairs.iter().flat_map(|pair| {
        let all = pair.all;
        [
            mean(all.mean_us),
            quantile(all.p50_us),
            quantile(all.p99_us),
            percent(1.0, 1.0),
        ]
    });
    table.row(["total, measured".to_owned()].into_iter().chain(totals));
    let [pair, _] = pairs;
    heading(&format!(
        "{} → {}: where the time goes (µs per request)",
        pair.source, pair.destination
    )) + &table.to_string()
}

/// Microseconds that a request of the outer pair waits for its call to the inner one.
fn called(experiment: &Experiment, of: impl Fn(&Experiment) -> &Pair) -> f64 {
    let (inner, outer) = (experiment.inner.all, experiment.outer.all);
    if std::ptr::eq(of(experiment), &raw const experiment.outer) {
        inner.mean_us * inner.requests as f64 / outer.requests as f64
    } else {
        0.0
    }
}

fn indent(depth: usize, name: &str) -> String {
    "  ".repeat(depth) + name
}

/// Means and shares add up over what fits; quantiles are those of a single histogram.
fn line(table: &mut Table, name: &str, pairs: [&Pair; 2], fits: &impl Fn(&HopPart) -> bool) {
    let cells = pairs.iter().flat_map(|pair| {
        let found: Vec<_> = pair.hops.iter().filter(|part| fits(part)).collect();
        let quantiles = match found.as_slice() {
            [] => return [NONE; 4].map(str::to_owned),
            [only] => [only.p50_us, only.p99_us].map(quantile),
            _ => [NONE; 2].map(str::to_owned),
        };
        let us = pair.mean_us(fits);
        let [p50, p99] = quantiles;
        [mean(us), p50, p99, percent(us, pair.all.mean_us)]
    });
    table.row([name.to_owned()].into_iter().chain(cells));
}
