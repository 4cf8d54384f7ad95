//! Processor time of the agent. Its own `process_cpu_seconds_total` counts whole seconds, and the
//! experiment may be over within one.

use std::fs;

use anyhow::{Context, Result};

/// Seconds on a CPU so far, all threads: the first field of their `schedstat`, nanoseconds
/// (kernel, Documentation/scheduler/sched-stats.rst).
///
/// # Errors
/// The process has ended, or the kernel does not account.
pub(super) fn seconds(pid: u32) -> Result<f64> {
    let tasks = format!("/proc/{pid}/task");
    let listing = fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))?;
    let mut nanoseconds = 0.0;
    for task in listing.flatten() {
        // A thread may end between the listing and the look; so little is lost with it.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += first(&text).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e9)
}

fn first(schedstat: &str) -> Option<f64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_cpu_is_the_first_field() {
        assert_eq!(first("1500000000 7 42\n"), Some(1.5e9));
        assert_eq!(first(""), None);
        assert!(seconds(std::process::id()).unwrap() > 0.0);
    }
}
