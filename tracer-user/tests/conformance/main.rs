//! The conformance matrix: every kind of exchange, each against what its two ends and Envoy's access log
//! say of it. `docs/accuracy.md` has the table that this prints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod cases;
mod ends;
mod envoy;
#[path = "../mesh/mod.rs"]
mod mesh;
mod row;

use hoptrace_lab::{Flavour, Lab, Mode};
use row::{Case, Row};

fn all(lab: &Lab, cases: &[Case], rows: &mut Vec<Row>) {
    let only = std::env::var("HOPTRACE_CASE").ok();
    for case in cases {
        if only.as_ref().is_some_and(|only| !case.name.contains(only)) {
            continue;
        }
        rows.push(row::tried(lab, case));
    }
}

#[test]
fn every_kind_of_exchange_is_told_or_said_to_be_not() {
    let mut rows = Vec::new();
    let meshed = mesh::lab("conform", Mode::Mtls, |options| {
        options.flavour = Flavour::Wire;
        options.patch = Some(envoy::patch);
    });
    let Some(lab) = meshed else {
        return;
    };
    all(&lab, cases::MESHED, &mut rows);
    drop(lab);
    let edge = mesh::lab("conform-edge", Mode::Mtls, |options| {
        options.flavour = Flavour::Wire;
        options.load_meshed = false;
    });
    all(&edge.unwrap(), cases::EDGE, &mut rows);
    row::assert_all_hold("case", &rows);
}
