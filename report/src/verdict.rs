//! Which conclusion the coverage carries.

use hoptrace_exposition::Hop;

use crate::compare::{Both, entry};
use crate::figures::{count, percent};
use crate::model::{Kind, PairFigures, Settings, Verdict};

/// Where one target's requests spend their time.
pub(crate) fn of_side(name: &str, kind: &Kind, settings: &Settings) -> Verdict {
    let mut missing = loads(name, kind, settings.min_coverage);
    missing.extend(hops(name, kind, settings.min_coverage));
    Verdict { missing }
}

/// What can be said of whole calls.
pub(crate) fn whole(both: &Both<'_>, settings: &Settings) -> Verdict {
    let sides = [both.without, both.with];
    let mut missing = Vec::new();
    for (name, kind) in sides {
        missing.extend(loads(name, kind, settings.min_coverage));
        if kind.all.is_none() {
            missing.extend(exchanges(name, kind, settings.min_coverage));
        }
    }
    Verdict { missing }
}

/// What can be said of places.
pub(crate) fn places(
    both: &Both<'_>,
    pairs: &[(Option<&PairFigures>, Option<&PairFigures>)],
    settings: &Settings,
) -> Verdict {
    let mut missing = Vec::new();
    for (name, kind) in [both.without, both.with] {
        missing.extend(of_side(name, kind, settings).missing);
    }
    for pair in pairs {
        let (alone, name) = match pair {
            (None, Some(alone)) => (alone, both.without.0),
            (Some(alone), None) => (alone, both.with.0),
            _ => continue,
        };
        missing.push(format!(
            "{name}: no requests of {} to {} were seen, so theirs have nothing to be compared with",
            alone.source, alone.destination
        ));
    }
    Verdict { missing }
}

/// Calls of the load that failed.
fn loads(name: &str, kind: &Kind, least: f64) -> Vec<String> {
    let failed: u64 = kind.runs.iter().map(|run| run.failed).sum();
    let calls = failed + kind.runs.iter().map(|run| run.succeeded).sum::<u64>();
    if failed as f64 <= (1.0 - least) * calls as f64 {
        return Vec::new();
    }
    let mut reasons: Vec<_> = kind.runs.iter().flat_map(|run| &run.failures).collect();
    reasons.dedup();
    let reasons: Vec<_> = reasons.into_iter().map(String::as_str).collect();
    vec![format!(
        "{name}: {} of {} calls failed ({})",
        count(failed),
        count(calls),
        reasons.join("; ")
    )]
}

/// Exchanges without a neighbour, and records that were lost.
fn exchanges(name: &str, kind: &Kind, least: f64) -> Option<String> {
    let coverage = &kind.coverage;
    let Some(share) = coverage.share() else {
        return Some(format!("{name}: the agents told no exchange at all"));
    };
    (share < least).then(|| {
        let of = |fate: &str| -> u64 {
            let exchanges = coverage.exchanges.iter().filter(|(of, _, _)| of == fate);
            exchanges.map(|(_, _, count)| count).sum()
        };
        let fates = ["unpaired", "evicted"].map(|fate| (fate.to_owned(), of(fate)));
        let lost = coverage.lost.iter();
        let lost = lost.map(|(reason, count)| (format!("lost to {reason}"), *count));
        let told: Vec<_> = fates
            .into_iter()
            .chain(lost)
            .filter(|(_, found)| *found > 0)
            .map(|(what, found)| format!("{} {what}", count(found)))
            .collect();
        format!(
            "{name}: {} of {} exchanges found their neighbour, {} ({})",
            count(coverage.paired()),
            count(coverage.judged()),
            below(share),
            told.join(", ")
        )
    })
}

/// Requests and hops that are not told.
fn hops(name: &str, kind: &Kind, least: f64) -> Vec<String> {
    let mut missing: Vec<_> = exchanges(name, kind, least).into_iter().collect();
    let calls: u64 = kind.runs.iter().map(|run| run.succeeded).sum();
    if kind.pairs.is_empty() {
        missing.push(format!("{name}: the agents told no request of this load"));
        return missing;
    }
    let told = entry(&kind.pairs).requests;
    if told < least * calls as f64 {
        missing.push(format!(
            "{name}: the agents told {} of {} calls, {}",
            count(told as u64),
            count(calls),
            below(told / calls as f64)
        ));
    }
    for pair in &kind.pairs {
        missing.extend(of_pair(name, pair, least));
    }
    missing
}

fn of_pair(name: &str, pair: &PairFigures, least: f64) -> Vec<String> {
    let whose = format!("{name}: {} → {}", pair.source, pair.destination);
    let is_short = |hop: &&crate::HopFigures| (hop.requests as f64) < least * pair.requests as f64;
    let mut missing: Vec<_> = pair
        .hops
        .iter()
        // An app's or a sidecar's time; loopback is with them.
        .filter(|hop| hop.hop != Hop::Loopback)
        .filter(is_short)
        .map(|hop| {
            format!(
                "{whose}: {} is told of {} of {} requests, {}",
                hop.hop.as_str(),
                count(hop.requests),
                count(pair.requests),
                below(hop.requests as f64 / pair.requests as f64)
            )
        })
        .collect();
    if missing.is_empty() && pair.told() < least {
        missing.push(format!(
            "{whose}: the hops tell {} of the time of whole requests",
            below(pair.told())
        ));
    }
    missing
}

/// A share that is not rounded up to one that would do.
fn below(share: f64) -> String {
    percent((share * 1_000.0).floor(), 1_000.0)
}
