//! What the load generator is asked for and what it answers: JSON on its standard input and output.

use serde::{Deserialize, Serialize};

/// One run of load against one URL.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LoadSpec {
    /// `http://address:port/path`; requests go over HTTP/1.1 with keep-alive. In the path, `{1..50}`
    /// stands for a random number of each request, and `{x1..50}` for a random number of `x`; up to 4,096.
    pub url: String,
    /// `GET`, `POST` …
    pub method: String,
    /// Request headers, in order, beside `host`; a `host` given here replaces the address.
    pub headers: Vec<(String, String)>,
    /// Request body; empty for none.
    pub body: String,
    /// Connections; each has one request in flight at a time.
    pub connections: usize,
    /// When requests leave.
    pub schedule: Schedule,
    /// Sends a fresh `x-request-id` (a UUID) with every request.
    pub request_ids: bool,
}

/// When requests leave.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// As fast as answers come, this many in all.
    Count(u64),
    /// As fast as answers come, for this long.
    Seconds(f64),
    /// At a constant rate whatever the answers do. Latency counts from the planned moment, so a
    /// stall is charged to every request it delayed (no coordinated omission).
    Rate {
        /// Requests a second, over all connections.
        per_second: f64,
        /// For this long.
        seconds: f64,
    },
}

/// What became of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LoadReport {
    /// Requests with a 2xx answer.
    pub succeeded: u64,
    /// Requests with another answer, or none; together with `succeeded` all that were planned.
    pub failed: u64,
    /// The first few different failures, in words.
    pub failures: Vec<String>,
    /// First request to last answer.
    pub elapsed_seconds: f64,
    /// Connections opened again during the run, because the server closed them or because a
    /// request on them failed.
    #[serde(default)]
    pub reconnects: u64,
    /// Latency of the successful requests, from the planned moment to the end of the answer.
    pub latency: Latency,
    /// The same requests, from the moment a connection took them up: what the server did, without
    /// the wait for a free connection. Equal to `latency` unless the schedule is a rate.
    #[serde(default)]
    pub service: Latency,
    /// CPU time of the load generator itself, user and system.
    pub cpu_seconds: f64,
}

/// Latency figures, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// What 999 of 1,000 stay below.
    #[serde(default)]
    pub p999_ns: u64,
    /// Maximum.
    pub max_ns: u64,
}
