//! The latency phase in words.

use std::fmt::Write;

use super::pairs::{Pair, Plan, Side};
use super::stats::{self, Estimate};
use super::stretch::Stretch;

/// A row: what it is, its unit, and where it comes from.
type Row = (&'static str, &'static str, fn(&Stretch) -> f64);

const CPU: [Row; 4] = [
    ("CPU, lab and agent", "µs", Stretch::cpu_us),
    ("  both sidecars", "µs", |it| it.sidecars_cpu_us),
    ("  app", "µs", |it| it.app_cpu_us),
    ("CPU, whole machine", "µs", |it| it.machine_cpu_us),
];
const TIMES: [Row; 4] = [
    ("latency p50", "µs", |it| it.latency_p50_us),
    ("latency p99", "µs", |it| it.latency_p99_us),
    ("service p50", "µs", |it| it.service_p50_us),
    ("service p99", "µs", |it| it.service_p99_us),
];
/// More work than this elsewhere, in percent of a core, disturbs what is measured here.
const QUIET_PERCENT: f64 = 10.0;
const THROUGHPUT: Row = ("throughput", "/s", |it| it.throughput);

/// Two tables: at a fixed rate, and saturated.
pub(super) fn show(pairs: &[Pair], plan: Plan) -> String {
    let Plan {
        subject,
        seconds,
        rate,
        pairs: number,
    } = plan;
    let mut text = format!(
        "With and without {subject}: fixed rate, {rate:.0} requests/s (open loop), {number} pairs of {seconds} s; CPU is of one request\n"
    );
    table(&mut text, pairs, |it| &it.fixed, TIMES.iter().chain(&CPU));
    text += "\nSaturated (closed loop)\n";
    let rows = [THROUGHPUT];
    table(
        &mut text,
        pairs,
        |it| &it.saturated,
        rows.iter().chain(&CPU),
    );
    if let Some(elsewhere) = elsewhere(pairs) {
        let _written = writeln!(
            text,
            "\nWork elsewhere on this machine: {} % of a core",
            elsewhere.show(0)
        );
        if elsewhere.median > QUIET_PERCENT {
            text += "Other programs are busy here: compare nothing but the intervals, and run it \
                     again when they rest.\n";
        }
    }
    text
}

/// What the figures have to be read with: on a quiet machine only the kernel's threads are left.
fn elsewhere(pairs: &[Pair]) -> Option<Estimate> {
    let sides = pairs.iter().flat_map(|pair| [&pair.without, &pair.with]);
    let stretches = sides.flat_map(|side| [&side.fixed, &side.saturated]);
    Estimate::of(&stretches.map(|it| it.elsewhere_percent).collect::<Vec<_>>())
}

fn table<'a>(
    text: &mut String,
    pairs: &[Pair],
    which: fn(&Side) -> &Stretch,
    rows: impl Iterator<Item = &'a Row>,
) {
    // A String takes everything.
    let _written = writeln!(
        text,
        "{:<22}{:>11}{:>11}    {:<26}difference",
        "", "without", "with", "change, median [95 %]"
    );
    for (name, unit, value) in rows {
        let of = |side: &Side| value(which(side));
        let change = estimate(pairs, |without, with| {
            stats::percent_more(of(without), of(with))
        });
        let difference = estimate(pairs, |without, with| of(with) - of(without));
        let (Some(without), Some(with)) = (
            estimate(pairs, |without, _| of(without)),
            estimate(pairs, |_, with| of(with)),
        ) else {
            continue;
        };
        let signed = |it: Option<Estimate>, unit| it.map_or_else(String::new, |it| it.signed(unit));
        let _written = writeln!(
            text,
            "{name:<22}{:>11.1}{:>11.1}    {:<26}{}",
            without.median,
            with.median,
            signed(change, "%"),
            signed(difference, unit)
        );
    }
}

/// Over the pairs, of something made of both sides.
pub(super) fn estimate(pairs: &[Pair], value: impl Fn(&Side, &Side) -> f64) -> Option<Estimate> {
    let values: Vec<_> = pairs
        .iter()
        .map(|it| value(&it.without, &it.with))
        .collect();
    Estimate::of(&values)
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Subject;
    use super::*;

    fn stretch(scale: f64, elsewhere: f64) -> Stretch {
        Stretch {
            requests: 1,
            failed: 0,
            throughput: 1000.0 / scale,
            latency_p50_us: 200.0 * scale,
            latency_p99_us: 900.0,
            service_p50_us: 190.0,
            service_p99_us: 800.0,
            lab_cpu_us: 100.0,
            sidecars_cpu_us: 80.0,
            app_cpu_us: 10.0,
            agent_cpu_us: if scale > 1.0 { 3.0 } else { 0.0 },
            machine_cpu_us: 120.0,
            elsewhere_percent: elsewhere,
        }
    }

    fn shown(elsewhere: f64) -> String {
        let side = |scale| Side {
            fixed: stretch(scale, elsewhere),
            saturated: stretch(scale, elsewhere),
            accounted: false,
        };
        let pair = Pair {
            traced_first: false,
            without: side(1.0),
            with: side(1.25),
        };
        let plan = Plan {
            subject: Subject::Agent,
            pairs: 1,
            seconds: 8.0,
            rate: 500.0,
        };
        show(&[pair], plan)
    }

    #[test]
    fn each_figure_has_both_sides_and_what_changed() {
        let text = shown(2.0);
        let row = |name| text.lines().find(|line| line.starts_with(name)).unwrap();
        let words = |name| row(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words("latency p50"),
            "latency p50 200.0 250.0 +25.0 % [+25.0, +25.0] +50.0 µs [+50.0, +50.0]"
        );
        assert_eq!(
            words("throughput"),
            "throughput 1000.0 800.0 −20.0 % [−20.0, −20.0] −200.0 /s [−200.0, −200.0]"
        );
        // The agent is a part of what tracing costs.
        assert!(words("CPU, lab and agent").contains("100.0 103.0 +3.0 %"));
        assert!(!text.contains("busy"), "{text}");
    }

    #[test]
    fn a_busy_machine_is_named() {
        assert!(shown(80.0).contains("busy"));
    }
}
