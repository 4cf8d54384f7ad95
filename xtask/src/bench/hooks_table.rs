//! The accounting phase in words.

use std::fmt::Write;

use super::accounting::Window;
use super::cost::Hook;
use super::stats::Estimate;

/// What it is, its unit, digits worth printing, and where it comes from.
type Line = (&'static str, &'static str, usize, fn(&Window) -> f64);

/// A table of the programs, and the agent's own cost below it.
pub(super) fn show(windows: &[Window]) -> String {
    let mut text = format!(
        "{:<22}{:>8}{:>8}{:>8}{:>14}{:>13}{:>13}\n",
        "program", "ns raw", "empty", "net", "runs/request", "raw µs/req.", "net µs/req."
    );
    let Some(first) = windows.first() else {
        return text;
    };
    for Hook { program, .. } in &first.hooks {
        let median = |value: fn(&Hook) -> f64| {
            let hooks = windows.iter().flat_map(|window| &window.hooks);
            let values: Vec<_> = hooks
                .filter(|it| it.program == *program)
                .map(value)
                .collect();
            Estimate::of(&values).map_or(f64::NAN, |it| it.median)
        };
        // A String takes everything.
        let _written = writeln!(
            text,
            "{program:<22}{:>8.1}{:>8.1}{:>8.1}{:>14.3}{:>13.3}{:>13.3}",
            median(|it| it.raw_ns),
            median(|it| it.empty_ns),
            median(Hook::net_ns),
            median(|it| it.runs_per_request),
            median(Hook::raw_us_per_request),
            median(Hook::net_us_per_request)
        );
    }
    let lines: [Line; 13] = [
        ("kernel, raw", "µs/request", 3, Window::kernel_us_raw),
        ("kernel, net", "µs/request", 3, Window::kernel_us_net),
        ("naive tracer, net", "µs/request", 3, |it| {
            it.naive.net_us_per_request
        }),
        ("naive tracer, packet", "ns raw", 1, |it| {
            it.naive.packet_raw_ns
        }),
        ("records", "/request", 3, |it| it.records_per_request),
        ("records", "/exchange", 3, Window::records_per_exchange),
        ("paired", "% of exchanges", 2, |it| it.paired_percent),
        ("records lost", "in all", 0, |it| it.lost_records),
        ("agent CPU", "% of a core", 2, |it| it.agent_cpu_percent),
        ("agent CPU", "µs/request", 2, |it| {
            it.agent_cpu_us_per_request
        }),
        ("agent wake-ups", "/s", 1, |it| it.agent_wakeups_per_second),
        ("agent RSS", "MiB", 1, |it| it.agent_rss_mib),
        ("agent RSS, most", "MiB", 1, |it| it.agent_rss_peak_mib),
    ];
    for (name, unit, digits, value) in lines {
        if let Some(estimate) = estimate(windows, value) {
            let _written = writeln!(text, "{name:<22}{} {unit}", estimate.show(digits));
        }
    }
    text
}

/// Over the windows.
pub(super) fn estimate(windows: &[Window], value: impl Fn(&Window) -> f64) -> Option<Estimate> {
    Estimate::of(&windows.iter().map(value).collect::<Vec<_>>())
}
