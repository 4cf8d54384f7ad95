//! Every question the demonstration asks Prometheus.
//!
//! Counts have to be exact, so nothing is extrapolated: no `rate()`, no `increase()`, but counters
//! as they stood at a moment (`@`), less what they were at another.

use std::fmt;

const REQUESTS: &str = "hoptrace_request_duration_seconds";
const HOPS: &str = "hoptrace_hop_duration_seconds";
const EXCHANGES: &str = "hoptrace_exchanges_total";
const PENDING: &str = "hoptrace_exchanges_pending";
const LOST: &str = "hoptrace_records_lost_total";
const BPF_SECONDS: &str = "hoptrace_bpf_run_seconds_total";
const BPF_RUNS: &str = "hoptrace_bpf_runs_total";
const RSS: &str = "process_resident_memory_bytes";

/// A moment on Prometheus' clock, seconds since 1970.
pub(super) const NOW: &str = "time()";

/// The moments a figure lies between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The agent saw no request before: histograms need not be subtracted from.
    pub(super) from: Option<f64>,
    pub(super) to: f64,
}

/// Which agent is asked, by its `instance` label.
#[derive(Clone, Debug)]
pub(super) struct Agent(pub(super) String);

/// Requests from one workload to another, as one agent saw them.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) agent: Agent,
    pub(super) source: &'static str,
    pub(super) destination: &'static str,
}

/// A series of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) enum Series {
    Sum,
    Count,
    Bucket,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Bucket => "bucket",
        })
    }
}

impl Agent {
    /// There is a scrape of the agent.
    pub(super) fn scraped(&self) -> String {
        self.gauge(RSS)
    }

    pub(super) fn rss(&self, at: f64) -> String {
        format!("{} @ {at:.3}", self.gauge(RSS))
    }

    pub(super) fn pending(&self) -> String {
        self.gauge(PENDING)
    }

    pub(super) fn exchanges(&self, at: f64) -> String {
        self.counter(EXCHANGES, "result, method", until(at))
    }

    pub(super) fn lost(&self, at: f64) -> String {
        self.counter(LOST, "reason", until(at))
    }

    pub(super) fn bpf_seconds(&self, window: Window) -> String {
        self.counter(BPF_SECONDS, "program", window)
    }

    pub(super) fn bpf_runs(&self, window: Window) -> String {
        self.counter(BPF_RUNS, "program", window)
    }

    fn gauge(&self, name: &str) -> String {
        format!("{name}{{instance=\"{}\"}}", self.0)
    }

    fn counter(&self, name: &str, by: &str, window: Window) -> String {
        difference(&self.gauge(name), by, window)
    }
}

impl Pair {
    /// Requests so far, as their client saw them.
    pub(super) fn counted(&self) -> String {
        format!("sum({})", self.total(Series::Count))
    }

    /// Requests, or the sum of their durations.
    pub(super) fn requests(&self, series: Series, window: Window) -> String {
        difference(&self.total(series), "", window)
    }

    pub(super) fn requests_quantile(&self, quantile: f64, window: Window) -> String {
        let buckets = difference(&self.total(Series::Bucket), "le", window);
        format!("histogram_quantile({quantile}, {buckets})")
    }

    /// The same for every part of every leg of every hop.
    pub(super) fn hops(&self, series: Series, at: f64) -> String {
        difference(&self.hop(series), "hop, leg, part", until(at))
    }

    pub(super) fn hops_quantile(&self, quantile: f64, at: f64) -> String {
        let buckets = difference(&self.hop(Series::Bucket), "le, hop, leg, part", until(at));
        format!("histogram_quantile({quantile}, {buckets})")
    }

    fn total(&self, series: Series) -> String {
        format!(
            "{REQUESTS}_{series}{{reporter=\"source\", {}}}",
            self.labels()
        )
    }

    fn hop(&self, series: Series) -> String {
        format!("{HOPS}_{series}{{{}}}", self.labels())
    }

    fn labels(&self) -> String {
        format!(
            "instance=\"{}\", source_workload=\"{}\", destination_workload=\"{}\"",
            self.agent.0, self.source, self.destination
        )
    }
}

fn until(to: f64) -> Window {
    Window { from: None, to }
}

/// What a counter grew by in the window, summed by labels.
fn difference(selector: &str, by: &str, window: Window) -> String {
    let at = |moment: f64| format!("sum by ({by}) ({selector} @ {moment:.3})");
    match window.from {
        Some(from) => format!("({} - {})", at(window.to), at(from)),
        None => at(window.to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tracer-user/tests/golden/metrics.txt");

    #[test]
    fn every_metric_asked_for_is_exported() {
        let names = [
            REQUESTS,
            HOPS,
            EXCHANGES,
            PENDING,
            LOST,
            BPF_SECONDS,
            BPF_RUNS,
        ];
        for name in names {
            assert!(GOLDEN.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn figures_are_differences_of_counters() {
        let agent = Agent("127.0.0.1:1".to_owned());
        let window = Window {
            from: Some(1.0),
            to: 2.5,
        };
        assert_eq!(
            agent.bpf_runs(window),
            "(sum by (program) (hoptrace_bpf_runs_total{instance=\"127.0.0.1:1\"} @ 2.500) - \
             sum by (program) (hoptrace_bpf_runs_total{instance=\"127.0.0.1:1\"} @ 1.000))"
        );
        let pair = Pair {
            agent,
            source: "a",
            destination: "b",
        };
        assert_eq!(
            pair.hops_quantile(0.99, 2.0),
            "histogram_quantile(0.99, sum by (le, hop, leg, part) \
             (hoptrace_hop_duration_seconds_bucket{instance=\"127.0.0.1:1\", \
             source_workload=\"a\", destination_workload=\"b\"} @ 2.000))"
        );
    }
}
