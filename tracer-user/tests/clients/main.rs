//! Clients and servers that others wrote, each client with each server, through real sidecars with mutual
//! TLS. `docs/accuracy.md` has the table that this prints.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test; of the conformance matrix a part is used"
)]

#[path = "../conformance/ends.rs"]
mod ends;
#[path = "../conformance/envoy.rs"]
mod envoy;
#[path = "../mesh/mod.rs"]
mod mesh;
mod pairs;
mod programs;
#[path = "../conformance/row.rs"]
mod row;
mod sidecars;

use hoptrace_lab::Mode;
use hoptrace_lab::kit::Kit;
use row::Row;

#[test]
fn every_client_with_every_server() {
    let name = "clients";
    let oha = Kit::oha();
    if let Err(error) = &oha {
        mesh::skip(name, &format!("rows with oha: {error:#}"));
    }
    let Some(lab) = mesh::lab(name, Mode::Mtls, |options| {
        options.patch = Some(sidecars::patch);
    }) else {
        return;
    };
    let bench = ends::Bench { lab: &lab };
    let _servers = programs::serve(&bench);
    let only = std::env::var("HOPTRACE_CASE").ok();
    let mut rows: Vec<Row> = Vec::new();
    for case in pairs::ALL {
        let wanted = |only: &String| format!("{} {}", case.name, case.client).contains(only);
        if !only.as_ref().is_none_or(wanted) || case.client.starts_with("oha") && oha.is_err() {
            continue;
        }
        rows.push(row::tried(&lab, case));
    }
    row::assert_all_hold("server", &rows);
}
