//! Artificial work, so that a test knows where the time of a request goes.
//!
//! `?delay_ms=20` or the header `x-delay-ms: 20` lets the request sleep, `?burn_ms=20` or
//! `x-burn-ms: 20` spends processor time; the query wins over the header, and both kinds add up.

use std::hint;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rustix::time::{ClockId, clock_gettime};

use super::{ApiError, query};

/// The longest delay of each kind, milliseconds.
pub const LONGEST_MS: u32 = 10_000;

/// An extractor that takes its time: the handler runs when the delay is over.
pub struct Delayed;

impl<S: Sync> FromRequestParts<S> for Delayed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let sleep = milliseconds(parts, "delay_ms", "x-delay-ms")?;
        let burn = milliseconds(parts, "burn_ms", "x-burn-ms")?;
        if !sleep.is_zero() {
            // Tokio's timer wakes on the next millisecond: the sleep is never shorter than
            // asked, and up to about a millisecond longer.
            tokio::time::sleep(sleep).await;
        }
        if !burn.is_zero() {
            // On the worker on purpose: a handler that computes keeps its worker from serving
            // other connections, which is just what the tracer should be able to show.
            burn_processor(burn);
        }
        Ok(Self)
    }
}

fn milliseconds(parts: &Parts, key: &str, header: &str) -> Result<Duration, ApiError> {
    let asked = match query::number(parts.uri.query(), key)? {
        Some(asked) => asked,
        None => match parts.headers.get(header) {
            Some(value) => query::parse(header, value.to_str().unwrap_or_default())?,
            None => return Ok(Duration::ZERO),
        },
    };
    if asked > LONGEST_MS {
        return Err(ApiError::BadRequest(format!(
            "{key} has to be at most {LONGEST_MS}"
        )));
    }
    Ok(Duration::from_millis(asked.into()))
}

/// Computes until this thread has used `time` of a processor. Time stolen by other threads does
/// not count, so on a busy machine the wall clock shows more.
fn burn_processor(time: Duration) {
    let end = thread_processor_time() + time;
    while thread_processor_time() < end {
        // The clock is a system call of its own: a little work between two looks keeps most of
        // the time in user space, as in a real handler.
        for _ in 0..2_000 {
            hint::spin_loop();
        }
    }
}

fn thread_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_takes_processor_time() {
        let before = thread_processor_time();
        burn_processor(Duration::from_millis(5));
        assert!(thread_processor_time() - before >= Duration::from_millis(5));
    }
}
