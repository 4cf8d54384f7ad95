//! What the agent says about itself, on standard error.

use crate::config::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "log: `{filter}` is not a filter: {reason}; write a level, or `tracer_user=debug,warn`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else has set the process's logger.
    #[error("logging is set up already in this process")]
    Twice,
}

/// Sends events that pass the filter to standard error.
///
/// # Errors
/// When the filter cannot be read, or logging is set up already.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LoggingError> {
    // The API's troubles are told once, by ourselves, with what is lost and what to do; a filter
    // that names these crates has the last word.
    let quiet = format!("kube_client=off,kube_runtime=off,{filter}");
    let parsed = EnvFilter::builder()
        .parse(quiet)
        .map_err(|reason| LoggingError::Filter {
            filter: filter.to_owned(),
            reason,
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let done = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|_source| LoggingError::Twice)
}
