//! Looks at every agent all the time while something happens: whether its counters only grow, its
//! books balance, and its labels are true: what grew since the last look names workloads that had
//! a pod with an address in that time, and that do send each other requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::bed::{AGENT, Agent, Bed, DEMO, RELEASE};
use hoptrace_exposition::{Exposition, Series};

const STEP: Duration = Duration::from_millis(250);
/// An exposition is there in milliseconds.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// A request is told half a second after its end, and news of pods take a moment to everybody.
const GRACE: Duration = Duration::from_secs(2);
/// Who sends requests to whom, and how they are encrypted. The load is outside of the mesh, and so
/// are callers.
const PAIRS: [(&str, &str, &str); 2] = [
    ("load", "capitol-client", "none"),
    ("capitol-client", "capitol-info", "mutual_tls"),
];
/// Begins the names of pods that call the gateway by themselves.
pub(super) const CALLER: &str = "caller-";
/// What the node's own programs are to the agent, by their control group. Only the kubelet sends
/// something to pods, and its probes are not counted as requests. What says that it is one is in the
/// exchange behind the sidecar: when that was not paired, or the sidecar answered itself, it is counted.
const NODE: &str = "node";
/// Of so many of them in one check nobody has to think.
const FEW_PROBES: f64 = 10.0;
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
    /// Every time that a series of the demo grew.
    grown: Vec<Growth>,
    /// Series of the demo where an end had no name, and the most requests that one had.
    pub(super) unnamed: BTreeMap<String, f64>,
    /// Series of probes that were taken for requests, and the most that one had.
    probes: BTreeMap<String, f64>,
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
        let mut words = format!(
            "{} looks at {} agents: counters only grew, books balanced, no label was untrue in {} \
             growths of series",
            self.scrapes,
            self.lives,
            self.grown.len()
        );
        if !self.probes.is_empty() {
            let probes: f64 = self.probes.values().sum();
            words += &format!("; {probes} probes were not told from requests");
            ensure!(probes <= FEW_PROBES, "{words}");
        }
        Ok(words)
    }

    /// # Errors
    /// An end of some request had no name.
    pub(super) fn all_named(&self) -> Result<()> {
        ensure!(
            self.unnamed.is_empty(),
            "series of the demo without names: {:?}",
            self.unnamed
        );
        Ok(())
    }
}

/// A series of the demo that had more requests than at the last look.
#[derive(Debug)]
struct Growth {
    /// Workloads of source and destination, and their namespaces.
    names: [String; 2],
    spaces: [String; 2],
    service: String,
    policy: String,
    requests: f64,
    /// When they ended.
    span: (Instant, Instant),
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
        let done = done?;
        // A pod may have sent requests before the API told its address.
        thread::sleep(GRACE);
        Ok((done, judged(bed, seen)))
    })
}

/// Also when the work panics, the watcher must end.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One life of an agent.
#[derive(Default)]
struct Life {
    /// The last values, by series.
    values: BTreeMap<String, f64>,
    looked: Option<Instant>,
}

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
        let now = Instant::now();
        // What it told before it was first looked at is of the time of its pod.
        let before = life.looked.replace(now).unwrap_or(pod.since);
        let from = before.checked_sub(GRACE).unwrap_or(before);
        for series in metrics.iter().filter(|series| series.is_counter()) {
            let key = format!("{}{:?}", series.name, series.labels);
            let before = life.values.insert(key.clone(), series.value);
            let before = before.unwrap_or(0.0);
            if before > series.value {
                seen.backwards.insert(format!(
                    "{} of {key} went from {before} to {}",
                    pod.name, series.value
                ));
            }
            if series.value > before && REQUESTS.contains(&series.name.as_str()) {
                seen.grown.extend(growth(series, (from, now)));
            }
        }
        let off = imbalance(&metrics);
        if off != 0.0 {
            seen.unbalanced
                .insert(format!("the books of {} are off by {off}", pod.name));
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

/// A series that grew, if an end of it is the demo's.
fn growth(series: &Series, span: (Instant, Instant)) -> Option<Growth> {
    let label = |name| series.label(name).to_owned();
    let growth = Growth {
        names: [label("source_workload"), label("destination_workload")],
        spaces: [
            label("source_workload_namespace"),
            label("destination_workload_namespace"),
        ],
        service: label("destination_service_name"),
        policy: label("connection_security_policy"),
        requests: series.value,
        span,
    };
    let is_demo = |name: &String| PAIRS.iter().any(|pair| pair.0 == name || pair.1 == name);
    let is_ours =
        growth.spaces.iter().any(|space| space == DEMO) || growth.names.iter().any(is_demo);
    is_ours.then_some(growth)
}

/// Compares every growth with what the API told.
fn judged(bed: &Bed, mut seen: Seen) -> Seen {
    for growth in &seen.grown {
        let [source, destination] = &growth.names;
        let words = format!(
            "{source} ({}) to {destination} ({})",
            growth.spaces[0], growth.spaces[1]
        );
        let is_unnamed = |name: &String| name == "unknown" || name.starts_with("pod-");
        if growth.names.iter().any(is_unnamed) {
            let most = seen.unnamed.entry(words).or_default();
            *most = most.max(growth.requests);
            continue;
        }
        let mut ends = growth.names.iter().zip(&growth.spaces);
        let nobody = ends.find(|(name, space)| !bed.history.had(name, space, growth.span));
        let is_demo = growth.spaces.iter().all(|space| space == DEMO);
        let is_right = is_demo && is_pair(growth) && growth.service == *destination;
        if nobody.is_none() && is_right {
            continue;
        }
        if is_probe(growth) && bed.history.had(destination, DEMO, growth.span) {
            let most = seen.probes.entry(words).or_default();
            *most = most.max(growth.requests);
            continue;
        }
        let why = nobody.map_or_else(String::new, |(name, _)| {
            format!(", when no pod of {name} had an address")
        });
        seen.untrue.insert(format!(
            "untrue labels: {words}, service {}, policy {}, {} requests{why}",
            growth.service, growth.policy, growth.requests
        ));
    }
    seen
}

/// Whether such requests are sent at all.
fn is_pair(growth: &Growth) -> bool {
    let [source, destination] = &growth.names;
    let policy = growth.policy.as_str();
    let called = source.starts_with(CALLER).then_some("load");
    let source = called.unwrap_or(source);
    PAIRS.contains(&(source, destination, policy))
}

/// Whether it may be the kubelet's.
fn is_probe(growth: &Growth) -> bool {
    let [source, destination] = &growth.names;
    let [from, to] = &growth.spaces;
    source == NODE
        && from.is_empty()
        && to == DEMO
        && growth.service == *destination
        && growth.policy == "none"
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
