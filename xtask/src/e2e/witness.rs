//! Looks at every agent all the time while something happens: whether its counters only grow, its
//! books balance, and its labels are true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::bed::{AGENT, Agent, Bed, DEMO, RELEASE};
use crate::exposition::{Exposition, Series};

const STEP: Duration = Duration::from_millis(250);
/// An exposition is there in milliseconds.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// Who sends requests to whom, and how they are encrypted. The load is outside of the mesh.
const PAIRS: [(&str, &str, &str); 2] = [
    ("load", "capitol-client", "none"),
    ("capitol-client", "capitol-info", "mutual_tls"),
];
/// Series of requests: each has both ends as labels.
const REQUESTS: [&str; 2] = [
    "hoptrace_request_duration_seconds_count",
    "hoptrace_hop_duration_seconds_count",
];

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Expositions that were looked at.
    pub(super) scrapes: u64,
    /// Lives of agents: a container that started again is another.
    pub(super) lives: usize,
    /// Counters that went back, each in words.
    backwards: BTreeSet<String>,
    /// Books that did not balance.
    unbalanced: BTreeSet<String>,
    /// Labels that are not true.
    untrue: BTreeSet<String>,
    /// Series of the demo where an end had no name, and the most requests that one had.
    pub(super) unnamed: BTreeMap<String, f64>,
}

impl Seen {
    /// # Errors
    /// Something was wrong at any time, or nothing was looked at.
    pub(super) fn judge(&self) -> Result<String> {
        ensure!(self.scrapes > 0, "no agent was ever asked");
        let wrong: Vec<_> = [&self.backwards, &self.unbalanced, &self.untrue]
            .into_iter()
            .flatten()
            .take(10)
            .cloned()
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(format!(
            "{} looks at {} agents: counters only grew, books balanced, no label was untrue",
            self.scrapes, self.lives
        ))
    }
}

/// Does something while all agents are looked at.
///
/// # Errors
/// The work fails.
pub(super) fn watch<T>(bed: &Bed, work: impl FnOnce() -> Result<T>) -> Result<(T, Seen)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Seen::default();
            let mut lives = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                look(bed, &mut lives, &mut seen);
                thread::sleep(STEP);
            }
            seen.lives = lives.len();
            seen
        });
        let done = {
            let _stop = SetOnDrop(&stop);
            work()
        };
        let seen = watcher
            .join()
            .map_err(|_panic| anyhow!("looking at the agents panicked"))?;
        Ok((done?, seen))
    })
}

/// Also when the work panics, the watcher must end.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The last values of one life, by series.
type Life = BTreeMap<String, f64>;

fn look(bed: &Bed, lives: &mut BTreeMap<String, Life>, seen: &mut Seen) {
    for pod in bed.history.pods(AGENT, RELEASE) {
        // One that is about to start or to end does not answer.
        let Some(Ok(metrics)) = Agent::of(&pod).map(|agent| agent.metrics_within(LOOK_LIMIT))
        else {
            continue;
        };
        seen.scrapes += 1;
        let started = metrics.sum_where("process_start_time_seconds", &[]);
        let life = lives.entry(format!("{} {started}", pod.name)).or_default();
        for series in metrics.iter().filter(|series| series.is_counter()) {
            let key = format!("{}{:?}", series.name, series.labels);
            let before = life.insert(key.clone(), series.value);
            if let Some(before) = before.filter(|before| *before > series.value) {
                seen.backwards.insert(format!(
                    "{} of {key} went from {before} to {}",
                    pod.name, series.value
                ));
            }
        }
        let off = imbalance(&metrics);
        if off != 0.0 {
            seen.unbalanced
                .insert(format!("the books of {} are off by {off}", pod.name));
        }
        for series in requests(&metrics) {
            judge(bed, series, seen);
        }
    }
}

/// What is in the books on one side and not on the other; 0 when they balance.
fn imbalance(metrics: &Exposition) -> f64 {
    let sum = |name| metrics.sum_where(name, &[]);
    let lost = |reason| metrics.sum_where("hoptrace_records_lost_total", &[("reason", reason)]);
    sum("hoptrace_records_total")
        - lost("ring_full")
        - lost("parse_error")
        - lost("unknown_socket")
        - sum("hoptrace_exchanges_total")
        - sum("hoptrace_exchanges_pending")
}

fn requests(metrics: &Exposition) -> impl Iterator<Item = &Series> {
    metrics
        .iter()
        .filter(|series| REQUESTS.contains(&series.name.as_str()) && series.value > 0.0)
}

/// Whether a series of the demo has the names of who did send those requests.
fn judge(bed: &Bed, series: &Series, seen: &mut Seen) {
    let (source, destination) = (
        series.label("source_workload"),
        series.label("destination_workload"),
    );
    let spaces = [
        series.label("source_workload_namespace"),
        series.label("destination_workload_namespace"),
    ];
    let names = [source, destination];
    let is_demo = |name: &str| PAIRS.iter().any(|pair| pair.0 == name || pair.1 == name);
    if !spaces.contains(&DEMO) && !names.iter().any(|name| is_demo(name)) {
        return;
    }
    let words = format!("{source} ({}) to {destination} ({})", spaces[0], spaces[1]);
    if names.contains(&"unknown") || names.iter().any(|name| name.starts_with("pod-")) {
        let most = seen.unnamed.entry(words).or_default();
        *most = most.max(series.value);
        return;
    }
    let policy = series.label("connection_security_policy");
    let service = series.label("destination_service_name");
    let known = names
        .iter()
        .zip(spaces)
        .all(|(name, space)| space == DEMO && bed.history.knew(name, space));
    let is_pair = PAIRS.contains(&(source, destination, policy));
    if !known || !is_pair || service != destination {
        seen.untrue.insert(format!(
            "untrue labels: {words}, service {service}, policy {policy}, {} requests",
            series.value
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_balance_or_do_not() {
        let text = |total: u32| {
            format!(
                "hoptrace_records_total {total}\n\
                 hoptrace_records_lost_total{{reason=\"ring_full\"}} 1\n\
                 hoptrace_records_lost_total{{reason=\"request_unseen\"}} 9\n\
                 hoptrace_exchanges_total{{result=\"paired\"}} 5\nhoptrace_exchanges_pending 2\n"
            )
        };
        assert_eq!(imbalance(&Exposition::parse(&text(8))), 0.0);
        assert_eq!(imbalance(&Exposition::parse(&text(9))), 1.0);
    }
}
