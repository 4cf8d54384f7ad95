//! Whole requests: each pair, each method, without and with sidecars.

use super::super::figures::{NONE, count, mean, quantile};
use super::super::model::{Findings, Pair};
use super::super::table::Table;
use super::{heading, sidecars};
use hoptrace_report::PairFigures;

/// Picks the calls of one kind.
type Pick = fn(&Pair) -> &PairFigures;

const KINDS: [(&str, Pick); 3] = [
    ("GET", |pair| &pair.get),
    ("POST", |pair| &pair.post),
    ("both", |pair| &pair.all),
];

pub(super) fn text(findings: &Findings) -> String {
    let mut table = Table::new(
        3,
        [
            "from → to",
            "method",
            "mesh",
            "requests",
            "mean",
            "p50",
            "p90",
            "p99",
        ],
    );
    let (without, with) = (&findings.without, &findings.with);
    for (bare, meshed) in [(&without.outer, &with.outer), (&without.inner, &with.inner)] {
        table.rule();
        let mut name = format!("{} → {}", bare.source, bare.destination);
        for (kind, of) in KINDS {
            let names = [std::mem::take(&mut name), kind.to_owned()];
            row(&mut table, names, "no sidecars", of(bare));
            row(&mut table, Default::default(), sidecars(with), of(meshed));
        }
    }
    heading("Requests, first byte out to first byte back, as their client saw them (µs)")
        + &table.to_string()
}

fn row(table: &mut Table, [name, kind]: [String; 2], mesh: &str, total: &PairFigures) {
    table.row([
        name,
        kind,
        mesh.to_owned(),
        count(total.requests),
        mean(total.mean_us),
        us(total.spread.p50_us),
        us(total.spread.p90_us),
        us(total.spread.p99_us),
    ]);
}

/// A quantile that may not be known.
pub(super) fn us(us: Option<f64>) -> String {
    us.map_or(NONE.to_owned(), quantile)
}
