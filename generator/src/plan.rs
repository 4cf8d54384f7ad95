//! A load spec, checked.

use std::net::IpAddr;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use super::pace;
use super::request::{RequestText, is};
use super::target::{Target, TargetError};
use crate::load::{LoadSpec, Schedule};

/// The greatest number of connections.
pub const MOST_CONNECTIONS: usize = 1_024;

/// The longest run, seconds.
pub const LONGEST_SECONDS: f64 = 600.0;

/// The greatest number of requests in a run.
const MOST_REQUESTS: u64 = 100_000_000;

/// What the request text may take over all connections, bytes; each keeps a copy.
const MOST_MEMORY: usize = 64 * 1024 * 1024;

/// How long an answer may take: longer than any delay a test asks the service for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a load spec is refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The URL leads out of the lab, or nowhere.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No connection, or too many.
    #[error("connections {0} is not from 1 to {MOST_CONNECTIONS}")]
    Connections(usize),
    /// A length of time that is none or too long.
    #[error("{0} s is not above 0 and at most {LONGEST_SECONDS} s")]
    Seconds(f64),
    /// A rate that is none.
    #[error("{0} requests a second is no rate above 0")]
    Rate(f64),
    /// No request, or too many.
    #[error("{0} requests is not from 1 to {MOST_REQUESTS}")]
    Requests(u64),
    /// Something that HTTP does not call a method, or one that changes the protocol.
    #[error("method {0:?} is not one to load with")]
    Method(String),
    /// Not a header.
    #[error("header {0:?} is malformed")]
    Header(String),
    /// A header that the generator writes itself.
    #[error("header {0:?} is written by the generator")]
    OwnHeader(String),
    /// Too much to keep in memory.
    #[error("{0} connections with a request of {1} bytes each take more than 64 MiB")]
    Memory(usize, usize),
}

/// A run that may be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where to connect and what to ask.
    pub(super) target: Target,
    /// The request.
    pub(super) request: RequestText,
    /// Connections.
    pub(super) connections: usize,
    /// When requests leave.
    pub(super) schedule: Schedule,
    /// Whether a request that may have reached the server can be sent again (RFC 9110, 9.2.2).
    pub(super) idempotent: bool,
    /// Whether answers have a head only.
    pub(super) head_only: bool,
    /// How long an answer may take before its connection is given up.
    pub(super) patience: Duration,
}

impl Plan {
    /// Checks a spec against the bounds of the generator.
    pub(super) fn check(spec: &LoadSpec, allowed: &[IpAddr]) -> Result<Self, SpecError> {
        let target = Target::parse(&spec.url, allowed)?;
        if !(1..=MOST_CONNECTIONS).contains(&spec.connections) {
            return Err(SpecError::Connections(spec.connections));
        }
        check_schedule(spec.schedule)?;
        let method = Method::from_bytes(spec.method.as_bytes())
            .ok()
            .filter(|method| method != Method::CONNECT)
            .ok_or_else(|| SpecError::Method(spec.method.clone()))?;
        for (name, value) in &spec.headers {
            check_header(name, value, spec.request_ids)?;
        }
        let request = RequestText::render(
            &target,
            method.as_str(),
            &spec.headers,
            &spec.body,
            spec.request_ids,
        );
        let size = request.bytes().len();
        if size.saturating_mul(spec.connections) > MOST_MEMORY {
            return Err(SpecError::Memory(spec.connections, size));
        }
        Ok(Self {
            target,
            request,
            connections: spec.connections,
            schedule: spec.schedule,
            idempotent: method.is_idempotent(),
            head_only: method == Method::HEAD,
            patience: PATIENCE,
        })
    }
}

fn check_schedule(schedule: Schedule) -> Result<(), SpecError> {
    let requests = match schedule {
        Schedule::Count(count) => count,
        Schedule::Seconds(seconds) => return check_seconds(seconds),
        Schedule::Rate {
            per_second,
            seconds,
        } => {
            check_seconds(seconds)?;
            // Written so that a rate that is not a number fails too.
            if !(per_second.is_finite() && per_second > 0.0) {
                return Err(SpecError::Rate(per_second));
            }
            pace::planned(per_second, seconds)
        }
    };
    if (1..=MOST_REQUESTS).contains(&requests) {
        Ok(())
    } else {
        Err(SpecError::Requests(requests))
    }
}

fn check_seconds(seconds: f64) -> Result<(), SpecError> {
    if seconds > 0.0 && seconds <= LONGEST_SECONDS {
        Ok(())
    } else {
        Err(SpecError::Seconds(seconds))
    }
}

fn check_header(name: &str, value: &str, request_ids: bool) -> Result<(), SpecError> {
    // A line break in a value would be a second header, or a second request.
    if HeaderName::try_from(name).is_err() || HeaderValue::from_str(value).is_err() {
        return Err(SpecError::Header(name.to_owned()));
    }
    let own = ["content-length", "transfer-encoding", "upgrade", "expect"];
    if own.iter().any(|own| is(name, own)) || request_ids && is(name, "x-request-id") {
        return Err(SpecError::OwnHeader(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut LoadSpec)) -> LoadSpec {
        let mut spec = LoadSpec {
            url: "http://127.0.0.1:1/".to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            connections: 1,
            schedule: Schedule::Count(1),
            request_ids: true,
        };
        change(&mut spec);
        spec
    }

    fn check(change: impl FnOnce(&mut LoadSpec), error: &str) {
        let refused = Plan::check(&spec(change), &[]).unwrap_err().to_string();
        assert!(refused.contains(error), "{refused}");
    }

    fn rate(per_second: f64, seconds: f64) -> Schedule {
        Schedule::Rate {
            per_second,
            seconds,
        }
    }

    #[test]
    fn bounds_are_kept() {
        Plan::check(&spec(|_| ()), &[]).unwrap();
        Plan::check(&spec(|spec| spec.connections = 1_024), &[]).unwrap();
        Plan::check(&spec(|spec| spec.schedule = Schedule::Seconds(600.0)), &[]).unwrap();
        check(|spec| spec.url = "http://1.1.1.1/".to_owned(), "1.1.1.1");
        check(|spec| spec.connections = 0, "connections 0");
        check(|spec| spec.connections = 1_025, "connections 1025");
        check(|spec| spec.schedule = Schedule::Count(0), "0 requests");
        check(|spec| spec.schedule = Schedule::Seconds(601.0), "601 s");
        check(|spec| spec.schedule = Schedule::Seconds(f64::NAN), "NaN s");
        check(|spec| spec.schedule = rate(100.0, 600.1), "600.1 s");
        check(|spec| spec.schedule = rate(0.0, 1.0), "0 requests a second");
        check(|spec| spec.schedule = rate(f64::INFINITY, 1.0), "inf");
        check(|spec| spec.schedule = rate(1e9, 1.0), "1000000000 requests");
        check(|spec| spec.method = "CONNECT".to_owned(), "CONNECT");
        check(|spec| spec.method = "A B".to_owned(), "A B");
        check(
            |spec| {
                spec.connections = 1_024;
                spec.body = "x".repeat(70_000);
            },
            "64 MiB",
        );
    }

    #[test]
    fn headers_are_checked() {
        let header = |name: &str, value: &str| {
            let header = (name.to_owned(), value.to_owned());
            move |spec: &mut LoadSpec| spec.headers.push(header)
        };
        Plan::check(&spec(header("host", "info")), &[]).unwrap();
        check(header("a b", "c"), "malformed");
        check(header("a", "b\r\nc: d"), "malformed");
        check(header("Content-Length", "3"), "written by");
        check(header("X-Request-Id", "3"), "written by");
    }
}
