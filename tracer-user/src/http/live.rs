//! `/requests`: single requests as they come, a line of JSON each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};

use crate::metrics::figures::Pairs;
use crate::tap::json::{Clocks, Line, Told};
use crate::tap::{Filter, Listener, Request, TooMany};
use crate::tracer::monotonic_now;

/// Media type of lines of JSON.
pub const LINES_CONTENT_TYPE: &str = "application/x-ndjson";
/// An empty line shows a reader that the agent is there, and the agent that the reader is.
pub const BEAT: Duration = Duration::from_secs(10);
/// A stream ends by itself before the connection is cut; who wants more asks again.
const LONGEST: Duration = Duration::from_secs(540);
/// Requests made into text at a time: everything else of the agent's thread waits meanwhile.
const BATCH: usize = 64;
/// A line's usual length.
const LINE: usize = 2_048;

/// What there is to see of single requests.
pub trait Live: Send + Sync {
    /// Hands over requests from now on.
    ///
    /// # Errors
    /// As many listen as may.
    fn listen(&self, filter: Filter) -> Result<Listener, TooMany>;
    /// The slowest requests of the last minutes, the slowest first.
    fn slowest(&self) -> Vec<Arc<Request>>;
    /// What was counted of each pair of workloads.
    fn pairs(&self) -> Pairs;
}

/// What is asked for behind the `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    /// How many requests, and no more.
    pub(super) limit: Option<u64>,
}

impl Asked {
    /// # Errors
    /// A sentence about what is wrong.
    pub(super) fn of(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "workload" => asked.filter.workload = value.into_owned(),
                "min" => {
                    let least = humantime::parse_duration(&value).map_err(|_error| {
                        format!("min={value}: no time; write it with its unit, such as min=5ms\n")
                    })?;
                    asked.filter.least_ns = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    asked.limit = Some(limit.ok_or_else(|| {
                        format!("limit={value}: no number of requests; write limit=100\n")
                    })?);
                }
                _ => {
                    return Err(format!(
                        "{name}: not known; there are workload, min and limit\n"
                    ));
                }
            }
        }
        Ok(asked)
    }
}

/// A stream of lines. It is read as fast as its reader reads; what its queue cannot hold is told as a
/// number.
pub struct Lines {
    listener: Listener,
    left: Option<u64>,
    beat: Interval,
    end: Pin<Box<Sleep>>,
    batch: VecDeque<Arc<Request>>,
}

impl Lines {
    pub(super) fn new(listener: Listener, limit: Option<u64>) -> Self {
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            listener,
            left: limit,
            beat,
            end: Box::pin(sleep(LONGEST)),
            batch: VecDeque::with_capacity(BATCH),
        }
    }

    /// What can be had at once; whether nothing more comes.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        while self.batch.len() < BATCH && self.left != Some(0) {
            match self.listener.requests.poll_recv(cx) {
                Poll::Ready(Some(request)) => {
                    self.batch.push_back(request);
                    self.left = self.left.map(|left| left - 1);
                }
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
        self.left == Some(0)
    }

    fn text(&mut self) -> Vec<u8> {
        let clocks = Clocks {
            monotonic: monotonic_now(),
            wall: SystemTime::now(),
        };
        let mut text = Vec::with_capacity(LINE * self.batch.len().max(1));
        let missed = self.listener.take_missed();
        if missed > 0 {
            write(&mut text, &Line::Dropped { dropped: missed });
        }
        for request in self.batch.drain(..) {
            let told = Told::of(&request, clocks);
            write(&mut text, &Line::Request(Box::new(told)));
        }
        text
    }
}

fn write(text: &mut Vec<u8>, line: &Line<'_>) {
    // Into memory, and every key is text: it does not fail.
    let _infallible = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = &mut *self;
        let over = lines.take(cx);
        if !lines.batch.is_empty() {
            lines.beat.reset();
            let text = lines.text();
            return Poll::Ready(Some(Ok(Frame::data(text.into()))));
        }
        if over || lines.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if lines.beat.poll_tick(cx).is_ready() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))));
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_filter_or_a_sentence() {
        let asked = Asked::of("workload=shop%2Fa+b&min=5ms&limit=3").unwrap();
        assert_eq!(asked.filter.workload, "shop/a b");
        assert_eq!((asked.filter.least_ns, asked.limit), (5_000_000, Some(3)));
        assert_eq!(Asked::of("").unwrap(), Asked::default());
        for (query, words) in [
            ("min=5", "min=5ms"),
            ("min=", "min="),
            ("limit=0", "limit=100"),
            ("limit=-1", "limit=100"),
            ("path=/", "workload, min and limit"),
        ] {
            let told = Asked::of(query).unwrap_err();
            assert!(told.contains(words) && told.lines().count() == 1, "{told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_an_answer(query in ".{0,60}", value in "\\PC{0,20}") {
            let _answer = Asked::of(&query);
            let sent = form_urlencoded::Serializer::new(String::new())
                .append_pair("workload", &value)
                .finish();
            proptest::prop_assert_eq!(Asked::of(&sent).unwrap().filter.workload, value);
        }
    }
}
