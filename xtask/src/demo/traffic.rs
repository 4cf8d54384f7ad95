//! The article's load: runs of so many calls of GET, then of POST, in batches, from outside of the
//! mesh to the gateway.

use anyhow::{Result, ensure};
use hoptrace_lab::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_lab::{Lab, Pod, Target};

use super::model::Run;

/// What one kind of call is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    body: &'static str,
}

/// The list of capitals.
pub(super) const GET: Call = Call {
    method: "GET",
    body: "",
};
/// One more capital.
pub(super) const POST: Call = Call {
    method: "POST",
    body: r#"{"country": "France", "city": "Paris"}"#,
};

/// Calls of each kind before anything is measured: connections between proxies are made, caches
/// filled.
const WARM_UP: u64 = 300;

/// How much is called, and how many calls are in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    pub(super) calls: u64,
    pub(super) runs: u64,
    pub(super) connections: usize,
}

impl Volume {
    /// Calls of one kind.
    pub(super) fn of_each(self) -> u64 {
        self.calls * self.runs
    }
}

/// Calls that count for nothing.
///
/// # Errors
/// One of them failed.
pub(super) fn warm_up(lab: &Lab, volume: Volume) -> Result<()> {
    for call in [GET, POST] {
        send(lab, call, volume.connections, Schedule::Count(WARM_UP))?;
    }
    Ok(())
}

/// Every run of one kind.
///
/// # Errors
/// A call failed.
pub(super) fn runs(lab: &Lab, call: Call, volume: Volume) -> Result<(Vec<Run>, f64)> {
    let mut runs = Vec::new();
    let mut seconds = 0.0;
    for number in 1..=volume.runs {
        let report = send(lab, call, volume.connections, Schedule::Count(volume.calls))?;
        seconds += report.elapsed_seconds;
        let us = |ns: u64| ns as f64 / 1e3;
        runs.push(Run {
            method: call.method,
            number,
            per_second: report.succeeded as f64 / report.elapsed_seconds,
            mean_us: report.latency.mean_ns / 1e3,
            p50_us: us(report.latency.p50_ns),
            p90_us: us(report.latency.p90_ns),
            p99_us: us(report.latency.p99_ns),
        });
    }
    Ok((runs, seconds))
}

/// Sends calls and waits for their answers.
///
/// # Errors
/// One of them failed, or a signal came.
pub(super) fn send(
    lab: &Lab,
    call: Call,
    connections: usize,
    schedule: Schedule,
) -> Result<LoadReport> {
    let headers = if call.body.is_empty() {
        Vec::new()
    } else {
        vec![("content-type".to_owned(), "application/json".to_owned())]
    };
    let spec = LoadSpec {
        url: lab.url(Pod::Load, Target::Gateway) + "capitols",
        method: call.method.to_owned(),
        headers,
        body: call.body.to_owned(),
        connections,
        schedule,
        request_ids: false,
    };
    let report = lab.load(Pod::Load, &spec)?;
    ensure!(
        report.failed == 0,
        "{} of {} {} calls failed in the lab of mode {}: {}",
        report.failed,
        report.failed + report.succeeded,
        call.method,
        lab.state().mode,
        report.failures.join("; ")
    );
    Ok(report)
}
