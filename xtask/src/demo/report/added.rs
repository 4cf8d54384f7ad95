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
            if place.is_sidecar {
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
    let sidecars = places.iter().filter(|place| place.is_sidecar);
    let (inside, queue) = sidecars.fold((0.0, 0.0), |(inside, queue), place| {
        (inside + place.with, queue + place.queue)
    });
    let of = |name: &str| {
        let fitting = places.iter().filter(|place| place.name.starts_with(name));
        fitting.fold(0.0, |sum, place| sum + place.with - place.without)
    };
    format!(
        "\nThe mesh added {} µs to the mean call ({}): {} µs inside the three sidecars (of which {} µs\n\
         waiting to be read, {} µs being processed), {} µs on the loopback connections to and from\n\
         them, {} µs on the network; the apps themselves took {} µs (they share the CPUs).\n",
        added(all),
        percent_added(all, without),
        added(inside),
        mean(queue),
        mean(inside - queue),
        added(of("loopback")),
        added(of("network")),
        added(of("app")),
    )
}

fn percent_added(part: f64, whole: f64) -> String {
    let text = percent(part, whole);
    if part >= 0.0 {
        format!("+{text}")
    } else {
        text
    }
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
        place(format!("loopback in {client}, in"), outer, "loopback"),
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
        place("loopback in both, out and in".into(), inner, "loopback"),
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
