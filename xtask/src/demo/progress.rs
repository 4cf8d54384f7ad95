//! One line for each step, in the manner of `run.rs`: live on a terminal, two lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use anyhow::Result;

/// Does a step between a line that names it and one that says how it ended.
///
/// # Errors
/// The step's own.
pub(super) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let live = io::stderr().is_terminal();
    let started = Instant::now();
    eprint!("… {what}{}", if live { "" } else { "\n" });
    // A progress line that cannot be written is not worth an error.
    let _unseen = io::stderr().flush();
    let done = work();
    let mark = if done.is_ok() { "✓" } else { "✗" };
    let clear = if live { "\r\x1b[K" } else { "" };
    eprintln!(
        "{clear}{mark} {what} ({:.1} s)",
        started.elapsed().as_secs_f64()
    );
    done
}
