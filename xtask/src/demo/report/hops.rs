//! One pair: every hop, its legs and their parts, without and with sidecars side by side.

use super::super::figures::{NONE, mean, percent};
use super::super::model::{Experiment, Findings, Pair};
use super::super::table::Table;
use super::totals::us;
use super::{heading, sidecars};
use hoptrace_exposition::{Hop, Leg, Part};
use hoptrace_report::{StepFigures, WAY};

/// As they are read.
const PARTS: [Part; 7] = [
    Part::Queue,
    Part::Processing,
    Part::Connect,
    Part::SourcePod,
    Part::Wire,
    Part::DestinationPod,
    Part::Whole,
];

pub(super) fn text(findings: &Findings, of: impl Fn(&Experiment) -> &Pair) -> String {
    let pairs = [of(&findings.without), of(&findings.with)];
    let called = pairs.map(|pair| pair.all.calls_us);
    let figures = ["mean", "p50", "p99", "share"];
    let mut table = Table::new(1, ["hop"].into_iter().chain(figures).chain(figures));
    table.spans([(1, ""), (4, "no sidecars"), (4, sidecars(&findings.with))]);
    for hop in WAY {
        let is_there = |of: Hop, _: &StepFigures| of == hop;
        let has = |fits: &dyn Fn(Hop, &StepFigures) -> bool| {
            let mut pairs = pairs.iter();
            pairs.any(|pair| pair.steps().any(|(of, step)| fits(of, step)))
        };
        if !has(&is_there) {
            continue;
        }
        line(&mut table, hop.as_str(), pairs, &is_there);
        for leg in Leg::ALL {
            let in_leg = |of: Hop, step: &StepFigures| of == hop && step.leg == leg;
            let depth = if leg == Leg::Both { 1 } else { 2 };
            if leg != Leg::Both && has(&in_leg) {
                line(&mut table, &indent(1, leg.as_str()), pairs, &in_leg);
            }
            for part in PARTS {
                let in_part = |of: Hop, step: &StepFigures| in_leg(of, step) && step.part == part;
                let splits =
                    |of: Hop, step: &StepFigures| in_leg(of, step) && step.part != Part::Whole;
                if has(&splits) && has(&in_part) {
                    // Where others of the leg have parts, a whole one is a read nobody saw.
                    let name = match part {
                        Part::Whole => "unsplit",
                        part => part.as_str(),
                    };
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
        let sum = pair.mean_us(|_, _| true) + called;
        [
            mean(sum),
            String::new(),
            String::new(),
            percent(sum, pair.all.mean_us),
        ]
    });
    table.row(["sum".to_owned()].into_iter().chain(sums));
    let totals = pairs.iter().flat_map(|pair| {
        let all = &pair.all;
        [
            mean(all.mean_us),
            us(all.spread.p50_us),
            us(all.spread.p99_us),
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

fn indent(depth: usize, name: &str) -> String {
    "  ".repeat(depth) + name
}

/// Means and shares add up over what fits; quantiles are those of a single histogram.
fn line(
    table: &mut Table,
    name: &str,
    pairs: [&Pair; 2],
    fits: &impl Fn(Hop, &StepFigures) -> bool,
) {
    let cells = pairs.iter().flat_map(|pair| {
        let found: Vec<_> = pair
            .steps()
            .filter(|(hop, step)| fits(*hop, step))
            .collect();
        let quantiles = match found.as_slice() {
            [] => return [NONE; 4].map(str::to_owned),
            [(_, only)] => [only.spread.p50_us, only.spread.p99_us].map(us),
            _ => [NONE; 2].map(str::to_owned),
        };
        let mean_us = pair.mean_us(fits);
        let [p50, p99] = quantiles;
        [mean(mean_us), p50, p99, percent(mean_us, pair.all.mean_us)]
    });
    table.row([name.to_owned()].into_iter().chain(cells));
}
