//! Charts as SVG. Colours are classes, which the page's style sheet has for light, dark and paper.

use std::fmt::Write;

use hoptrace_exposition::Hop;

use crate::document::place_name;
use crate::figures::{mean, quantile};
use crate::html::escaped;
use crate::model::{Comparison, Place};
use crate::side::WAY;

/// Units of the picture; the page makes it as wide as there is room.
const WIDTH: f64 = 900.0;
/// Left of the bars.
const NAMES: f64 = 150.0;
/// Right of them.
const FIGURES: f64 = 90.0;
const BAR: f64 = 26.0;
/// One line of text.
const LINE: f64 = 20.0;

/// A picture and what somebody hears who does not see it.
fn picture(height: f64, title: &str, about: &str, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\
         <title>{}</title><desc>{}</desc>{body}</svg>",
        escaped(title),
        escaped(title),
        escaped(about)
    )
}

fn text(x: f64, y: f64, anchor: &str, class: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
        escaped(words)
    )
}

fn bar(x: f64, y: f64, width: f64, class: &str, title: &str) -> String {
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" class=\"{class}\">\
         <title>{}</title></rect>",
        width.max(0.0),
        escaped(title)
    )
}

/// Two bars, without and with, of what a call passes.
pub(crate) fn places(found: &Comparison, names: [&str; 2]) -> String {
    let of: [fn(&Place) -> f64; 2] = [|p| p.penalty.without_us, |p| p.penalty.with_us];
    // A place that takes less than nothing is a difference of two noisy figures: it has no width.
    let sums = of.map(|of| {
        found
            .places
            .iter()
            .map(|place| of(place).max(0.0))
            .sum::<f64>()
    });
    let scale = (WIDTH - NAMES - FIGURES) / sums[0].max(sums[1]).max(f64::MIN_POSITIVE);
    let mut body = String::new();
    let mut y = 4.0;
    for ((of, name), sum) in of.into_iter().zip(names).zip(sums) {
        body += &text(NAMES - 8.0, y + 18.0, "end", "", name);
        let mut x = NAMES;
        for place in &found.places {
            let width = of(place).max(0.0) * scale;
            let title = format!("{}: {} µs", place_name(place), mean(of(place)));
            body += &bar(x, y, width, class(place.hop), &title);
            x += width;
        }
        body += &text(
            x + 8.0,
            y + 18.0,
            "start",
            "faint",
            &format!("{} µs", mean(sum)),
        );
        y += BAR + 10.0;
    }
    body += &legend(&mut y);
    let title = format!("Where the mean {} spends its time", found.method);
    picture(y, &title, "The table below has the figures.", &body)
}

fn legend(y: &mut f64) -> String {
    let mut kinds: Vec<(&str, &str)> = WAY
        .into_iter()
        .map(|hop| (class(Some(hop)), hop.as_str()))
        .collect();
    kinds.push((class(None), "load generator"));
    let mut body = String::new();
    let mut x = NAMES;
    for (class, name) in kinds {
        let _infallible = write!(
            body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" class=\"{class}\"/>",
            *y + 2.0
        );
        body += &text(x + 17.0, *y + 13.0, "start", "faint", name);
        x += 30.0 + 7.5 * name.len() as f64;
    }
    *y += LINE + 4.0;
    body
}

fn class(hop: Option<Hop>) -> &'static str {
    hop.map_or("generator", Hop::as_str)
}

/// Mean and quantiles of whole calls on a logarithmic axis, without and with.
pub(crate) fn tails(found: &Comparison, names: [&str; 2]) -> String {
    let mut rows: Vec<(&str, [f64; 2])> = Vec::new();
    if let Some(calls) = &found.calls {
        rows.push(("mean", [calls.without_us, calls.with_us]));
    }
    let tails = found.tails.iter();
    rows.extend(tails.map(|tail| (tail.name.as_str(), [tail.without_us, tail.with_us])));
    let all = || {
        rows.iter()
            .flat_map(|(_, both)| *both)
            .filter(|us| *us > 0.0)
    };
    let axis = Axis::over(all().fold(f64::MAX, f64::min), all().fold(1.0, f64::max));
    let mut y = LINE + 4.0;
    let bottom = y + rows.len() as f64 * (BAR + 16.0);
    let mut body = axis.grid(bottom);
    for (name, both) in &rows {
        body += &text(NAMES - 8.0, y + 20.0, "end", "", name);
        for (at, (us, class)) in both.iter().zip(["without", "with"]).enumerate() {
            let middle = y + 9.0 + 14.0 * at as f64;
            let x = axis.at(*us);
            let _infallible = write!(
                body,
                "<line x1=\"{NAMES}\" x2=\"{x:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" class=\"rule\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"5\" class=\"{class}\"/>"
            );
            body += &text(x + 10.0, middle + 4.5, "start", "faint", &quantile(*us));
        }
        y += BAR + 16.0;
    }
    y = bottom + 6.0;
    let mut x = NAMES;
    for (name, class) in names.into_iter().zip(["without", "with"]) {
        let _infallible = write!(
            body,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" class=\"{class}\"/>",
            x + 6.0,
            y + 8.0
        );
        body += &text(x + 17.0, y + 13.0, "start", "faint", name);
        x += 40.0 + 7.5 * name.len() as f64;
    }
    let title = format!("Whole calls of {}, µs, on a logarithmic axis", found.method);
    picture(y + LINE, &title, "The table below has the figures.", &body)
}

/// A logarithmic axis of whole decades.
struct Axis {
    from: f64,
    decades: f64,
}

impl Axis {
    fn over(least: f64, most: f64) -> Self {
        let from = least.clamp(1.0, 1e9).log10().floor();
        let to = most.clamp(1.0, 1e12).log10().ceil().max(from + 1.0);
        Self {
            from,
            decades: to - from,
        }
    }

    fn at(&self, us: f64) -> f64 {
        let share = (us.max(1e-3).log10() - self.from) / self.decades;
        NAMES + share.clamp(0.0, 1.0) * (WIDTH - NAMES - FIGURES)
    }

    fn grid(&self, bottom: f64) -> String {
        let mut body = String::new();
        let mut decade = self.from;
        while decade <= self.from + self.decades {
            let us = 10_f64.powf(decade);
            let x = self.at(us);
            let _infallible = write!(
                body,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{LINE}\" y2=\"{bottom:.1}\" class=\"rule\"/>"
            );
            body += &text(x, LINE - 6.0, "middle", "faint", &axis_label(us));
            decade += 1.0;
        }
        body
    }
}

fn axis_label(us: f64) -> String {
    if us < 1e3 {
        format!("{us:.0} µs")
    } else if us < 1e6 {
        format!("{:.0} ms", us / 1e3)
    } else {
        format!("{:.0} s", us / 1e6)
    }
}
