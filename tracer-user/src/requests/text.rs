//! A request as three lines: who asked whom and how long it took, a bar of the way in its order, and the
//! hops by their size.

use std::borrow::Cow;
use std::fmt::Write;

use crate::model::Hop;
use crate::tap::SOCKETS;
use crate::tap::json::{Line, StageLine, Told};
use crate::top::text::{duration, heading, letter};

/// Cells of a bar.
const BAR: u64 = 72;

/// The text of a line of the stream.
pub(super) fn of(line: &Line<'_>, colours: bool) -> String {
    match line {
        Line::Request(told) => request(told, colours),
        Line::Dropped { dropped } => {
            format!("({dropped} requests came faster than this can show, and are left out)\n")
        }
    }
}

fn request(told: &Told<'_>, colours: bool) -> String {
    let workload = |name: &str, namespace: &str| match namespace {
        "" => name.to_owned(),
        namespace => format!("{name}.{namespace}"),
    };
    // Of 2026-11-29T14:02:11.042123Z what changes while one looks.
    let at = told.at.get(11..23).unwrap_or(&told.at);
    let source = workload(&told.source_workload, &told.source_workload_namespace);
    let destination = workload(
        &told.destination_workload,
        &told.destination_workload_namespace,
    );
    let mut text = format!("{at}  {source} → {destination}");
    if let Some(method) = &told.request_method {
        let _infallible = write!(text, "  {method}");
    }
    if let Some(code) = told.response_code {
        let _infallible = write!(text, "  {code}");
    }
    let _infallible = write!(text, "  {}", time(told.duration_ns));
    let seen = told.sockets.len();
    if seen < SOCKETS.len() {
        let names: Vec<&str> = told.sockets.iter().map(|name| &**name).collect();
        let _infallible = write!(text, "  (seen at {})", names.join(", "));
    }
    let bar = bar(told, colours);
    let figures = figures(told);
    text + "\n  " + &bar + "\n  " + &figures + "\n"
}

fn time(ns: u64) -> String {
    duration(Some(ns as f64 / 1e9))
}

/// Hops with their self times, the longest first.
fn figures(told: &Told<'_>) -> String {
    let mut hops: Vec<_> = Hop::ALL
        .into_iter()
        .filter(|hop| told.hops.iter().any(|time| time.hop == *hop))
        .map(|hop| (heading(hop), told.hop_ns(hop)))
        .collect();
    if told.calls > 0 {
        hops.push(("calls of the app", told.calls_ns));
    }
    hops.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let hops: Vec<_> = hops
        .into_iter()
        .map(|(name, ns)| format!("{name} {}", time(ns)))
        .collect();
    hops.join(", ")
}

/// One letter a cell: a small one where bytes wait to be read or are on their way, a capital one where
/// somebody works on them.
fn bar(told: &Told<'_>, colours: bool) -> String {
    let mut text = String::new();
    let cell = |ns: u64| {
        let ns = u128::from(ns) * u128::from(BAR);
        (ns / u128::from(told.duration_ns.max(1))) as usize
    };
    for stage in &told.stages {
        let read = stage.read_ns.unwrap_or(match stage.hop {
            // Without the read, all of it may be work.
            Some(Hop::Network | Hop::Loopback) | None => stage.to_ns,
            Some(_) => stage.from_ns,
        });
        let [from, read, to] = [stage.from_ns, read, stage.to_ns].map(cell);
        let letter = stage.hop.map_or("·", letter);
        let waits = letter.repeat(read.saturating_sub(from));
        let works = letter.to_uppercase().repeat(to.saturating_sub(read));
        text += &coloured(stage, waits + &works, colours);
    }
    text
}

fn coloured(stage: &StageLine, cells: String, colours: bool) -> Cow<'static, str> {
    // SGR codes of black on what `hoptrace top` paints the hop with.
    let background = match stage.hop {
        Some(Hop::App) => 42,
        Some(Hop::SidecarInbound) => 43,
        Some(Hop::SidecarOutbound) => 45,
        Some(Hop::Network) => 46,
        Some(Hop::Loopback) => 47,
        None => return cells.into(),
    };
    if !colours || cells.is_empty() {
        return cells.into();
    }
    format!("\x1b[30;{background}m{cells}\x1b[0m").into()
}
