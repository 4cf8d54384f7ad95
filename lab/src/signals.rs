//! Ctrl-C and SIGTERM: everything that waits asks here, so that an interrupted lab is taken down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

fn flag() -> &'static Arc<AtomicBool> {
    INTERRUPTED.get_or_init(Arc::default)
}

/// From now on SIGINT, SIGTERM and SIGHUP no longer end the process: they are noted, and every
/// wait in the lab fails soon after, so that `?` unwinds and destructors clean up.
///
/// # Errors
/// A handler cannot be installed.
pub fn on_interrupt() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(flag()))
            .with_context(|| format!("cannot handle signal {signal}"))?;
    }
    Ok(())
}

/// Whether such a signal came.
#[must_use]
pub fn interrupted() -> bool {
    flag().load(Ordering::Relaxed)
}

/// # Errors
/// Such a signal came.
pub fn check() -> Result<()> {
    if interrupted() {
        bail!("interrupted by a signal: what was started is taken down");
    }
    Ok(())
}
