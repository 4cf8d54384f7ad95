//! The API server is away: names stay as they were last told, an agent that starts then measures
//! with what it finds by itself, and both recover alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoptrace_cluster::Component;
use hoptrace_lab::wait;
use rustix::process::Signal;

use super::bed::{AGENT, Agent, Bed, RELEASE};
use super::disturb::{new_pods, nothing_failed, one_life, traced};
use super::{Figures, Options};

/// How soon the agent must have noticed that the API is back.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// How soon the kubelet has started a container again, and it answers: the agent waits for the
/// first lists for 10 s at most.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// Resources that are watched with the chart's own values.
const SYNCED: f64 = 3.0;
const WHOLE: &str = "hoptrace_request_duration_seconds_count";

/// # Errors
/// As the module says.
pub(super) fn api(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    let agent = bed.ensure_agent()?;
    let away = || {
        bed.cluster.stop(Component::Apiserver)?;
        let gone = Instant::now();
        let told = wait::until("the agent says that the API is away", options.away, || {
            let ready = agent.get("/readyz")?;
            std::thread::sleep(Duration::from_millis(200));
            Ok((ready.code == 200 && ready.body.contains("degraded")).then_some(ready.body))
        })?;
        let noticed = gone.elapsed();
        ensure!(
            agent.metrics()?.sum_where("hoptrace_identity_synced", &[]) < SYNCED,
            "the API is away, and hoptrace_identity_synced says that all is up to date"
        );
        remain(gone, options.away)?;
        Ok((told, noticed, back(bed, &agent)?))
    };
    let ((told, noticed, recovered), outcome, seen) = traced(bed, options, figures, away)?;
    figures.say(format!(
        "away for {:.0} s: /readyz told so after {:.1} s ({}); recovered {:.1} s after the API",
        options.away.as_secs_f64(),
        noticed.as_secs_f64(),
        told.lines().last().unwrap_or_default(),
        recovered.as_secs_f64()
    ));
    one_life(&seen)?;
    seen.all_named()?;
    nothing_failed(&outcome, figures)?;
    new_pods(bed, figures)
}

/// # Errors
/// The agent does not start without the API, does not stay, or does not recover.
pub(super) fn start(bed: &Bed, options: &Options, figures: &mut Figures) -> Result<()> {
    let agent = bed.ensure_agent()?;
    let before = restarts(bed)?;
    let away = || {
        bed.cluster.stop(Component::Apiserver)?;
        let gone = Instant::now();
        let process = bed.process(&agent)?;
        process.signal(Signal::KILL);
        let killed = Instant::now();
        let told = wait::until(
            "the agent has started without the API, and says so",
            RESTART_LIMIT,
            || {
                std::thread::sleep(Duration::from_millis(100));
                // Nobody listens until it has started.
                let Ok(ready) = agent.get("/readyz") else {
                    return Ok(None);
                };
                let is_told = ready.code == 200 && ready.body.contains("degraded");
                Ok((is_told && !process.is_alive()).then_some(ready.body))
            },
        )?;
        let started = killed.elapsed();
        let first = agent.metrics()?;
        ensure!(
            first.sum_where("hoptrace_identity_synced", &[]) == 0.0,
            "nothing was ever told, and hoptrace_identity_synced says otherwise"
        );
        remain(gone, options.away)?;
        let last = agent.metrics()?;
        let counted = last.sum_where(WHOLE, &[]) - first.sum_where(WHOLE, &[]);
        let seconds = started.as_secs_f64();
        let born = |metrics: &hoptrace_exposition::Exposition| {
            metrics.sum_where("process_start_time_seconds", &[])
        };
        ensure!(
            born(&first) == born(&last),
            "the agent did not stay: it was started again"
        );
        ensure!(counted > 0.0, "without the API nothing was measured");
        Ok((told, seconds, counted, back(bed, &agent)?))
    };
    let ((told, seconds, counted, recovered), outcome, seen) = traced(bed, options, figures, away)?;
    figures.say(format!(
        "killed while the API was away: it answered again after {seconds:.1} s ({}), counted \
         {counted} requests without names of the API, and recovered {:.1} s after it came back",
        told.lines().last().unwrap_or_default(),
        recovered.as_secs_f64()
    ));
    ensure!(
        seen.lives == 2,
        "the agent had {} lives, and should have had 2",
        seen.lives
    );
    wait::until("the API tells of one restart", RECOVERY_LIMIT, || {
        Ok((restarts(bed)? == before + 1).then_some(()))
    })?;
    nothing_failed(&outcome, figures)?;
    new_pods(bed, figures)
}

/// Waits for the rest of the time that the API is away.
fn remain(gone: Instant, away: Duration) -> Result<()> {
    wait::until("the time is over", away * 2, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok((gone.elapsed() >= away).then_some(()))
    })
}

/// Starts the API server; returns how long after it the agent was as before.
fn back(bed: &Bed, agent: &Agent) -> Result<Duration> {
    bed.cluster.start(Component::Apiserver)?;
    bed.cluster.wait_api()?;
    let back = Instant::now();
    wait::until("the agent has recovered", RECOVERY_LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        let synced = agent.metrics()?.sum_where("hoptrace_identity_synced", &[]);
        let ready = agent.get("/readyz")?.body;
        Ok((synced == SYNCED && ready.trim() == "ok").then_some(()))
    })?;
    Ok(back.elapsed())
}

/// How often the agent's container was started again, as the API tells it.
fn restarts(bed: &Bed) -> Result<u64> {
    let pods = bed.history.pods(AGENT, RELEASE);
    let pod = pods.first().context("there is no pod of the agent")?;
    Ok(pod.restarts)
}
