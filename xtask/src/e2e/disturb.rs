//! Things that happen on a node, under load: none of them may cost a request, a wrong label or a
//! wrong count because of the agent.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hoptrace_cluster::{Component, NODE_NAME};
use hoptrace_lab::wait;

use super::bed::{AGENT, Bed, DEMO, READY_LIMIT};
use super::load::Outcome;
use super::witness::{self, Seen};
use super::{Figures, Options};
use hoptrace_exposition::Exposition;

/// Before and after, so that there is load around what happens.
const MARGIN: Duration = Duration::from_secs(3);
const WHOLE: &str = "hoptrace_request_duration_seconds_count";

/// Does something under load.
fn under_load<T>(
    bed: &Bed,
    options: &Options,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Outcome)> {
    let load = bed.load(f64::from(options.rate))?;
    std::thread::sleep(MARGIN);
    let done = work()?;
    std::thread::sleep(MARGIN);
    Ok((done, load.stop()?))
}

/// The same while the agents are looked at; at the end all requests must have been counted.
pub(super) fn traced<T>(
    bed: &Bed,
    options: &Options,
    figures: &mut Figures,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Outcome, Seen)> {
    let ((done, outcome), seen) = witness::watch(bed, || under_load(bed, options, work))?;
    figures.say(seen.judge()?);
    if !seen.unnamed.is_empty() {
        figures.say(format!("without a name for a time: {:?}", seen.unnamed));
    }
    Ok((done, outcome, seen))
}

pub(super) fn nothing_failed(outcome: &Outcome, figures: &mut Figures) -> Result<()> {
    figures.say(format!(
        "{} requests, {} failed",
        outcome.succeeded + outcome.failed,
        outcome.failed
    ));
    ensure!(
        outcome.failed == 0,
        "{} requests failed: {:?}",
        outcome.failed,
        outcome.failures
    );
    Ok(())
}

/// Pods that end take requests with them, agent or not: the same is done without it first, and no
/// more may fail with it. What happens to fail differs from time to time, hence the margin.
fn no_more_failed(without: &Outcome, with: &Outcome, figures: &mut Figures) -> Result<()> {
    let told = |outcome: &Outcome| {
        format!(
            "{} of {}",
            outcome.failed,
            outcome.succeeded + outcome.failed
        )
    };
    figures.say(format!(
        "requests that failed: {} without the agent, {} with it",
        told(without),
        told(with)
    ));
    let allowed = without.failed + (without.failed / 2).max(10);
    ensure!(
        with.failed <= allowed,
        "{} requests failed, {} without the agent: {:?}",
        with.failed,
        without.failed,
        with.failures
    );
    Ok(())
}

fn counted(metrics: &Exposition) -> f64 {
    metrics.sum_where(
        WHOLE,
        &[
            ("source_workload", "load"),
            ("destination_workload", "capitol-client"),
            ("reporter", "source"),
        ],
    )
}

/// # Errors
/// As the module says.
pub(super) fn pods(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    let roll = || {
        for _ in 0..options.restarts {
            bed.restart(
                DEMO,
                &["deployment/capitol-info", "deployment/capitol-client"],
            )?;
        }
        Ok(())
    };
    bed.uninstall()?;
    let ((), without) = under_load(bed, options, roll)?;
    let agent = bed.ensure_agent()?;
    let before = agent.settled()?;
    let started = Instant::now();
    let ((), with, seen) = traced(bed, options, figures, roll)?;
    one_life(&seen)?;
    let given = bed.history.handed_over(started).len();
    figures.say(format!(
        "both services were restarted {} times; {given} addresses were given to more than one workload",
        options.restarts,
    ));
    no_more_failed(&without, &with, figures)?;
    let seen = counted(&agent.settled()?) - counted(&before);
    let (least, most) = (with.succeeded as f64, (with.succeeded + with.failed) as f64);
    figures.say(format!(
        "hoptrace counted {seen} requests of the load; {least} were answered, {most} sent"
    ));
    ensure!(
        least <= seen && seen <= most,
        "hoptrace counted {seen} requests, and it were {least} to {most}"
    );
    // There are 13: every restart takes two, in turn.
    ensure!(
        given > 0 || options.restarts < 10,
        "no address was given to another workload: this has shown nothing about them"
    );
    Ok(())
}

/// # Errors
/// As the module says.
pub(super) fn agent(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    bed.ensure_agent()?;
    let ((), outcome, seen) = traced(bed, options, figures, || {
        for _ in 0..options.agent_restarts() {
            bed.restart(AGENT, &["daemonset/hoptrace"])?;
            // It has a life before the next one.
            bed.agent()?.metrics()?;
            std::thread::sleep(MARGIN);
        }
        Ok(())
    })?;
    let lives = options.agent_restarts() as usize + 1;
    ensure!(
        seen.lives == lives,
        "the agent had {} lives, and should have had {lives}",
        seen.lives
    );
    nothing_failed(&outcome, figures)
}

pub(super) fn one_life(seen: &Seen) -> Result<()> {
    ensure!(
        seen.lives == 1,
        "the agent had {} lives: it was restarted",
        seen.lives
    );
    Ok(())
}

/// # Errors
/// As the module says.
pub(super) fn runtime(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    bed.ensure_agent()?;
    let ((), outcome, seen) = traced(bed, options, figures, || {
        bed.cluster.stop(Component::Containerd)?;
        std::thread::sleep(MARGIN);
        bed.cluster.start(Component::Containerd)?;
        bed.cluster.wait_runtime()?;
        bed.cluster.wait_node(READY_LIMIT)
    })?;
    one_life(&seen)?;
    seen.all_named()?;
    nothing_failed(&outcome, figures)?;
    new_pods(bed, figures)
}

/// Pods that come afterwards are named as those before.
pub(super) fn new_pods(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let ((), seen) = witness::watch(bed, || {
        bed.restart(DEMO, &["deployment/capitol-info"])?;
        // Up to half a minute after the API is back, kube-proxy asks it again.
        wait::until("requests reach the new pod", READY_LIMIT, || {
            Ok((bed.requests(10)?.failed == 0).then_some(()))
        })?;
        let outcome = bed.requests(200)?;
        nothing_failed(&outcome, figures)
    })?;
    figures.say(seen.judge()?);
    Ok(())
}

/// # Errors
/// As the module says.
pub(super) fn drain(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    // The load and the agent stay: there is no other node to go to.
    let drain = || {
        bed.kubectl.run_for(
            &[
                "drain",
                NODE_NAME,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--pod-selector=app in (capitol-client, capitol-info)",
            ],
            READY_LIMIT,
        )?;
        bed.kubectl.run(&["uncordon", NODE_NAME])?;
        bed.wait_demo()
    };
    bed.uninstall()?;
    let ((), without) = under_load(bed, options, drain)?;
    bed.ensure_agent()?;
    let ((), with, seen) = traced(bed, options, figures, drain)?;
    one_life(&seen)?;
    no_more_failed(&without, &with, figures)?;
    let outcome = bed.requests(200)?;
    nothing_failed(&outcome, figures)
}
