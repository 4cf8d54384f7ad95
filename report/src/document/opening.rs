//! What was done, and the answer first.

use super::{Block, refused};
use crate::figures::{added, count, level, mean, percent};
use crate::model::{Comparison, Place, Report, Side};
use crate::stats::Estimate;
use hoptrace_exposition::Hop;

pub(super) fn blocks(report: &Report) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading(1, "What the mesh costs".to_owned()),
        Block::Text(done(report)),
    ];
    for found in &report.comparisons {
        blocks.extend(answers(report, found));
    }
    if report.comparisons.is_empty() {
        blocks.push(Block::Text(
            "Only one target was measured. Its JSON is a baseline for the other: `--baseline FILE`."
                .to_owned(),
        ));
    }
    blocks
}

fn done(report: &Report) -> String {
    let settings = &report.settings;
    let sides: Vec<_> = [&report.without, &report.with]
        .into_iter()
        .flatten()
        .map(|side| match &side.url {
            Some(url) => format!("{} ({url})", side.name),
            None => side.name.clone(),
        })
        .collect();
    let load = match (settings.calls, settings.connections) {
        (Some(calls), Some(connections)) => format!(
            "{} × {} calls of each method, in batches: each of {connections} connections sends the next \
             call once the last is answered",
            settings.runs,
            count(calls)
        ),
        _ => format!("{} times a while of the load that there was", settings.runs),
    };
    format!(
        "{}: {load}. Made by hoptrace {}.",
        sides.join(", "),
        report.hoptrace
    )
}

/// The conclusions of a method, or why there is none.
fn answers(report: &Report, found: &Comparison) -> Vec<Block> {
    let least = report.settings.min_coverage;
    let mut blocks = Vec::new();
    if found.whole_verdict.is_carried() {
        blocks.extend(whole(report, found).map(Block::Answer));
    } else {
        let what = format!("What a {} costs more", found.method);
        blocks.push(refused(&what, &found.whole_verdict, least));
    }
    if found.place_verdict.is_carried() {
        blocks.extend(wheres(found).map(Block::Answer));
    } else {
        let what = format!("Where a {} spends its time", found.method);
        blocks.push(refused(&what, &found.place_verdict, least));
    }
    blocks
}

fn whole(report: &Report, found: &Comparison) -> Option<String> {
    let (name, bare, method) = (name(&report.with), name(&report.without), &found.method);
    let (penalty, what) = match (&found.calls, found.pairs.as_slice()) {
        (Some(calls), _) => (calls, format!("The mean {method}")),
        (None, [first, ..]) => {
            let pair = format!("{} → {}", first.source, first.destination);
            (&first.whole, format!("The mean request of {pair}"))
        }
        (None, []) => return None,
    };
    let level = level(report.settings.confidence);
    let share = penalty
        .added_share
        .map_or(String::new(), |share| format!(", {}", signed_share(share)));
    Some(match penalty.added_us.may_be_nothing() {
        Some(true) => format!(
            "{what}: no difference is shown. It took {} µs {name}, {} µs {bare}; the runs of one target \
             differ by as much ({} µs, {level}).",
            mean(penalty.with_us),
            mean(penalty.without_us),
            signed(penalty.added_us)
        ),
        sure => {
            let how_sure = match sure {
                Some(_) => format!("{level} interval of {} runs a target", report.settings.runs),
                None => "one run: nothing says how sure that is".to_owned(),
            };
            format!(
                "{what} took {} µs {name}, {} µs {bare}: {} µs{share} ({how_sure}).",
                mean(penalty.with_us),
                mean(penalty.without_us),
                signed(penalty.added_us)
            )
        }
    })
}

fn name(side: &Option<Side>) -> String {
    side.as_ref()
        .map_or_else(String::new, |side| side.name.clone())
}

/// Sums of the places by kind; nothing where nothing is shown to be added.
fn wheres(found: &Comparison) -> Option<String> {
    let calls = found.calls?;
    if calls.added_us.may_be_nothing() == Some(true) {
        return None;
    }
    let all = calls.added_us.value;
    let sum = |fits: &dyn Fn(&Place) -> bool, of: fn(&Place) -> f64| {
        let places = found.places.iter().filter(|place| fits(place));
        places.fold(0.0, |sum, place| sum + of(place))
    };
    let more = |place: &Place| place.penalty.added_us.value;
    let is = |hops: &'static [Option<Hop>]| move |place: &Place| hops.contains(&place.hop);
    let sidecar = is(&[Some(Hop::SidecarInbound), Some(Hop::SidecarOutbound)]);
    let inside = sum(&sidecar, more);
    let queue = sum(&sidecar, |place| place.queue_added_us);
    let parts = [
        (
            inside,
            format!("in the sidecars ({} of it waiting to be read)", mean(queue)),
        ),
        (sum(&is(&[Some(Hop::Loopback)]), more), "on loopback".into()),
        (
            sum(&is(&[Some(Hop::Network)]), more),
            "on the network".into(),
        ),
        (sum(&is(&[Some(Hop::App)]), more), "in the apps".into()),
        (
            sum(&is(&[None]), more),
            "in the load generator itself".into(),
        ),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(us, place)| format!("{} µs ({}) {place}", added(us), percent(us, all)))
        .collect();
    Some(format!(
        "Of what a {} takes more: {}.",
        found.method,
        parts.join(", ")
    ))
}

/// `+12.3 ± 4.5`
pub(super) fn signed(estimate: Estimate) -> String {
    let half = estimate
        .half
        .map_or(String::new(), |half| format!(" ± {}", mean(half)));
    added(estimate.value) + &half
}

/// The same of a share, in percent.
pub(super) fn signed_share(estimate: Estimate) -> String {
    let value = percent(estimate.value, 1.0);
    let plus = if estimate.value < 0.0 { "" } else { "+" };
    match estimate.half {
        Some(half) => {
            let value = value.trim_end_matches(" %");
            format!("{plus}{value} ± {}", percent(half, 1.0))
        }
        None => format!("{plus}{value}"),
    }
}
