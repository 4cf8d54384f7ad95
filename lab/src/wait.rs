//! Waiting for something to become true, with an end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::signals;

/// How often a condition is looked at.
pub const STEP: Duration = Duration::from_millis(10);

/// Looks until there is something.
///
/// # Errors
/// `look` fails, the time is over (the error says what was waited for), or a signal came.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        signals::check()?;
        if started.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs_f64());
        }
        thread::sleep(STEP);
    }
}

/// Looks until it is true or the time is over, whatever signals come: for taking things down.
pub fn regardless(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if look() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(STEP / 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_error_that_says_what_for() {
        let error = until("the moon", STEP, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "the moon: not within 0.01 s");
        let mut looks = 0;
        let found = until("it", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }
}
