//! `hoptrace top`: what an agent measures, live in a terminal, or as text and JSON for others.
//!
//! Everything comes from `/metrics`, as Prometheus gets it: `client` fetches it, `Totals` sums it by
//! pair of workloads, `rows` makes the figures of the time between two looks, and `screen` or `text`
//! shows them.

use anyhow::{Context, Result};
use hoptrace_exposition::Totals;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Agent;

mod rows;
mod screen;
pub(crate) mod text;

pub use rows::{Column, Row, rows};

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// Where the agent answers.
    pub agent: String,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// How long one look is.
    pub interval: Duration,
    /// What the rows are sorted by.
    pub sort: Column,
    /// Only pairs with this in a name.
    pub filter: String,
    /// One look, and no more.
    pub once: bool,
    /// JSON, a line for each look.
    pub json: bool,
}

/// Two looks and what was between them.
struct Looks {
    agent: Agent,
    last: (Instant, Totals),
}

impl Looks {
    fn first(options: &Options) -> Result<Self> {
        let agent = Agent::new(&options.agent, options.token_file.clone())?;
        let last = (Instant::now(), Totals::of(&agent.metrics()?));
        Ok(Self { agent, last })
    }

    /// The figures since the last look.
    fn next(&mut self) -> Result<Vec<Row>> {
        let totals = Totals::of(&self.agent.metrics()?);
        let now = Instant::now();
        let rows = rows(&self.last.1, &totals, now - self.last.0);
        self.last = (now, totals);
        Ok(rows)
    }
}

/// Shows what the agent measures until told to stop.
///
/// # Errors
/// The agent does not answer at the first look, or the output cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let mut looks = Looks::first(options)?;
    if !options.once && !options.json {
        anyhow::ensure!(
            io::stdout().is_terminal(),
            "standard output is no terminal: add --once or --json"
        );
        return screen::run(options, looks);
    }
    loop {
        thread::sleep(options.interval);
        let rows = looks.next()?;
        let rows = options.sort.sorted(&rows, &options.filter);
        let text = if options.json {
            text::json(&rows)?
        } else {
            text::table(&rows)
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            done => done.context("cannot write to standard output")?,
        }
        if options.once {
            return Ok(());
        }
    }
}
