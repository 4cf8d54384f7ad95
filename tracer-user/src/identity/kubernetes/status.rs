//! How the watches are doing: shared between their thread, the metrics and `/readyz`.

use super::facts::Feed;
use crate::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Why the API did not tell what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody answers, or the connection broke.
    Unreachable,
    /// It does not know who asks.
    Unauthorized,
    /// Who asks may not.
    Forbidden,
    /// It has no such resource.
    NotFound,
    /// The version to go on from is too old: everything is listed again.
    Gone,
    /// It asks for less.
    Throttled,
    /// It failed by itself.
    ServerError,
    /// It refused the request as it is.
    Refused,
    /// Its answer cannot be read.
    Malformed,
    /// An object was left out, because there are 200,000 of its kind already.
    TooMany,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Gone,
        Self::Throttled,
        Self::ServerError,
        Self::Refused,
        Self::Malformed,
        Self::TooMany,
    ];

    /// Value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::TooMany => "too_many",
        }
    }
}

/// What is wrong with a feed.
#[derive(Clone, Debug)]
struct Trouble {
    reason: Reason,
    sentence: String,
}

/// One feed.
#[derive(Default)]
struct FeedStatus {
    wanted: AtomicBool,
    listed: AtomicBool,
    connected: AtomicBool,
    objects: AtomicU64,
    lists: AtomicU64,
    errors: [AtomicU64; Reason::ALL.len()],
    trouble: Mutex<Option<Trouble>>,
}

/// Every feed. Reading it blocks nobody who measures.
#[derive(Default)]
pub struct Status {
    feeds: [FeedStatus; Feed::ALL.len()],
}

/// What the metrics show of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedReport {
    /// Which.
    pub feed: Feed,
    /// Whether its list is complete and kept up to date at this moment.
    pub synced: bool,
    /// Objects known.
    pub objects: u64,
    /// Lists begun after the first.
    pub restarts: u64,
    /// Errors by reason.
    pub errors: [u64; Reason::ALL.len()],
}

impl Status {
    fn feed(&self, feed: Feed) -> Option<&FeedStatus> {
        self.feeds.get(feed as usize)
    }

    fn with(&self, feed: Feed, change: impl FnOnce(&FeedStatus)) {
        self.feed(feed).map(change).unwrap_or_default();
    }

    /// Notes that a feed is watched.
    pub fn want(&self, feed: Feed) {
        self.with(feed, |status| status.wanted.store(true, Relaxed));
    }

    /// Notes that a list begins.
    pub(super) fn list_begins(&self, feed: Feed) {
        self.with(feed, |status| {
            status.listed.store(false, Relaxed);
            status.lists.fetch_add(1, Relaxed);
        });
    }

    /// Notes that a list is complete.
    pub(super) fn list_is_complete(&self, feed: Feed) {
        self.with(feed, |status| status.listed.store(true, Relaxed));
    }

    /// Notes that the API answered a request for the feed; true when it had not before.
    pub(super) fn answered(&self, feed: Feed) -> bool {
        let Some(status) = self.feed(feed) else {
            return false;
        };
        status.connected.store(true, Relaxed);
        lock(&status.trouble).take().is_some()
    }

    /// Notes an error; true when the feed had no trouble of this kind before.
    pub(super) fn failed(&self, feed: Feed, reason: Reason, sentence: &str) -> bool {
        let Some(status) = self.feed(feed) else {
            return false;
        };
        if let Some(count) = status.errors.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
        if reason == Reason::Gone {
            // It is listed again at once: no trouble, but counted.
            return false;
        }
        status.connected.store(false, Relaxed);
        let mut trouble = lock(&status.trouble);
        let news = trouble.as_ref().is_none_or(|old| old.reason != reason);
        if news {
            *trouble = Some(Trouble {
                reason,
                sentence: sentence.to_owned(),
            });
        }
        news
    }

    /// Notes that nothing of a feed is known any more.
    pub(super) fn forgotten(&self, feed: Feed) {
        if let Some(status) = self.feed(feed) {
            status.listed.store(false, Relaxed);
        }
    }

    /// Notes how many objects of a feed are known, and how many were left out since the start.
    pub(super) fn set_objects(&self, feed: Feed, objects: usize, refused: u64) {
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.with(feed, |status| {
            status.objects.store(objects, Relaxed);
            if let Some(count) = status.errors.get(Reason::TooMany as usize) {
                count.store(refused, Relaxed);
            }
        });
    }

    /// Whether every feed was listed or has failed: there is nothing to wait for.
    pub(super) fn is_settled(&self) -> bool {
        self.wanted().all(|(_, status)| {
            let failed = lock(&status.trouble).is_some();
            status.listed.load(Relaxed) || failed
        })
    }

    fn wanted(&self) -> impl Iterator<Item = (Feed, &FeedStatus)> {
        let feeds = Feed::ALL.into_iter().zip(&self.feeds);
        feeds.filter(|(_, status)| status.wanted.load(Relaxed))
    }

    /// Every feed that is watched.
    pub fn reports(&self) -> impl Iterator<Item = FeedReport> {
        self.wanted().map(|(feed, status)| {
            let mut errors = [0; Reason::ALL.len()];
            for (count, found) in errors.iter_mut().zip(&status.errors) {
                *count = found.load(Relaxed);
            }
            FeedReport {
                feed,
                synced: status.listed.load(Relaxed) && status.connected.load(Relaxed),
                objects: status.objects.load(Relaxed),
                restarts: status.lists.load(Relaxed).saturating_sub(1),
                errors,
            }
        })
    }

    /// What is not as it should be, one line a feed; empty when everything is.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let line = |(feed, status): (Feed, &FeedStatus)| {
            let trouble = lock(&status.trouble).clone();
            let listed = status.listed.load(Relaxed);
            match trouble {
                Some(trouble) => {
                    let state = match trouble.reason {
                        _ if listed => "as they were last told:",
                        Reason::Forbidden => "until then there is nothing for",
                        _ => "not known yet:",
                    };
                    let (feed, gives) = (feed.as_str(), feed.gives());
                    Some(format!("{feed}: {}; {state} {gives}", trouble.sentence))
                }
                None if !listed => Some(format!("{}: still being listed", feed.as_str())),
                None => None,
            }
        };
        self.wanted().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_tells_its_trouble_once_and_recovers() {
        let status = Status::default();
        assert!(status.is_settled(), "nothing is watched");
        status.want(Feed::NodePods);
        assert!(!status.is_settled());
        let synced = || {
            status
                .reports()
                .map(|report| report.synced)
                .collect::<Vec<_>>()
        };

        assert!(status.failed(Feed::NodePods, Reason::Unreachable, "refused"));
        assert!(!status.failed(Feed::NodePods, Reason::Unreachable, "refused"));
        assert!(status.is_settled(), "waiting any longer does not help");
        assert_eq!(
            status.degraded(),
            [
                "node_pods: refused; not known yet: names of this node's pods and which containers are sidecars"
            ]
        );
        assert_eq!(synced(), [false]);

        assert!(status.answered(Feed::NodePods));
        assert!(!status.answered(Feed::NodePods));
        status.list_begins(Feed::NodePods);
        status.list_is_complete(Feed::NodePods);
        assert_eq!(synced(), [true]);
        assert_eq!(status.degraded(), Vec::<String>::new());

        // A version that is too old is no trouble, but counted, and so is the list after it.
        assert!(!status.failed(Feed::NodePods, Reason::Gone, "too old"));
        status.list_begins(Feed::NodePods);
        status.list_is_complete(Feed::NodePods);
        let report = status.reports().next().unwrap();
        assert_eq!(report.restarts, 1);
        assert_eq!(report.errors[Reason::Unreachable as usize], 2);
        assert_eq!(report.errors[Reason::Gone as usize], 1);
        assert!(report.synced);
    }
}
