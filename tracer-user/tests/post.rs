//! Requests with bodies, on connections that open under them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{Mode, Pod, Target};
use mesh::truth;
use mesh::{Tracing, load, spec, trace};
use tracer_user::model::Reporter;

#[test]
fn inserts_over_fresh_connections() {
    for (name, mode) in [("post-plain", Mode::Plain), ("post-mtls", Mode::Mtls)] {
        let Some(lab) = mesh::lab(name, mode, |_| {}) else {
            return;
        };
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
            let sent = 600;
            println!("{name}, {body_len} bytes: {}", traced.books);
            traced.assert_all_counted(sent);
            // The logs have them all, on both sides of both sidecars.
            let _pairs = truth::both(&lab, &traced.requests, sent);
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
            let whole = traced.whole();
            assert!(whole >= 597, "{whole} of {sent} whole");
        }
    }
}
