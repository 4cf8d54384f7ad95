//! Single requests, for whoever wants to see them while they come.
//!
//! The tap stands behind the attribution, beside the metrics. It is told every request; a [`Request`], a
//! value that holds on to nothing of the agent's, is made only of those that somebody takes: a
//! [`Listener`], by its [`Filter`], or the table of the slowest. Without listeners and without that
//! table a request costs one branch.
//!
//! Nobody who listens can hold the agent up: each listener has a queue of [`QUEUE`] requests. What does
//! not fit is not handed over, and counted for the listener and for the metrics.
//!
//! In a request there are times, names, the status and which sockets were seen. No address, no path, no header
//! and no payload is: they do not get as far as here.

pub mod json;
mod request;
mod slowest;

pub use request::{Request, SOCKETS, Stage, Stamps};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::join::Chain;
use crate::model::{Ktime, RequestLabels, RequestTimes, Workload};
use slowest::Slowest;

/// Requests that wait for a listener. They come in batches, all that was settled since the last look at
/// the ring: at 20,000 a second and twenty looks these are 1,000. A request takes about 800 bytes, and
/// waits for all listeners once.
pub const QUEUE: usize = 2_048;
/// Listeners at a time: a few people who look, and an exporter.
pub const MOST_LISTENERS: usize = 8;

/// Which requests a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only with this in the name of a workload (`name.namespace`) or of the service; empty: all.
    pub workload: String,
    /// Only those that took at least so long, nanoseconds.
    pub least_ns: u64,
}

impl Filter {
    fn takes(&self, labels: &RequestLabels, duration_ns: u64) -> bool {
        let text = self.workload.as_str();
        let named = |workload: &Workload| {
            workload.name.contains(text)
                || workload.namespace.contains(text)
                // Only what has a dot can reach over the two.
                || text.contains('.') && full_name(workload).contains(text)
        };
        duration_ns >= self.least_ns
            && (text.is_empty()
                || named(&labels.source)
                || named(&labels.destination)
                || labels.service.contains(text))
    }
}

/// `workload.namespace`, or the workload alone.
pub(crate) fn full_name(workload: &Workload) -> String {
    if workload.namespace.is_empty() {
        workload.name.to_string()
    } else {
        format!("{}.{}", workload.name, workload.namespace)
    }
}

/// The other end of a queue of requests. Dropping it ends it.
#[derive(Debug)]
pub struct Listener {
    /// Ends when the agent does.
    pub requests: Receiver<Arc<Request>>,
    missed: Arc<AtomicU64>,
}

impl Listener {
    /// How many requests found the queue full since this was last asked.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

/// As many listen as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_LISTENERS} are listening already; end one of them first")]
pub struct TooMany;

/// What became of the requests that listeners took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// They are in the listener's queue.
    pub delivered: u64,
    /// The queue was full.
    pub dropped: u64,
}

impl Handed {
    /// By the `result` label.
    pub(crate) const fn by_result(self) -> [(&'static str, u64); 2] {
        [("delivered", self.delivered), ("dropped", self.dropped)]
    }
}

#[derive(Debug)]
struct Ear {
    filter: Filter,
    queue: Sender<Arc<Request>>,
    missed: Arc<AtomicU64>,
}

/// Hands requests over.
#[derive(Debug, Default)]
pub struct Tap {
    ears: Vec<Ear>,
    slowest: Option<Slowest>,
    handed: Handed,
}

impl Tap {
    /// A tap that also keeps the slowest requests of the last minutes.
    #[must_use]
    pub fn keeping_slowest() -> Self {
        Self {
            slowest: Some(Slowest::default()),
            ..Self::default()
        }
    }

    /// Hands over, from now on, the requests that `filter` takes.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn listen(&mut self, filter: Filter) -> Result<Listener, TooMany> {
        self.forget_deaf();
        if self.ears.len() >= MOST_LISTENERS {
            return Err(TooMany);
        }
        let (queue, requests) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        let ear = Ear {
            filter,
            queue,
            missed: Arc::clone(&missed),
        };
        self.ears.push(ear);
        Ok(Listener { requests, missed })
    }

    /// Takes one attributed request; `chain` is what it was made of.
    pub fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes) {
        if self.ears.is_empty() && self.slowest.is_none() {
            return;
        }
        let Some((began, duration_ns)) = request::span(chain) else {
            return;
        };
        let slow = self
            .slowest
            .as_mut()
            .is_some_and(|slowest| slowest.takes(&times.labels, began, duration_ns));
        // Made once, and only if somebody takes it.
        let mut made = None;
        let mut make = || Arc::clone(made.get_or_insert_with(|| Request::of(chain, times).into()));
        if slow && let Some(slowest) = &mut self.slowest {
            slowest.keep(make());
        }
        let handed = &mut self.handed;
        self.ears.retain(|ear| {
            if !ear.filter.takes(&times.labels, duration_ns) {
                return true;
            }
            match ear.queue.try_send(make()) {
                Ok(()) => handed.delivered += 1,
                Err(TrySendError::Full(_)) => {
                    handed.dropped += 1;
                    ear.missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Closed(_)) => return false,
            }
            true
        });
    }

    /// The slowest requests of the last minutes, the slowest first; none where they are not kept.
    #[must_use]
    pub fn slowest(&self, now: Ktime) -> Vec<Arc<Request>> {
        let slowest = self.slowest.as_ref();
        slowest.map_or_else(Vec::new, |slowest| slowest.all(now))
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        let hearing = self.ears.iter().filter(|ear| !ear.queue.is_closed());
        hearing.count()
    }

    /// What became of the requests so far.
    #[must_use]
    pub const fn handed(&self) -> Handed {
        self.handed
    }

    /// Nothing more comes: what waits is still read, then every listener is told the end.
    pub fn close(&mut self) {
        self.ears.clear();
    }

    fn forget_deaf(&mut self) {
        self.ears.retain(|ear| !ear.queue.is_closed());
    }
}

#[cfg(test)]
mod tests;
