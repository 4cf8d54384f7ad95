//! The agent's memory over the time of the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hoptrace_lab::AgentProcess;

use crate::usage;

const STEP: Duration = Duration::from_millis(500);
/// Every so many steps it is scraped, as Prometheus does.
const SCRAPE: usize = 20;
/// The last third may have so much more than the second: in a short run tables still fill.
const MOST_GROWTH_MIB: f64 = 2.0;

/// Resident memory at the end of each step, MiB.
pub(super) struct Watched {
    rss: Vec<f64>,
    peak: f64,
}

/// Looks until all is done.
///
/// # Errors
/// The agent has ended, or does not answer.
pub(super) fn watch(agent: &AgentProcess, done: &AtomicBool) -> Result<Watched> {
    let mut watched = Watched {
        rss: Vec::new(),
        peak: 0.0,
    };
    while !done.load(Ordering::Acquire) {
        thread::sleep(STEP);
        let (rss, peak) = usage::resident_mib(agent.pid()).context("watching the agent")?;
        watched.rss.push(rss);
        watched.peak = peak;
        if watched.rss.len().is_multiple_of(SCRAPE) {
            agent.metrics()?;
        }
    }
    Ok(watched)
}

impl Watched {
    /// Tells it, and what is wrong with it.
    pub(super) fn judge(&self) -> Option<String> {
        let [first, second, last] = thirds(&self.rss);
        let growth = last - second;
        println!(
            "\nmemory of the agent, mean of each third of the run: {first:.1}, {second:.1}, {last:.1} MiB \
             (at most {:.1})",
            self.peak
        );
        (growth > MOST_GROWTH_MIB)
            .then(|| format!("its memory grows: {growth:.1} MiB from the second third to the last"))
    }
}

fn thirds(values: &[f64]) -> [f64; 3] {
    let size = values.len() / 3;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let part = |at: usize| mean(values.get(at * size..(at + 1) * size).unwrap_or_default());
    [part(0), part(1), part(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_found() {
        let rss: Vec<_> = (0..30).map(f64::from).collect();
        let watched = |rss: Vec<f64>| Watched { peak: 0.0, rss };
        assert_eq!(thirds(&rss), [4.5, 14.5, 24.5]);
        assert!(watched(rss).judge().is_some());
        let mut flat = vec![10.0; 10];
        flat.extend([20.0; 20]);
        assert!(watched(flat).judge().is_none());
    }
}
