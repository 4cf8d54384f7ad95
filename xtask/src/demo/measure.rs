//! From Prometheus' answers to figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoptrace_exposition::{Coverage, Exposition, Series, Totals};
use hoptrace_lab::{Prometheus, Sample, signals};
use hoptrace_report::PairFigures;

use super::model::{Cost, Pair, Program};
use super::promql::{self, Agent, Window};

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

/// What Prometheus has of the agent's histograms, as differences between the moments. The arithmetic is that
/// of `hoptrace report`.
pub(super) struct Told {
    get: Totals,
    post: Totals,
    all: Totals,
    pub(super) coverage: Coverage,
}

impl Told {
    pub(super) fn ask(prometheus: &Prometheus, agent: &Agent, at: Moments) -> Result<Self> {
        let look = |moment| exposition(prometheus, &agent.everything(moment));
        let last = look(at.end)?;
        let [start, between, end] = [&look(at.start)?, &look(at.between)?, &last].map(Totals::of);
        Ok(Self {
            get: between.since(&start),
            post: end.since(&between),
            all: end.since(&start),
            coverage: Coverage::of(&last),
        })
    }

    /// # Errors
    /// Nothing was counted of a kind.
    pub(super) fn pair(&self, pair: &promql::Pair) -> Result<Pair> {
        let of = |totals: &Totals| -> Result<PairFigures> {
            let is = |name: &str, workload: &str| name.split('.').next() == Some(workload);
            let mut pairs = hoptrace_report::pairs(totals, &[]).into_iter();
            let found = pairs.find(|found| {
                is(&found.source, pair.source) && is(&found.destination, pair.destination)
            });
            found.with_context(|| {
                format!(
                    "no request from {} to {} was counted",
                    pair.source, pair.destination
                )
            })
        };
        Ok(Pair {
            source: pair.source,
            destination: pair.destination,
            get: of(&self.get)?,
            post: of(&self.post)?,
            all: of(&self.all)?,
        })
    }
}

/// Exchanges that wait for their neighbours now.
pub(super) fn pending(prometheus: &Prometheus, agent: &Agent) -> Result<u64> {
    Ok(number(prometheus, &agent.pending())? as u64)
}

/// The answer as the agent exposed it.
fn exposition(prometheus: &Prometheus, promql: &str) -> Result<Exposition> {
    let series = |(mut labels, value): Sample| {
        let name = labels.remove("__name__").unwrap_or_default();
        Series {
            name,
            labels,
            value,
        }
    };
    let samples = prometheus.query(promql)?.into_iter();
    Ok(samples.map(series).collect())
}

pub(super) fn cost(
    prometheus: &Prometheus,
    agent: &Agent,
    at: Moments,
    cpu_seconds: f64,
    load_seconds: f64,
) -> Result<Cost> {
    let window = Window {
        from: at.start,
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
