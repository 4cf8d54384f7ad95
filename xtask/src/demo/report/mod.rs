//! Findings as a person reads them: tables of at most 110 columns, and sentences.

use super::figures;
use super::model::{Experiment, Findings};

mod added;
mod cost;
mod coverage;
mod hops;
mod totals;
mod witnesses;

#[cfg(test)]
mod tests;

/// Something to paste into Prometheus while the demonstration is kept running.
pub(super) const EXAMPLE_QUERY: &str =
    "sum by (destination_workload, hop) (rate(hoptrace_hop_duration_seconds_sum[30s]))";

const FOOTNOTES: &str = "\
Times are microseconds. Means are exact (sum over count). p50, p90 and p99 are interpolated inside
histogram buckets (1, 2, 5, 10 …), and `<10` is below the first one. Quantiles do not add up; means do.
queue: bytes wait in the socket until the process reads them. processing: from read to first write.";

/// Everything, the answer first.
pub(super) fn text(findings: &Findings) -> String {
    let sections = [
        opening(findings),
        totals::text(findings),
        added::text(findings),
        hops::text(findings, |experiment| &experiment.outer),
        hops::text(findings, |experiment| &experiment.inner),
        FOOTNOTES.to_owned() + "\n",
        witnesses::envoy(&findings.with),
        witnesses::load(findings),
        coverage::text(findings),
        cost::text(findings),
    ];
    sections.join("\n")
}

fn opening(findings: &Findings) -> String {
    let Findings {
        cpus,
        calls,
        runs,
        connections,
        ..
    } = findings;
    let batches = if *connections == 1 {
        "one after the other over one connection, so that little\nqueues.".to_owned()
    } else {
        format!(
            "in batches: each of {connections} connections sends the next call once the last\nis \
             answered, so the {cpus} CPUs of this machine are as busy as they can be, and bytes queue."
        )
    };
    format!(
        "load → capitol-client (NGINX, gateway) → capitol-info (REST, SQLite), {runs} × {calls} GET \
         and {runs} × {calls} POST.\n\
         Calls come from outside of the mesh, {batches} All figures\n\
         are what Prometheus answers, except where another witness is named.\n",
        calls = figures::count(*calls),
    )
}

/// How the experiment with sidecars is called.
fn sidecars(experiment: &Experiment) -> &'static str {
    match experiment.mode.as_str() {
        "mtls" => "sidecars, mTLS",
        "plain" => "sidecars, clear text",
        _ => "no sidecars",
    }
}

/// A heading with a line under it.
fn heading(text: &str) -> String {
    format!("{text}\n{}\n", "═".repeat(text.chars().count()))
}
