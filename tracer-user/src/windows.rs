//! Tracing in windows: the hooks look for a while, rest, and look again, so that a node which can spare
//! little is measured all the same, by a sample of its time.
//!
//! ```text
//!   open          closing         closed                        open
//! ──┬───────────────┬───────────────┬──────────────────────────┬──
//!   begins          ends            the hooks rest             begins + period
//! ```
//!
//! Requests that begin between `begins` and `ends` are told. The hooks look on for one hold time more,
//! so that all the sockets of such a request are seen to its end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::Interval;
use crate::config::values::{InvalidValue, invalid};
use crate::model::Ktime;

/// What is settled of one window before the next begins, in hold times: one is the hooks' last look,
/// two the join's, one is to spare.
const REST_HOLDS: u32 = 4;

/// When the hooks look, written `always` or `LENGTH/PERIOD`, such as `500ms/10s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Windows {
    /// At any time.
    #[default]
    Always,
    /// In windows of this length, which begin this far apart.
    Every {
        /// Length of a window.
        length: Interval,
        /// From the beginning of one to that of the next.
        period: Interval,
    },
}

impl Windows {
    /// Whether there is time to settle one window before the next: the shortest period, where not.
    ///
    /// # Errors
    /// The shortest period that goes with this length.
    pub fn fit(self, hold: Interval) -> Result<(), Interval> {
        let Self::Every { length, period } = self else {
            return Ok(());
        };
        let shortest = Interval::at_least(length.get() + REST_HOLDS * hold.get());
        if period < shortest {
            return Err(shortest);
        }
        Ok(())
    }
}

impl FromStr for Windows {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "always" {
            return Ok(Self::Always);
        }
        let Some((length, period)) = text.split_once('/') else {
            return invalid(format!(
                "`{text}` is neither `always` nor a length and a period, such as 500ms/10s"
            ));
        };
        Ok(Self::Every {
            length: length.parse()?,
            period: period.parse()?,
        })
    }
}

impl TryFrom<String> for Windows {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Windows> for String {
    fn from(windows: Windows) -> Self {
        windows.to_string()
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            // Durations of several units have blanks between them.
            Self::Every { length, period } => {
                let text = format!("{length}/{period}");
                f.write_str(&text.replace(' ', ""))
            }
        }
    }
}

/// What is to be done at a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The hooks look from now on.
    Open,
    /// Requests that begin from now on are not told.
    End,
    /// The hooks rest.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Closed,
}

/// The windows of one run, driven by whoever has a clock.
#[derive(Debug)]
pub struct Schedule {
    windows: Windows,
    hold_ns: u64,
    phase: Phase,
    /// When the last window began, and ended where it did.
    begun: Ktime,
    ended: Ktime,
    /// Nanoseconds of all windows before that one.
    traced_ns: u64,
}

impl Schedule {
    /// Begins with a window at `now`.
    #[must_use]
    pub const fn new(windows: Windows, hold_ns: u64, now: Ktime) -> Self {
        Self {
            windows,
            hold_ns,
            phase: Phase::Open,
            begun: now,
            ended: now,
            traced_ns: 0,
        }
    }

    /// What is due at `now`; asked at every round, it is one thing at a time.
    pub fn due(&mut self, now: Ktime) -> Option<Change> {
        let Windows::Every { length, period } = self.windows else {
            return None;
        };
        let since = |then: Ktime| now.saturating_sub(then);
        let (phase, change) = match self.phase {
            Phase::Open if since(self.begun) >= length.nanos() => {
                self.ended = now;
                (Phase::Closing, Change::End)
            }
            Phase::Closing if since(self.ended) >= self.hold_ns => (Phase::Closed, Change::Rest),
            Phase::Closed if since(self.begun) >= period.nanos() => {
                self.traced_ns += self.ended.saturating_sub(self.begun);
                self.begun = now;
                (Phase::Open, Change::Open)
            }
            _ => return None,
        };
        self.phase = phase;
        Some(change)
    }

    /// For how long requests that began were told, up to `now`, nanoseconds.
    #[must_use]
    pub fn traced_ns(&self, now: Ktime) -> u64 {
        let until = match self.phase {
            Phase::Open => now,
            Phase::Closing | Phase::Closed => self.ended,
        };
        self.traced_ns + until.saturating_sub(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn windows(text: &str) -> Windows {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_printed_can_be_read() {
        for text in ["always", "500ms/10s", "1s500ms/1m"] {
            assert_eq!(windows(text).to_string(), text);
        }
        for (text, blamed) in [
            ("", "neither"),
            ("1s", "neither"),
            ("1s/", "no time"),
            ("1/10s", "no time"),
            ("0ms/10s", "out of range"),
        ] {
            let error = text.parse::<Windows>().unwrap_err().to_string();
            assert!(error.contains(blamed), "{text}: {error}");
        }
    }

    #[test]
    fn a_period_leaves_time_to_settle_the_window_before() {
        let hold = Interval::from_millis(200);
        assert_eq!(windows("always").fit(hold), Ok(()));
        assert_eq!(windows("200ms/1s").fit(hold), Ok(()));
        let shortest = Interval::from_millis(1_050);
        assert_eq!(windows("250ms/1s").fit(hold), Err(shortest));
    }

    #[test]
    fn a_window_opens_ends_and_rests_in_turn() {
        let mut schedule = Schedule::new(windows("100ms/1s"), 50 * MS, 7_000 * MS);
        let mut due = |ms: u64| schedule.due((7_000 + ms) * MS);
        for (ms, change) in [
            (0, None),
            (99, None),
            (110, Some(Change::End)),
            (159, None),
            (160, Some(Change::Rest)),
            (999, None),
            (1_020, Some(Change::Open)),
            // Counted from when the window did begin.
            (1_119, None),
            (1_120, Some(Change::End)),
            (1_170, Some(Change::Rest)),
            (2_019, None),
            (2_020, Some(Change::Open)),
        ] {
            assert_eq!(due(ms), change, "at {ms} ms");
        }
        // 110 and 100 ms of the two that are over, and of the third so far.
        assert_eq!(schedule.traced_ns((7_000 + 2_050) * MS), 240 * MS);
    }

    #[test]
    fn always_is_one_window() {
        let mut schedule = Schedule::new(Windows::Always, 50 * MS, 10);
        assert_eq!(schedule.due(u64::MAX), None);
        assert_eq!(schedule.traced_ns(30), 20);
    }
}
