//! From made-up runs to pages.

use std::collections::BTreeMap;

use hoptrace_exposition::{
    Coverage, Histogram, Hop, Leg, Pair, PairTotals, Part, Reporter, Totals,
};
use hoptrace_generator::load::{Latency, LoadReport};
use proptest::prelude::*;

use super::*;

const CALLS: u64 = 1_000;
const RUNS: usize = 3;

fn settings() -> Settings {
    Settings {
        runs: RUNS,
        calls: Some(CALLS),
        connections: Some(10),
        min_coverage: 0.99,
        confidence: 0.95,
    }
}

fn many(count: f64, each_us: f64) -> Histogram {
    let bounds = ["0.001", "0.01", "+Inf"];
    Histogram {
        count,
        sum: count * each_us / 1e6,
        buckets: bounds.map(|bound| (bound.to_owned(), count)).into(),
    }
}

fn pair(source: &str, destination: &str) -> Pair {
    Pair {
        source: source.to_owned(),
        destination: destination.to_owned(),
        service: destination.to_owned(),
    }
}

/// `count` requests through hops that take so long, and which wait for calls that take `calls_us`.
fn requests(count: f64, hops: &[(Hop, f64)], calls_us: f64) -> PairTotals {
    let mut totals = PairTotals::default();
    let mut whole = calls_us;
    for (hop, us) in hops {
        whole += us;
        let mut put = |leg, part, each_us| {
            totals.steps.insert((*hop, leg, part), many(count, each_us));
        };
        match hop {
            Hop::Network => put(Leg::Both, Part::Whole, *us),
            Hop::App => {
                put(Leg::Both, Part::Queue, us / 2.0);
                put(Leg::Both, Part::Processing, us / 2.0);
            }
            _ => {
                for leg in [Leg::Request, Leg::Response] {
                    put(leg, Part::Queue, us / 8.0);
                    put(leg, Part::Processing, us * 3.0 / 8.0);
                }
            }
        }
    }
    totals.requests.insert(Reporter::Source, many(count, whole));
    totals
}

/// What the stopwatch has more than the client's socket.
const GENERATOR_US: f64 = 25.0;

/// A run of load → gateway → service: 100 µs in each app and 10 µs on each network, and what sidecars there are.
fn window(sidecar_us: Option<f64>, more_us: f64, told: f64) -> Window {
    let base = [(Hop::Network, 10.0), (Hop::App, 100.0 + more_us)];
    let outer: Vec<_> = base
        .into_iter()
        .chain(sidecar_us.map(|us| (Hop::SidecarInbound, us)))
        .collect();
    let inner: Vec<_> = outer
        .iter()
        .copied()
        .chain(sidecar_us.map(|us| (Hop::SidecarOutbound, us)))
        .collect();
    let count = CALLS as f64 * told;
    let inner_us: f64 = inner.iter().map(|(_, us)| us).sum();
    let outer_us: f64 = outer.iter().map(|(_, us)| us).sum::<f64>() + inner_us;
    let mut totals = BTreeMap::new();
    totals.insert(
        pair("load.x", "gateway.x"),
        requests(count, &outer, inner_us),
    );
    totals.insert(pair("gateway.x", "service.x"), requests(count, &inner, 0.0));
    totals.insert(
        pair("other", "thing"),
        requests(3.0, &[(Hop::App, 5.0)], 0.0),
    );
    let all = 10 * CALLS;
    let paired = (all as f64 * told) as u64;
    Window {
        totals: Totals(totals),
        coverage: Coverage {
            exchanges: vec![
                ("paired".to_owned(), "tuple".to_owned(), paired),
                ("unpaired".to_owned(), "none".to_owned(), all - paired),
            ],
            lost: BTreeMap::new(),
        },
        load: Some(LoadReport {
            succeeded: CALLS,
            failed: 0,
            failures: Vec::new(),
            elapsed_seconds: 0.5,
            reconnects: 0,
            latency: latency(outer_us + GENERATOR_US),
            service: latency(outer_us + GENERATOR_US),
            cpu_seconds: 0.1,
        }),
    }
}

fn latency(mean_us: f64) -> Latency {
    let ns = |times: f64| (mean_us * times * 1e3) as u64;
    Latency {
        mean_ns: mean_us * 1e3,
        p50_ns: ns(0.9),
        p90_ns: ns(1.5),
        p99_ns: ns(3.0),
        p999_ns: ns(5.0),
        max_ns: ns(9.0),
    }
}

fn measured(windows: Vec<Window>) -> Measured {
    let loads: Vec<_> = windows
        .iter()
        .filter_map(|window| window.load.as_ref())
        .collect();
    let mean_us =
        loads.iter().map(|load| load.latency.mean_ns).sum::<f64>() / loads.len() as f64 / 1e3;
    Measured {
        method: "GET".to_owned(),
        all: Some(latency(mean_us)),
        windows,
    }
}

fn target(name: &str, sidecar_us: Option<f64>, told: f64) -> Side {
    // Three runs that are not the same.
    let windows = [-2.0, 0.0, 2.0].map(|more| window(sidecar_us, more, told));
    side(
        name,
        Some("http://10.0.0.1/"),
        &[measured(windows.into())],
        "",
    )
}

fn report(sidecar_us: f64, told: f64) -> Report {
    compare(
        "0.0.0",
        settings(),
        Some(target("without sidecars", None, 1.0)),
        Some(target("with sidecars", Some(sidecar_us), told)),
    )
}

fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
}

#[test]
fn what_sidecars_take_is_what_is_added_and_where() {
    let report = report(200.0, 1.0);
    assert!(!report.is_refused(), "{report:#?}");
    let found = &report.comparisons[0];
    let calls = found.calls.unwrap();
    // Three sidecars on the way of a call.
    close(calls.added_us.value, 600.0);
    close(calls.without_us, 220.0 + GENERATOR_US);
    close(
        calls.added_share.unwrap().value,
        600.0 / (220.0 + GENERATOR_US),
    );
    assert_eq!(calls.added_us.may_be_nothing(), Some(false));
    let added: f64 = found
        .places
        .iter()
        .map(|place| place.penalty.added_us.value)
        .sum();
    close(added, 600.0);
    for place in &found.places {
        let sidecar = matches!(place.hop, Some(Hop::SidecarInbound | Hop::SidecarOutbound));
        close(
            place.penalty.added_us.value,
            if sidecar { 200.0 } else { 0.0 },
        );
        close(place.queue_added_us, if sidecar { 50.0 } else { 0.0 });
    }
    let names: Vec<_> = found
        .pairs
        .iter()
        .map(|pair| pair.destination.as_str())
        .collect();
    assert_eq!(names, ["gateway.x", "service.x"]);
    close(found.pairs[1].hops[0].share.unwrap(), 0.5);
    let kind = &report.with.as_ref().unwrap().kinds[0];
    assert_eq!(kind.others, 1);
    close(kind.pairs[0].told(), 1.0);
    close(kind.pairs[0].calls_us, 510.0);
}

#[test]
fn no_difference_is_said_to_be_none() {
    let twice = || Some(target("one", None, 1.0));
    let report = compare("0.0.0", settings(), twice(), twice());
    let text = markdown(&document(&report));
    assert!(text.contains("no difference is shown"), "{text}");
    assert!(!text.contains("takes more"), "{text}");
}

#[test]
fn what_is_not_covered_is_refused_and_says_what_is_missing() {
    let report = report(200.0, 0.98);
    assert!(report.is_refused());
    let found = &report.comparisons[0];
    // The stopwatch saw all calls.
    assert!(found.whole_verdict.is_carried());
    let missing = found.place_verdict.missing.join("\n");
    for words in [
        "with sidecars: 29,400 of 30,000 exchanges found their neighbour, 98.0 % (600 unpaired)",
        "the agents told 2,940 of 3,000 calls",
    ] {
        assert!(missing.contains(words), "{missing}");
    }
    for page in [markdown(&document(&report)), html(&document(&report))] {
        assert!(page.contains("is not told"), "{page}");
        assert!(page.contains("600 unpaired"), "{page}");
        assert!(!page.contains("in the sidecars ("), "{page}");
    }
}

#[test]
fn calls_that_fail_carry_nothing() {
    let mut windows = vec![window(Some(200.0), 0.0, 1.0)];
    let load = windows[0].load.as_mut().unwrap();
    (load.succeeded, load.failed) = (900, 100);
    load.failures = vec!["answer 503".to_owned()];
    let with = side("with", None, &[measured(windows)], "");
    let report = compare(
        "0.0.0",
        settings(),
        Some(target("without", None, 1.0)),
        Some(with),
    );
    let missing = report.comparisons[0].whole_verdict.missing.join("\n");
    assert_eq!(missing, "with: 100 of 1,000 calls failed (answer 503)");
}

#[test]
fn a_pair_on_one_side_alone_is_no_comparison() {
    let mut windows = vec![window(None, 0.0, 1.0)];
    windows[0].totals.0.remove(&pair("gateway.x", "service.x"));
    let without = side("without", None, &[measured(windows)], "");
    let report = compare(
        "0.0.0",
        settings(),
        Some(without),
        Some(target("with", Some(9.0), 1.0)),
    );
    let missing = report.comparisons[0].place_verdict.missing.join("\n");
    assert!(
        missing.contains("no requests of gateway.x to service.x"),
        "{missing}"
    );
}

#[test]
fn the_same_workloads_in_another_namespace_are_compared() {
    let mut windows = vec![window(None, 0.0, 1.0)];
    let renamed = windows[0].totals.0.iter().map(|(of, totals)| {
        let other = |name: &str| name.replace(".x", ".plain");
        (
            pair(&other(&of.source), &other(&of.destination)),
            totals.clone(),
        )
    });
    windows[0].totals = Totals(renamed.collect());
    let without = side("without", None, &[measured(windows)], "");
    let report = compare(
        "0.0.0",
        settings(),
        Some(without),
        Some(target("with", Some(9.0), 1.0)),
    );
    assert!(!report.is_refused(), "{report:#?}");
    assert_eq!(report.comparisons[0].pairs.len(), 2);
}

#[test]
fn the_network_between_nodes_is_what_is_left() {
    let mut totals = requests(
        1_000.0,
        &[(Hop::App, 100.0), (Hop::SidecarInbound, 50.0)],
        0.0,
    );
    totals
        .requests
        .insert(Reporter::Source, many(1_000.0, 250.0));
    totals
        .requests
        .insert(Reporter::Destination, many(1_000.0, 150.0));
    let window = Window {
        totals: Totals([(pair("a", "b"), totals)].into()),
        ..Window::default()
    };
    let measured = Measured {
        method: "any".to_owned(),
        windows: vec![window],
        all: None,
    };
    let side = side("with", None, &[measured], "");
    let network = side.kinds[0].pairs[0].hop(Hop::Network).unwrap();
    assert!(network.by_difference);
    close(network.mean_us, 100.0);
    close(network.runs_us[0], 100.0);
}

#[test]
fn only_named_pairs_are_told() {
    let measured = [measured(vec![window(None, 0.0, 1.0)])];
    let side = side("with", None, &measured, "service");
    assert_eq!(side.kinds[0].pairs.len(), 1);
}

#[test]
fn a_report_is_a_baseline() {
    let report = report(200.0, 1.0);
    let text = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&text).unwrap();
    // Every digit that is shown comes back; the last of seventeen need not.
    assert_eq!(document(&read), document(&report));
    let alone = compare("0.0.0", settings(), read.without, None);
    assert!(!alone.is_refused());
    let text = markdown(&document(&alone));
    assert!(
        text.contains("baseline") && text.contains("run 3"),
        "{text}"
    );
}

#[test]
fn labels_are_the_words_of_the_exposition() {
    for hop in Hop::ALL {
        assert_eq!(serde_json::to_value(hop).unwrap(), hop.as_str());
    }
    for part in Part::ALL {
        assert_eq!(serde_json::to_value(part).unwrap(), part.as_str());
    }
}

/// Every element is closed, in order.
fn is_well_formed(page: &str) -> bool {
    let mut open = Vec::new();
    let alone = ["!doctype", "meta", "line", "circle"];
    for piece in page.split('<').skip(1) {
        let tag = piece.split('>').next().unwrap();
        let name: String = tag.chars().take_while(|c| !c.is_whitespace()).collect();
        if let Some(closed) = name.strip_prefix('/') {
            if open.pop().as_deref() != Some(closed) {
                return false;
            }
        } else if !tag.ends_with('/') && !alone.contains(&name.as_str()) {
            open.push(name);
        }
    }
    open.is_empty()
}

#[test]
fn a_page_needs_nothing_else() {
    let page = html(&document(&report(200.0, 1.0)));
    assert!(is_well_formed(&page), "{page}");
    for word in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
}

#[test]
fn tables_have_as_many_cells_in_each_row() {
    for report in [report(200.0, 1.0), report(200.0, 0.5)] {
        for block in document(&report) {
            if let document::Block::Table(table) = block {
                for row in &table.rows {
                    assert_eq!(row.len(), table.head.len(), "{:?} {row:?}", table.head);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn coverage_decides_and_nothing_else(told in 0.5..1.0_f64, sidecar_us in 0.0..1e5_f64) {
        let report = report(sidecar_us, told);
        let carried = report.comparisons[0].place_verdict.is_carried();
        let paired = report.with.as_ref().unwrap().kinds[0].coverage.share().unwrap();
        if paired < 0.99 {
            prop_assert!(!carried);
        }
        if told > 0.991 {
            prop_assert!(carried);
        }
        prop_assert_eq!(report.is_refused(), !carried);
    }

    #[test]
    fn places_add_up_to_what_is_added(sidecar_us in 0.0..1e6_f64) {
        let report = report(sidecar_us, 1.0);
        let found = &report.comparisons[0];
        let places: f64 = found.places.iter().map(|place| place.penalty.added_us.value).sum();
        let all = found.calls.unwrap().added_us.value;
        prop_assert!((places - all).abs() <= 1e-6 * all.max(1.0), "{} {}", places, all);
    }

    #[test]
    fn any_name_gives_a_page(name in "\\PC{0,30}") {
        let mut report = report(200.0, 1.0);
        report.with.as_mut().unwrap().name = name.clone();
        report.comparisons[0].pairs[0].source = name.clone();
        report.comparisons[0].place_verdict.missing = vec![name];
        prop_assert!(is_well_formed(&html(&document(&report))));
    }

    #[test]
    fn a_difference_and_what_was_before_is_now(
        before in 0.0..1e6_f64, more in 0.0..1e6_f64, each_us in 1.0..1e6_f64,
    ) {
        let (before, more) = (before.round(), more.round());
        let now = requests(before + more, &[(Hop::App, each_us)], 0.0);
        let was = requests(before, &[(Hop::App, each_us)], 0.0);
        let grown = now.since(Some(&was));
        let count = grown.whole().map_or(0.0, |(_, whole)| whole.count);
        prop_assert_eq!(count, more);
        let sum = was.sum(|_| true) + grown.sum(|_| true);
        prop_assert!((sum - now.sum(|_| true)).abs() <= 1e-9 * sum.max(1.0));
    }
}
