//! Addresses that go from one workload to the next while requests come from them: callers that live
//! for a moment, and that the agent knows by their address alone, as it knows those of other nodes.
//!
//! Every second caller waits until the API has told its address: all of its requests must have its
//! name. The others speak at once, as the load does. Theirs may be nobody's, and never anybody else's.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hoptrace_lab::wait;

use super::Figures;
use super::bed::{AGENT, Bed, DEMO};
use super::witness::{self, CALLER};
use hoptrace_exposition::Exposition;

/// Each is a workload of its own.
const CALLERS: u64 = 24;
/// Callers at a time.
const AT_A_TIME: usize = 3;
/// Requests of the first one; each has one more than the one before, so that no two are alike.
const FEWEST: u64 = 20;
/// Of the load, which goes on meanwhile from one address.
const RATE: f64 = 50.0;
/// The kubelet looks at containers once a second, and then tells the API.
const KNOWN_AFTER: Duration = Duration::from_secs(3);
/// From the making of a pod to the end of its requests, on a busy machine.
const CALLER_LIMIT: Duration = Duration::from_secs(90);

/// # Errors
/// A request has another name than that of who sent it, or no address was given again.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    bed.uninstall()?;
    // Every series has to be there at the end.
    let only_demo = bed.only_demo()?;
    bed.install(&[&only_demo, "extraArgs[1]=--series-grace=10m"])?;
    bed.rolled_out(AGENT, "daemonset/hoptrace")?;
    let agent = bed.agent()?;
    let load = bed.load(RATE)?;
    let started = Instant::now();
    let (mut sent, seen) = witness::watch(bed, || call(bed))?;
    let outcome = load.stop()?;
    ensure!(
        outcome.failed == 0,
        "requests of the load failed: {:?}",
        outcome.failures
    );
    sent.insert("load".to_owned(), outcome.succeeded);
    let mut counted = by_caller(&agent.settled()?);
    let given = bed.history.handed_over(started);
    let nobodys = counted.remove("unknown").unwrap_or(0);
    figures.say(seen.judge()?);
    figures.say(format!(
        "{} callers, known by their address alone, sent {} requests: {} are counted under the name of \
         who sent them, {nobodys} of those that spoke at once under none; {} addresses were given to \
         more than one workload",
        sent.len(),
        sent.values().sum::<u64>(),
        counted.values().sum::<u64>(),
        given.len(),
    ));
    compare(&sent, &counted, nobodys)?;
    ensure!(
        !given.is_empty(),
        "no address was given to another workload: this has shown nothing about them"
    );
    bed.uninstall()
}

fn compare(
    sent: &BTreeMap<String, u64>,
    counted: &BTreeMap<String, u64>,
    nobodys: u64,
) -> Result<()> {
    let of = |counts: &BTreeMap<String, u64>, caller| counts.get(caller).copied().unwrap_or(0);
    let mut wrong = Vec::new();
    for caller in sent.keys().chain(counted.keys()) {
        let (sent, counted) = (of(sent, caller), of(counted, caller));
        if counted > sent || (counted < sent && !speaks_at_once(caller)) {
            wrong.push(format!("{caller} sent {sent}, {counted} were counted"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let (sent, counted) = (sent.values().sum::<u64>(), counted.values().sum::<u64>());
    ensure!(
        sent == counted + nobodys,
        "{sent} requests were sent, {counted} counted with a name and {nobodys} without"
    );
    Ok(())
}

/// Callers with even numbers wait.
fn speaks_at_once(caller: &str) -> bool {
    let number = caller.strip_prefix(CALLER);
    number.is_none_or(|number| number.ends_with(['1', '3', '5', '7', '9']))
}

/// Starts one caller after the other; returns how many requests of each were answered.
fn call(bed: &Bed) -> Result<BTreeMap<String, u64>> {
    let mut sent = BTreeMap::new();
    let mut under_way = VecDeque::new();
    for index in 0..CALLERS {
        if under_way.len() >= AT_A_TIME
            && let Some(first) = under_way.pop_front()
        {
            end(bed, first, &mut sent)?;
        }
        let name = format!("{CALLER}{index:02}");
        let wait = if speaks_at_once(&name) {
            Duration::ZERO
        } else {
            KNOWN_AFTER
        };
        bed.start_caller(&name, FEWEST + index, wait)?;
        under_way.push_back(name);
    }
    under_way
        .into_iter()
        .try_for_each(|name| end(bed, name, &mut sent))?;
    Ok(sent)
}

fn end(bed: &Bed, name: String, sent: &mut BTreeMap<String, u64>) -> Result<()> {
    wait::until(&format!("{name} has ended"), CALLER_LIMIT, || {
        Ok(bed.history.is_over(DEMO, &name).then_some(()))
    })?;
    let outcome = bed.end_caller(&name)?;
    ensure!(
        outcome.failed == 0,
        "requests of {name} failed: {:?}",
        outcome.failures
    );
    sent.insert(name, outcome.succeeded);
    Ok(())
}

/// Requests to the gateway by the workload that they are said to come from.
fn by_caller(metrics: &Exposition) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for series in metrics.iter() {
        if series.name == "hoptrace_request_duration_seconds_count"
            && series.label("destination_workload") == "capitol-client"
            && series.label("reporter") == "destination"
        {
            let caller = series.label("source_workload").to_owned();
            *found.entry(caller).or_insert(0) += series.value as u64;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_has_all_its_requests_and_nobody_those_of_others() {
        let counts = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
            counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let sent = counts(&[("caller-00", 20), ("caller-01", 21)]);
        for (counted, nobodys, is_right) in [
            (&[("caller-00", 20), ("caller-01", 21)], 0, true),
            (&[("caller-00", 20), ("caller-01", 1)], 20, true),
            (&[("caller-00", 20), ("caller-01", 1)], 19, false),
            (&[("caller-00", 19), ("caller-01", 21)], 1, false),
            (&[("caller-00", 21), ("caller-01", 20)], 0, false),
            (&[("caller-00", 20), ("other", 21)], 0, false),
        ] {
            let compared = compare(&sent, &counts(counted), nobodys);
            assert_eq!(compared.is_ok(), is_right, "{counted:?} {nobodys}");
        }
    }
}
