//! The books of a run.

use hdrhistogram::{CreationError, Histogram};

use super::failure::Failure;
use super::load::{Latency, LoadReport};
use super::run::Times;

/// Different failures that are put into words.
const FAILURES: usize = 8;

/// The longest time told apart, nanoseconds: a run, its drain and the last answer.
const LONGEST: u64 = 700_000_000_000;

/// Counts and times of a run.
pub(super) struct Tally {
    succeeded: u64,
    failed: u64,
    failures: Vec<String>,
    reconnects: u64,
    latency: Histogram<u64>,
    service: Histogram<u64>,
    first: Option<u64>,
    last: u64,
}

impl Tally {
    /// Empty books. Times are kept with three digits in nanoseconds: some 250 kB a histogram,
    /// allocated here so that nothing grows during the run.
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            succeeded: 0,
            failed: 0,
            failures: Vec::new(),
            reconnects: 0,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)?,
            service: Histogram::new_with_bounds(1, LONGEST, 3)?,
            first: None,
            last: 0,
        })
    }

    /// A connection took up a request.
    pub(super) fn sent(&mut self, now: u64) {
        self.first.get_or_insert(now);
    }

    /// A good answer came at `now` for a request that was planned and taken up before.
    pub(super) fn success(&mut self, planned: u64, taken: u64, now: u64) {
        self.succeeded += 1;
        self.latency.saturating_record(now.saturating_sub(planned));
        self.service.saturating_record(now.saturating_sub(taken));
        self.last = now;
    }

    /// This many requests failed, all for the same reason.
    pub(super) fn failure(&mut self, count: u64, failure: &Failure, now: u64) {
        self.failed += count;
        self.last = now;
        if self.failures.len() < FAILURES {
            let words = failure.to_string();
            if !self.failures.contains(&words) {
                self.failures.push(words);
            }
        }
    }

    /// A connection was opened again.
    pub(super) fn reconnect(&mut self) {
        self.reconnects += 1;
    }

    /// The books as a report, and each latency; the caller knows the processor time.
    pub(super) fn report(self) -> (LoadReport, Times) {
        let elapsed = self.last.saturating_sub(self.first.unwrap_or(self.last));
        let report = LoadReport {
            succeeded: self.succeeded,
            failed: self.failed,
            failures: self.failures,
            reconnects: self.reconnects,
            elapsed_seconds: elapsed as f64 / 1e9,
            latency: summary(&self.latency),
            service: summary(&self.service),
            cpu_seconds: 0.0,
        };
        (report, Times(self.latency))
    }
}

pub(super) fn summary(times: &Histogram<u64>) -> Latency {
    Latency {
        mean_ns: times.mean(),
        p50_ns: times.value_at_quantile(0.5),
        p90_ns: times.value_at_quantile(0.9),
        p99_ns: times.value_at_quantile(0.99),
        p999_ns: times.value_at_quantile(0.999),
        max_ns: times.max(),
    }
}
