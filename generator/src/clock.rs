//! Time: the monotonic clock, the processor time of a thread, and a timer without slack.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

const NANOS: u64 = 1_000_000_000;

/// The monotonic clock, nanoseconds.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither part of this clock is ever negative.
    time.tv_sec as u64 * NANOS + time.tv_nsec as u64
}

/// Processor time of the calling thread, user and system. This is what `getrusage` says for the
/// thread, but in nanoseconds; the generator has no other thread.
pub(super) fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A timer that wakes the event loop.
///
/// The timeout of `epoll_wait` has a millisecond grain and 50 µs of slack for an ordinary thread
/// (`prctl(2)`, `PR_SET_TIMERSLACK`); a timerfd runs on a bare high-resolution timer without
/// slack, so a request leaves when it is due without any spinning.
pub(super) struct Timer {
    fd: OwnedFd,
    armed: u64,
}

impl Timer {
    /// A timer that reports to `registry` as `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, armed: 0 })
    }

    /// Wakes the loop once at this moment of the monotonic clock, at once when it has passed.
    ///
    /// The loop never reads the timer: registration is edge-triggered, and setting it again
    /// clears what it counted.
    pub(super) fn arm(&mut self, at: u64) -> io::Result<()> {
        if at == self.armed {
            return Ok(());
        }
        let moment = Timespec {
            tv_sec: (at / NANOS) as i64,
            tv_nsec: (at % NANOS) as i64,
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: moment,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed = at;
        Ok(())
    }
}
