//! The article's question: what does the mesh add to a request, and where?

use super::super::figures::{NONE, added, mean, percent};
use super::super::model::{Findings, HopPart, Pair};
use super::super::table::Table;
use super::{heading, sidecars};

/// One place on the way of a call: a name, and microseconds a call without and with sidecars.
struct Place {
    name: String,
    is_sidecar: bool,
    without: f64,
    with: f64,
    /// Of the added time, what is known to be queue.
    queue: f64,
}

pub(super) fn text(findings: &Findings) -> String {
    let mut table = Table::new(
        1,
        [
            "on the way of a call",
            "no sidecars",
            sidecars(&findings.with),
            "added",
            "of it queue",
            "share of added",
        ],
    );
    let places = places(findings);
    let sum = |of: fn(&Place) -> f64| places.iter().map(of).sum::<f64>();
    let (without, with) = (
        findings.without.outer.all.mean_us,
        findings.with.outer.all.mean_us,
    );
    let all = with - without;
    for place in &places {
        table.row([
            place.name.clone(),
            if place.without == 0.0 {
                NONE.to_owned()
            } else {
                mean(place.without)
            },
            mean(place.with),
            added(place.with - place.without),
            if has_queue(place) {
                added(place.queue)
            } else {
                NONE.to_owned()
            },
            percent(place.with - place.without, all),
        ]);
    }
    table.rule();
    table.row([
        "load → capitol-client → capitol-info".to_owned(),
        mean(without),
        mean(with),
        added(all),
        added(sum(|place| place.queue)),
        percent(all, all),
    ]);
    heading("What the mesh adds to a call (means, µs)")
        + &table.to_string()
        + &answer(&places, without, with)
}

fn has_queue(place: &Place) -> bool {
    place.is_sidecar || place.name.starts_with("app")
}

/// The answer in words.
fn answer(places: &[Place], without: f64, with: f64) -> String {
    let all = with - without;
    let sum = |fits: &dyn Fn(&Place) -> bool, of: fn(&Place) -> f64| {
        let fitting = places.iter().filter(|place| fits(place));
        fitting.fold(0.0, |sum, place| sum + of(place))
    };
    let more = |place: &Place| place.with - place.without;
    let of = |name: &'static str| sum(&move |place| place.name.starts_with(name), more);
    let inside = sum(&|place| place.is_sidecar, more);
    let queue = sum(&|place| place.is_sidecar, |place| place.queue);
    let sidecars = format!(
        "in the three sidecars: {} waiting to be read, {} from read to write",
        mean(queue),
        mean(inside - queue)
    );
    let wheres = [
        (inside, sidecars.as_str()),
        (
            of("loopback"),
            "on the loopback connections between apps and sidecars",
        ),
        (of("network"), "on the network between the pods"),
        (
            of("app"),
            "in the apps, which share the CPUs with the sidecars",
        ),
    ];
    let lines = wheres
        .map(|(us, place)| format!("{:>11} µs {:>7}  {place}\n", added(us), percent(us, all)));
    let percent = percent(all, without);
    let sign = if all < 0.0 { "" } else { "+" };
    format!(
        "\nThe mesh added {} µs to the mean call ({sign}{percent}), and this is where:\n{}",
        mean(all),
        lines.concat()
    )
}

fn places(findings: &Findings) -> Vec<Place> {
    let (without, with) = (&findings.without, &findings.with);
    let outer = (&without.outer, &with.outer);
    let inner = (&without.inner, &with.inner);
    let client = outer.1.destination;
    let info = inner.1.destination;
    vec![
        place("network load ⇄ capitol-client".into(), outer, "network"),
        place(
            format!("sidecar_inbound of {client}"),
            outer,
            "sidecar_inbound",
        ),
        place(format!("loopback of {client}"), outer, "loopback"),
        place(format!("app {client}"), outer, "app"),
        place(
            format!("sidecar_outbound of {client}"),
            inner,
            "sidecar_outbound",
        ),
        place(
            "network capitol-client ⇄ capitol-info".into(),
            inner,
            "network",
        ),
        place(
            format!("sidecar_inbound of {info}"),
            inner,
            "sidecar_inbound",
        ),
        place("loopback of both".into(), inner, "loopback"),
        place(format!("app {info}"), inner, "app"),
    ]
}

fn place(name: String, (without, with): (&Pair, &Pair), hop: &str) -> Place {
    let queue = |part: &HopPart| part.hop == hop && part.part == "queue";
    Place {
        name,
        is_sidecar: hop.starts_with("sidecar"),
        without: without.hop_us(hop),
        with: with.hop_us(hop),
        queue: with.mean_us(queue) - without.mean_us(queue),
    }
}
