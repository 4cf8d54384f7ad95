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

/// What is slow by itself on a shared machine is tried again; what is wrong stays wrong.
const ATTEMPTS: usize = 3;

fn all(lab: &Lab, cases: &[Case], rows: &mut Vec<Row>) {
    let only = std::env::var("HOPTRACE_CASE").ok();
    for case in cases {
        if only.as_ref().is_some_and(|only| !case.name.contains(only)) {
            continue;
        }
        let mut row = row::run(lab, case);
        for attempt in 2..=ATTEMPTS {
            if row.wrong.is_empty() {
                break;
            }
            println!("   again, for {}", row.wrong.join("; "));
            row = row::run(lab, case);
            row.attempt = attempt;
        }
        println!("{row}");
        rows.push(row);
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
    println!("\n| case | client | exchanges | coverage | sum off by | p50 off by | p99 off by | |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in &rows {
        println!("{row}");
    }
    let wrong: Vec<_> = rows
        .iter()
        .filter(|row| !row.wrong.is_empty())
        .map(|row| format!("{row}: {}", row.wrong.join("; ")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
