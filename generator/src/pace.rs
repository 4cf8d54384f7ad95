//! When requests are due. Time comes in as data, nanoseconds of one clock.

use crate::load::Schedule;

/// How long a run at a constant rate may go on after its last planned moment to send what a slow
/// server has held up, nanoseconds.
const DRAIN: u64 = 30_000_000_000;

/// How long a run of a fixed number may take, nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// What an idle connection should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send now; the request was planned for this moment.
    Now(u64),
    /// Wait until this moment.
    At(u64),
    /// Nothing is left to send.
    Over,
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Count { total: u64 },
    Time { length: u64 },
    Rate { per_second: f64, total: u64 },
}

/// The plan of a run and how far it got.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    plan: Plan,
    start: u64,
    end: u64,
    taken: u64,
}

impl Pace {
    /// A plan that starts at `start`.
    pub(super) fn new(schedule: Schedule, start: u64) -> Self {
        let (plan, length) = match schedule {
            Schedule::Count(total) => (Plan::Count { total }, LONGEST),
            Schedule::Seconds(seconds) => {
                let length = nanos(seconds);
                (Plan::Time { length }, length)
            }
            Schedule::Rate {
                per_second,
                seconds,
            } => {
                let total = planned(per_second, seconds);
                let plan = Plan::Rate { per_second, total };
                (plan, nanos(seconds).saturating_add(DRAIN))
            }
        };
        Self {
            plan,
            start,
            end: start.saturating_add(length),
            taken: 0,
        }
    }

    /// What the next idle connection should do; a request it is told to send counts as taken.
    pub(super) fn next(&mut self, now: u64) -> Due {
        let due = match self.plan {
            Plan::Count { total } if self.taken < total => now,
            Plan::Time { length } if now < self.start.saturating_add(length) => now,
            // From the index and not from the last moment, so that rounding does not add up.
            Plan::Rate { per_second, total } if self.taken < total => {
                self.start + nanos(self.taken as f64 / per_second)
            }
            _ => return Due::Over,
        };
        if due > now {
            return Due::At(due);
        }
        self.taken += 1;
        Due::Now(due)
    }

    /// Gives up what is still unsent when the run has gone on for too long; says how many.
    pub(super) fn give_up(&mut self, now: u64) -> u64 {
        match &mut self.plan {
            Plan::Count { total } | Plan::Rate { total, .. } if now >= self.end => {
                let unsent = total.saturating_sub(self.taken);
                *total = self.taken;
                unsent
            }
            _ => 0,
        }
    }
}

/// Requests in a run at a constant rate.
pub(super) fn planned(per_second: f64, seconds: f64) -> u64 {
    ((per_second * seconds).round() as u64).max(1)
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: Schedule, cases: &[(u64, Due)]) {
        let mut pace = Pace::new(schedule, 1_000);
        for (now, due) in cases {
            assert_eq!(pace.next(*now), *due, "{schedule:?} at {now}");
        }
    }

    #[test]
    fn closed_loops_send_at_once() {
        use Due::{Now, Over};
        check(
            Schedule::Count(2),
            &[(1_000, Now(1_000)), (7_000, Now(7_000)), (7_000, Over)],
        );
        check(
            Schedule::Seconds(1e-6),
            &[(1_000, Now(1_000)), (1_999, Now(1_999)), (2_000, Over)],
        );
    }

    #[test]
    fn a_rate_is_kept_whatever_happens() {
        use Due::{At, Now, Over};
        let schedule = Schedule::Rate {
            per_second: 1e6,
            seconds: 4e-6,
        };
        check(
            schedule,
            &[
                (1_000, Now(1_000)),
                (1_000, At(2_000)),
                (1_999, At(2_000)),
                // A stall: the requests it held up keep their planned moments.
                (9_000, Now(2_000)),
                (9_100, Now(3_000)),
                (9_200, Now(4_000)),
                (9_300, Over),
            ],
        );
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let schedule = Schedule::Rate {
            per_second: 10.0,
            seconds: 1.0,
        };
        let mut pace = Pace::new(schedule, 0);
        assert_eq!(pace.next(0), Due::Now(0));
        assert_eq!(pace.give_up(30_999_999_999), 0);
        assert_eq!(pace.give_up(31_000_000_000), 9);
        assert_eq!(pace.next(31_000_000_000), Due::Over);
        assert_eq!(pace.give_up(32_000_000_000), 0);
    }
}
