//! Every question the demonstration asks Prometheus.
//!
//! Counts have to be exact, so nothing is extrapolated: no `rate()`, no `increase()`, but counters
//! as they stood at a moment (`@`), less what they were at another. What is made of histograms is
//! `hoptrace_report`'s: Prometheus is asked for their series.

const REQUESTS: &str = "hoptrace_request_duration_seconds";
const PENDING: &str = "hoptrace_exchanges_pending";
const BPF_SECONDS: &str = "hoptrace_bpf_run_seconds_total";
const BPF_RUNS: &str = "hoptrace_bpf_runs_total";
const RSS: &str = "process_resident_memory_bytes";

/// A moment on Prometheus' clock, seconds since 1970.
pub(super) const NOW: &str = "time()";

/// The moments a figure lies between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: f64,
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

    /// Every series of ours, as it stood at a moment.
    pub(super) fn everything(&self, at: f64) -> String {
        format!(
            "{{__name__=~\"hoptrace_.+\", instance=\"{}\"}} @ {at:.3}",
            self.0
        )
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
        format!(
            "sum({REQUESTS}_count{{reporter=\"source\", {}}})",
            self.labels()
        )
    }

    fn labels(&self) -> String {
        format!(
            "instance=\"{}\", source_workload=\"{}\", destination_workload=\"{}\"",
            self.agent.0, self.source, self.destination
        )
    }
}

/// What a counter grew by in the window, summed by labels.
fn difference(selector: &str, by: &str, window: Window) -> String {
    let at = |moment: f64| format!("sum by ({by}) ({selector} @ {moment:.3})");
    format!("({} - {})", at(window.to), at(window.from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tracer-user/tests/golden/metrics.txt");

    #[test]
    fn every_metric_asked_for_is_exported() {
        for name in [REQUESTS, PENDING, BPF_SECONDS, BPF_RUNS] {
            assert!(GOLDEN.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn figures_are_differences_of_counters() {
        let agent = Agent("127.0.0.1:1".to_owned());
        let window = Window { from: 1.0, to: 2.5 };
        assert_eq!(
            agent.bpf_runs(window),
            "(sum by (program) (hoptrace_bpf_runs_total{instance=\"127.0.0.1:1\"} @ 2.500) - \
             sum by (program) (hoptrace_bpf_runs_total{instance=\"127.0.0.1:1\"} @ 1.000))"
        );
        assert_eq!(
            agent.everything(2.0),
            "{__name__=~\"hoptrace_.+\", instance=\"127.0.0.1:1\"} @ 2.000"
        );
    }
}
