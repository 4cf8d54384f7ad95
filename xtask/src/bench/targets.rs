//! What the benchmark is for: each promise, what was found, and whether it holds.

use std::fmt;

use serde::Serialize;

use super::accounting::Window;
use super::hooks_table;
use super::pairs::Pair;
use super::pairs_table;
use super::stats::{self, Estimate};

/// The rate that the agent's own cost is promised for, requests a second.
pub(super) const STATED_RATE: f64 = 5_000.0;

/// A promise, and what was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Target {
    name: &'static str,
    unit: &'static str,
    at_most: f64,
    found: Estimate,
    verdict: Verdict,
}

/// Whether a promise holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// The whole interval is within the target.
    Met,
    /// The whole interval is beyond it.
    Missed,
    /// The target is inside of the interval: more pairs, or a quieter machine, would tell.
    WithinNoise,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::WithinNoise => "within noise",
        })
    }
}

impl Verdict {
    fn of(found: Estimate, at_most: f64) -> Self {
        if found.high <= at_most {
            Self::Met
        } else if found.low > at_most {
            Self::Missed
        } else {
            Self::WithinNoise
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            unit,
            at_most,
            found,
            verdict,
        } = self;
        let target = format!("≤ {at_most} {unit}");
        write!(f, "{name:<44}{target:<18}{verdict:<14}{}", found.show(2))
    }
}

/// Judges all there is to judge: without pairs, what the accounting phase tells.
pub(super) fn judge(pairs: &[Pair], windows: &[Window]) -> Vec<Target> {
    let of_pairs = |value: fn(&super::stretch::Stretch, &super::stretch::Stretch) -> f64,
                    saturated: bool| {
        pairs_table::estimate(pairs, |without, with| {
            if saturated {
                value(&without.saturated, &with.saturated)
            } else {
                value(&without.fixed, &with.fixed)
            }
        })
    };
    let of_windows = |value: fn(&Window) -> f64| hooks_table::estimate(windows, value);
    let rows = [
        (
            "throughput lost, saturated",
            "%",
            2.0,
            of_pairs(
                |without, with| -stats::percent_more(without.throughput, with.throughput),
                true,
            ),
        ),
        (
            "p50 latency added, fixed rate",
            "%",
            2.0,
            of_pairs(
                |without, with| stats::percent_more(without.latency_p50_us, with.latency_p50_us),
                false,
            ),
        ),
        (
            "kernel CPU, net, six sockets (goal 1)",
            "µs/request",
            2.0,
            of_windows(Window::kernel_us_net),
        ),
        (
            "records per exchange and socket",
            "",
            1.1,
            of_windows(Window::records_per_exchange),
        ),
        (
            "agent CPU at 5,000 requests/s",
            "% of a core",
            2.0,
            of_windows(|it| it.agent_cpu_percent_at(STATED_RATE)),
        ),
        ("agent RSS", "MiB", 40.0, of_windows(|it| it.agent_rss_mib)),
        (
            "agent RSS, most since its start",
            "MiB",
            40.0,
            of_windows(|it| it.agent_rss_peak_mib),
        ),
        ("records lost", "", 0.0, of_windows(|it| it.lost_records)),
    ];
    rows.into_iter()
        .filter_map(|(name, unit, at_most, found)| {
            let found = found?;
            Some(Target {
                name,
                unit,
                at_most,
                found,
                verdict: Verdict::of(found, at_most),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_the_whole_interval() {
        for (low, high, verdict) in [
            (-1.0, 2.0, Verdict::Met),
            (1.9, 2.1, Verdict::WithinNoise),
            (2.0, 9.0, Verdict::WithinNoise),
            (2.1, 9.0, Verdict::Missed),
        ] {
            let found = Estimate {
                median: f64::midpoint(low, high),
                low,
                high,
            };
            assert_eq!(Verdict::of(found, 2.0), verdict, "{low} {high}");
        }
    }

    #[test]
    fn nothing_measured_is_nothing_judged() {
        assert!(judge(&[], &[]).is_empty());
    }
}
