//! The article's question: what does the mesh add to a request, and where?

use super::super::figures::{NONE, added, mean, percent};
use super::super::model::Findings;
use super::super::table::Table;
use super::{heading, sidecars};
use hoptrace_exposition::Hop;
use hoptrace_report::{Place, places};

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
    let (from, to) = (&findings.without, &findings.with);
    let pairs = [
        (&from.outer.all, &to.outer.all),
        (&from.inner.all, &to.inner.all),
    ];
    // One figure for all runs together: nothing is said of how sure it is.
    let places = places(&pairs, 0.95);
    let sum = |of: fn(&Place) -> f64| places.iter().map(of).sum::<f64>();
    let (without, with) = (
        findings.without.outer.all.mean_us,
        findings.with.outer.all.mean_us,
    );
    let all = with - without;
    for place in &places {
        table.row([
            name(place, findings),
            if place.penalty.without_us == 0.0 {
                NONE.to_owned()
            } else {
                mean(place.penalty.without_us)
            },
            mean(place.penalty.with_us),
            added(more(place)),
            if has_queue(place) {
                added(place.queue_added_us)
            } else {
                NONE.to_owned()
            },
            percent(more(place), all),
        ]);
    }
    table.rule();
    table.row([
        "load → capitol-client → capitol-info".to_owned(),
        mean(without),
        mean(with),
        added(all),
        added(sum(|place| place.queue_added_us)),
        percent(all, all),
    ]);
    heading("What the mesh adds to a call (means, µs)")
        + &table.to_string()
        + &answer(&places, without, with)
}

fn more(place: &Place) -> f64 {
    place.penalty.added_us.value
}

fn is_sidecar(place: &Place) -> bool {
    matches!(place.hop, Some(Hop::SidecarInbound | Hop::SidecarOutbound))
}

fn has_queue(place: &Place) -> bool {
    is_sidecar(place) || place.hop == Some(Hop::App)
}

/// The two connections of the inner pair's loopback belong to both of its pods.
fn name(place: &Place, findings: &Findings) -> String {
    let bare = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let ends: Vec<_> = place.at.split(" ⇄ ").map(bare).collect();
    let at = ends.join(" ⇄ ");
    match place.hop {
        Some(Hop::Loopback) => match at.trim_start_matches("beside ") {
            inner if inner == findings.with.inner.destination => "loopback of both".to_owned(),
            outer => format!("loopback of {outer}"),
        },
        Some(hop @ (Hop::Network | Hop::App)) => format!("{} {at}", hop.as_str()),
        Some(hop) => format!("{} of {at}", hop.as_str()),
        None => at,
    }
}

/// The answer in words.
fn answer(places: &[Place], without: f64, with: f64) -> String {
    let all = with - without;
    let sum = |fits: &dyn Fn(&Place) -> bool, of: fn(&Place) -> f64| {
        let fitting = places.iter().filter(|place| fits(place));
        fitting.fold(0.0, |sum, place| sum + of(place))
    };
    let of = |hop: Hop| sum(&move |place| place.hop == Some(hop), more);
    let inside = sum(&is_sidecar, more);
    let queue = sum(&is_sidecar, |place| place.queue_added_us);
    let sidecars = format!(
        "in the three sidecars: {} waiting to be read, {} from read to write",
        mean(queue),
        mean(inside - queue)
    );
    let wheres = [
        (inside, sidecars.as_str()),
        (
            of(Hop::Loopback),
            "on the loopback connections between apps and sidecars",
        ),
        (of(Hop::Network), "on the network between the pods"),
        (
            of(Hop::App),
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
