//! The article's own capitol-info, in a lab with sidecars and mutual TLS.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{assert_gone, options, skip};
use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{Flavour, INFO_PORT, Lab, Mode, Pod, Target, http, jvm, netns};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn the_articles_service_answers_as_the_labs_own_does() {
    let test = "jvm";
    if let Some(missing) = jvm::missing() {
        skip(
            test,
            &format!("`cargo xtask setup --jvm` was not run: no {missing}"),
        );
        return;
    }
    let Some(mut options) = options(test, Mode::Mtls) else {
        return;
    };
    options.flavour = Flavour::Jvm;
    let lab = Lab::up(&options).unwrap();
    println!("up in {:?}", lab.startup_time());
    for (method, body) in [
        ("GET", ""),
        ("POST", r#"{"country": "France", "city": "Lutetia"}"#),
    ] {
        let report = lab.load(
            Pod::Load,
            &LoadSpec {
                url: lab.url(Pod::Load, Target::Gateway) + "capitols",
                method: method.to_owned(),
                headers: Vec::new(),
                body: body.to_owned(),
                connections: 10,
                schedule: Schedule::Count(200),
                request_ids: true,
            },
        );
        let report = report.unwrap();
        assert_eq!(
            (report.succeeded, report.failed),
            (200, 0),
            "{:?}",
            report.failures
        );
    }
    // Straight to the app, past its sidecar.
    let info = SocketAddr::from(([127, 0, 0, 1], INFO_PORT));
    let ask = |path: &str| {
        let place = Pod::Info.netns(&lab.state().name);
        netns::within(&place, || http::get(info, path, LIMIT)).unwrap()
    };
    let first = ask("/capitols?limit=1");
    assert_eq!(first.code, 200);
    assert_eq!(
        first.body,
        r#"[{"id":1,"country":"Argentina","city":"Buenos Aires"}]"#
    );
    assert!(ask("/capitols").body.matches("\"id\"").count() == 50);
    // 52 rows were there, and 200 came.
    assert!(ask("/capitols/252").body.contains("Lutetia"));
    let none = ask("/capitols/253");
    assert_eq!(
        (none.code, none.body.as_str()),
        (404, r#"{"error":"there is no capitol 253"}"#)
    );
    assert_eq!(ask("/healthz").body, "ok\n");
    lab.down().unwrap();
    assert_gone(&options.name);
}
