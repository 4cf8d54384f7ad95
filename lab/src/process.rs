//! Processes named by their id and start time: an id alone may by now be somebody else's.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, for as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did: field 22 of /proc/PID/stat.
    pub start_time: u64,
}

impl ProcessId {
    /// This process itself.
    #[must_use]
    pub fn me() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start_time: stat(pid).map_or(0, |stat| stat.start_time),
        }
    }

    /// The process that has this id now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let start_time = stat(pid)?.start_time;
        Some(Self { pid, start_time })
    }

    /// Whether it still runs; one that ended and was not yet waited for does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && stat.state != 'Z')
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(self, signal: Signal) {
        signal_if(self.pid, signal, || self.is_alive());
    }
}

/// Sends a signal to the process that had this id when the condition held: the descriptor is
/// taken first, so that a process that took over the id in between is not hit.
pub(crate) fn signal_if(pid: u32, signal: Signal, condition: impl FnOnce() -> bool) {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(descriptor) = pidfd_open(id, PidfdFlags::empty()) else {
        return;
    };
    if condition() {
        // It may have ended by itself.
        let _ended = pidfd_send_signal(&descriptor, signal);
    }
}

struct Stat {
    state: char,
    start_time: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    parse_stat(&fs::read_to_string(path).ok()?)
}

/// The name, field 2, may hold blanks and parentheses; what follows its last one does not.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        start_time: fields.nth(18)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_field_22_whatever_the_name() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.start_time), ('S', 4711));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn a_reused_id_is_another_process() {
        let me = ProcessId::me();
        assert!(me.is_alive());
        let other = ProcessId {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!other.is_alive());
    }
}
