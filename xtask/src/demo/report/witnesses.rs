//! What others say of the same calls: Envoy's access log, and the load generator.

use super::super::figures::{NONE, count, mean, percent};
use super::super::model::{Experiment, Findings, Pair, Run};
use super::super::table::Table;
use super::totals::us;
use super::{heading, sidecars};
use hoptrace_exposition::Hop;

/// Envoy's own figure beside ours, sidecar by sidecar.
pub(super) fn envoy(experiment: &Experiment) -> String {
    let mut table = Table::new(
        1,
        [
            "sidecar",
            "requests",
            "Envoy's log",
            "hoptrace",
            "of it queue",
            "processing",
            "Envoy sees",
        ],
    );
    let (mut inside, mut queued, mut admitted) = (0.0, 0.0, 0.0);
    for log in &experiment.envoy {
        let pair = pair_of(experiment, log.pod, log.hop);
        let ours = pair.hop_us(log.hop);
        let waiting = pair.queue_us(log.hop);
        inside += ours;
        queued += waiting;
        admitted += log.mean_us;
        table.row([
            format!("{} of {}", log.hop.as_str(), log.pod),
            count(log.requests),
            mean(log.mean_us),
            mean(ours),
            mean(waiting),
            mean(ours - waiting),
            percent(log.mean_us, ours),
        ]);
    }
    heading("The outside truth: the same requests in Envoy's own access log (means, both legs, µs)")
        + &table.to_string()
        + &format!(
            "Envoy admits {} of {} µs a call: its clock starts once it has read, and stops before the \
             bytes leave. It\ncannot see how long they queued ({} µs), nor the rest of its event \
             loop's turn: reading and decrypting\nbefore, encrypting and writing after, other \
             connections in between.\n",
            mean(admitted),
            mean(inside),
            mean(queued)
        )
}

/// A pod's inbound sidecar serves requests to it, its outbound one requests from it.
fn pair_of<'a>(experiment: &'a Experiment, pod: &str, hop: Hop) -> &'a Pair {
    let Experiment { outer, inner, .. } = experiment;
    if pod == inner.destination || hop == Hop::SidecarOutbound {
        inner
    } else {
        outer
    }
}

/// Every run as the load generator saw it, with ours under each method.
pub(super) fn load(findings: &Findings) -> String {
    let both = [&findings.without, &findings.with];
    let figures = ["calls/s", "mean", "p50", "p99"];
    let mut table = Table::new(1, ["run"].into_iter().chain(figures).chain(figures));
    table.spans([(1, ""), (4, "no sidecars"), (4, sidecars(&findings.with))]);
    for method in ["GET", "POST"] {
        for number in 1..=findings.runs {
            let cells = both.iter().flat_map(|experiment| {
                let mut runs = experiment.load.iter();
                let run = runs.find(|run| run.method == method && run.number == number);
                run.map_or([NONE; 4].map(str::to_owned), cells)
            });
            table.row([format!("{method} {number}")].into_iter().chain(cells));
        }
        let ours = both.iter().flat_map(|experiment| {
            let pair = &experiment.outer;
            let total = if method == "GET" {
                &pair.get
            } else {
                &pair.post
            };
            let [p50, p99] = [total.spread.p50_us, total.spread.p99_us].map(us);
            [String::new(), mean(total.mean_us), p50, p99]
        });
        table.row([format!("{method}, hoptrace")].into_iter().chain(ours));
    }
    heading("The load generator's own latency (µs)")
        + &table.to_string()
        + "Its clock runs until it has read the last byte, so its own wait for a CPU is in it; \
           hoptrace's stops when\nthe first byte arrives at its socket.\n"
}

fn cells(run: &Run) -> [String; 4] {
    let [p50, p99] = [run.p50_us, run.p99_us].map(|us| count(us.round() as u64));
    let per_second = count(run.per_second.round() as u64);
    [per_second, mean(run.mean_us), p50, p99]
}
