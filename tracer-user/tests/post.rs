//! Requests with bodies, on connections that open under them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::time::Duration;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{Mode, Pod, Target};
use mesh::truth::{self, Sidecar};
use mesh::{Tracing, load, spec, trace};
use tracer_user::model::{Fate, Reporter};

#[test]
fn inserts_over_fresh_connections() {
    for (name, mode) in [("post-plain", Mode::Plain), ("post-mtls", Mode::Mtls)] {
        let Some(lab) = mesh::lab(name, mode, |_| {}) else {
            return;
        };
        lab.clear_access_logs().unwrap();
        for body_len in [40, 15_000] {
            let spec = LoadSpec {
                url: format!("{}capitols", lab.url(Pod::Load, Target::Info)),
                method: "POST".into(),
                headers: vec![("content-type".into(), "application/json".into())],
                // White space is part of the body and of no field.
                body: format!(
                    "{{\"country\":\"X\",\"city\":\"Y\"}}{}",
                    " ".repeat(body_len)
                ),
                ..spec(&lab, 24, Schedule::Count(600))
            };
            lab.clear_access_logs().unwrap();
            let traced = trace(&lab, &Tracing::default(), || load(&lab, &spec));
            let (books, sent) = (&traced.books, 600);
            println!("{name}, {body_len} bytes: {books}");
            assert!(books.balance() && books.lost() == 0, "{books}");
            assert_eq!(
                books.completed(),
                6 * 600 + books.fate(Fate::Handshake),
                "{books}"
            );
            for (sidecar, pod) in [
                (Sidecar::Outbound, Pod::Load),
                (Sidecar::Inbound, Pod::Info),
            ] {
                let log = lab
                    .wait_access_log(pod, sent, Duration::from_secs(5))
                    .unwrap();
                let found = truth::compare(sidecar, &traced.requests, &log);
                assert_eq!((found.entries, found.missing), (sent, 0), "{sidecar:?}");
            }
            // Each request once at either end, and whole.
            for reporter in [Reporter::Source, Reporter::Destination] {
                let told = traced
                    .requests
                    .iter()
                    .flat_map(|request| &request.times.totals);
                assert_eq!(
                    told.filter(|(who, _)| *who == reporter).count(),
                    sent,
                    "{reporter:?}"
                );
            }
            let whole = traced
                .requests
                .iter()
                .filter(|request| request.is_whole())
                .count();
            assert!(whole >= 597, "{whole} of {sent} whole");
        }
    }
}
