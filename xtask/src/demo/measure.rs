//! From Prometheus' answers to figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoptrace_lab::{Prometheus, Sample, signals};

use super::model::{Cost, Coverage, HopPart, Pair, Program, Total};
use super::promql::{self, Agent, Series, Window};

/// The agent holds exchanges for a moment, Prometheus scrapes every second.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(100);

/// Moments of an experiment on Prometheus' clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// The agent was scraped, and had seen no request.
    pub(super) start: f64,
    /// All of GET was counted, nothing of POST sent.
    pub(super) between: f64,
    /// All was counted.
    pub(super) end: f64,
}

/// The time on Prometheus' clock.
pub(super) fn now(prometheus: &Prometheus) -> Result<f64> {
    number(prometheus, promql::NOW)
}

/// Waits until as many requests of each pair are counted and no exchange is pending, or for as
/// long as that may take; returns the time either way: who checks the counts says what is missing.
pub(super) fn settle(
    prometheus: &Prometheus,
    pairs: [&promql::Pair; 2],
    requests: u64,
) -> Result<f64> {
    let started = Instant::now();
    loop {
        signals::check()?;
        let mut settled = true;
        for pair in pairs {
            settled &= number(prometheus, &pair.counted())? >= requests as f64;
            settled &= number(prometheus, &pair.agent.pending())? == 0.0;
        }
        if settled || started.elapsed() > SETTLE_LIMIT {
            return now(prometheus);
        }
        std::thread::sleep(STEP);
    }
}

pub(super) fn pair(prometheus: &Prometheus, pair: &promql::Pair, at: Moments) -> Result<Pair> {
    let total = |from, to| total(prometheus, pair, Window { from, to });
    let all = total(None, at.end)?;
    Ok(Pair {
        source: pair.source,
        destination: pair.destination,
        get: total(None, at.between)?,
        post: total(Some(at.between), at.end)?,
        hops: hops(prometheus, pair, at.end, all.requests)?,
        all,
    })
}

fn total(prometheus: &Prometheus, pair: &promql::Pair, window: Window) -> Result<Total> {
    let quantile = |q| us(number(prometheus, &pair.requests_quantile(q, window)));
    let requests = number(prometheus, &pair.requests(Series::Count, window))?;
    let sum = us(number(prometheus, &pair.requests(Series::Sum, window)))?;
    Ok(Total {
        requests: requests.round() as u64,
        mean_us: sum / requests,
        p50_us: quantile(0.5)?,
        p90_us: quantile(0.9)?,
        p99_us: quantile(0.99)?,
    })
}

fn hops(
    prometheus: &Prometheus,
    pair: &promql::Pair,
    at: f64,
    requests: u64,
) -> Result<Vec<HopPart>> {
    let key = |(labels, value): Sample| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        ((label("hop"), label("leg"), label("part")), value)
    };
    let ask = |promql: String| -> Result<BTreeMap<_, f64>> {
        Ok(prometheus.query(&promql)?.into_iter().map(key).collect())
    };
    let sums = ask(pair.hops(Series::Sum, at))?;
    let counts = ask(pair.hops(Series::Count, at))?;
    let medians = ask(pair.hops_quantile(0.5, at))?;
    let slowest = ask(pair.hops_quantile(0.99, at))?;
    let parts = sums.into_iter().map(|(key, seconds)| {
        let of = |figures: &BTreeMap<_, f64>| figures.get(&key).copied().unwrap_or(f64::NAN);
        HopPart {
            count: of(&counts).round() as u64,
            mean_us: seconds * 1e6 / requests as f64,
            p50_us: of(&medians) * 1e6,
            p99_us: of(&slowest) * 1e6,
            hop: key.0.clone(),
            leg: key.1.clone(),
            part: key.2.clone(),
        }
    });
    Ok(parts.filter(|part| part.count > 0).collect())
}

pub(super) fn coverage(prometheus: &Prometheus, agent: &Agent, at: f64) -> Result<Coverage> {
    let label = |labels: &BTreeMap<String, String>, name: &str| {
        labels.get(name).cloned().unwrap_or_default()
    };
    let exchanges = prometheus.query(&agent.exchanges(at))?.into_iter();
    let lost = prometheus.query(&agent.lost(at))?.into_iter();
    let mut exchanges: Vec<_> = exchanges
        .filter(|(_, value)| *value > 0.0)
        .map(|(labels, value)| {
            (
                label(&labels, "result"),
                label(&labels, "method"),
                value as u64,
            )
        })
        .collect();
    exchanges.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    Ok(Coverage {
        exchanges,
        lost: lost
            .filter(|(_, value)| *value > 0.0)
            .map(|(labels, value)| (label(&labels, "reason"), value as u64))
            .collect(),
        pending: number(prometheus, &agent.pending())? as u64,
    })
}

pub(super) fn cost(
    prometheus: &Prometheus,
    agent: &Agent,
    at: Moments,
    cpu_seconds: f64,
    load_seconds: f64,
) -> Result<Cost> {
    let window = Window {
        from: Some(at.start),
        to: at.end,
    };
    let by_program = |promql: String| -> Result<BTreeMap<String, f64>> {
        let samples = prometheus.query(&promql)?.into_iter();
        let named = samples
            .map(|(labels, value)| (labels.get("program").cloned().unwrap_or_default(), value));
        Ok(named.collect())
    };
    let seconds = by_program(agent.bpf_seconds(window))?;
    let runs = by_program(agent.bpf_runs(window))?;
    Ok(Cost {
        cpu_seconds,
        load_seconds,
        rss_bytes: number(prometheus, &agent.rss(at.end))?,
        programs: runs
            .into_iter()
            .map(|(name, runs)| Program {
                seconds: seconds.get(&name).copied().unwrap_or(f64::NAN),
                runs: runs as u64,
                name,
            })
            .collect(),
    })
}

/// The only sample, 0 when there is none: what never happened has no series.
fn number(prometheus: &Prometheus, promql: &str) -> Result<f64> {
    let samples = prometheus.query(promql).context("asking Prometheus")?;
    Ok(samples.first().map_or(0.0, |(_, value)| *value))
}

fn us(seconds: Result<f64>) -> Result<f64> {
    Ok(seconds? * 1e6)
}
