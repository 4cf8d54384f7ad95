//! `hoptrace requests`: single requests of an agent as they come, a small waterfall each, or a line of
//! JSON.

mod text;

use anyhow::{Context, Result};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::client::Agent;
use crate::tap::json::Line;
use crate::top::text::wants_colours;

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// Where the agent answers.
    pub agent: String,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// Only requests with this in the name of a workload or service.
    pub workload: String,
    /// Only those that took as long.
    pub least: Option<Duration>,
    /// How many, and no more.
    pub limit: Option<u64>,
    /// For how long.
    pub time: Option<Duration>,
    /// The lines as they come.
    pub json: bool,
}

impl Options {
    /// The path with its query, for `left` requests.
    fn path(&self, left: Option<u64>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.workload.is_empty() {
            query.append_pair("workload", &self.workload);
        }
        if let Some(least) = self.least {
            query.append_pair("min", &humantime::format_duration(least).to_string());
        }
        if let Some(left) = left {
            query.append_pair("limit", &left.to_string());
        }
        format!("/requests?{}", query.finish())
    }
}

/// Shows requests until told to stop, for the time given, or as many as asked for.
///
/// # Errors
/// The agent does not answer or falls silent, or the output cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let agent = Agent::new(&options.agent, options.token_file.clone())?;
    let colours = io::stdout().is_terminal() && wants_colours();
    let until = options
        .time
        .and_then(|time| Instant::now().checked_add(time));
    let mut left = options.limit;
    loop {
        let path = options.path(left);
        let show = |line: &str| {
            let parsed = serde_json::from_str::<Line<'_>>(line)
                .context("the agent tells requests in a way that this program does not know")?;
            if let (Line::Request(_), Some(left)) = (&parsed, &mut left) {
                *left = left.saturating_sub(1);
            }
            let text = if options.json {
                format!("{line}\n")
            } else {
                text::of(&parsed, colours)
            };
            let shown = print(&text)?;
            Ok(if left == Some(0) {
                ControlFlow::Break(())
            } else {
                shown
            })
        };
        // A stream ends after some minutes, so that no agent serves for ever whoever went away.
        if agent.lines(&path, until, show)?.is_break() || left == Some(0) {
            return Ok(());
        }
    }
}

/// Writes at once; a reader that left is told by a break.
fn print(text: &str) -> Result<ControlFlow<()>> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        done => {
            done.context("cannot write to standard output")?;
            Ok(ControlFlow::Continue(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_the_path() {
        let mut options = Options {
            agent: String::new(),
            token_file: None,
            workload: String::new(),
            least: None,
            limit: None,
            time: None,
            json: false,
        };
        assert_eq!(options.path(None), "/requests?");
        options.workload = "a&b.shop".into();
        options.least = Some(Duration::from_millis(5));
        assert_eq!(
            options.path(Some(3)),
            "/requests?workload=a%26b.shop&min=5ms&limit=3"
        );
    }
}
