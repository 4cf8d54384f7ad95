//! `hoptrace-wire`: the odd server and client of the tests; see `hoptrace_lab::wire`.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use hoptrace_lab::wire::{Listen, Wish, ask, serve};

/// Serve or ask HTTP/1.1 in ways that ordinary programs do not, and stamp every exchange.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Serve until killed; a line of JSON for each exchange goes to the log
    Serve {
        /// Addresses for HTTP/1.1
        #[arg(long)]
        http: Vec<SocketAddr>,
        /// Addresses for messages of 32 bytes
        #[arg(long)]
        raw: Vec<SocketAddr>,
        /// Log; appended to
        #[arg(long, value_name = "FILE")]
        log: PathBuf,
    },
    /// Do what the JSON on standard input says, and tell what came on standard output
    Ask,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Serve { http, raw, log } => {
            let file = File::options().create(true).append(true).open(&log);
            let file = file.with_context(|| format!("cannot write {}", log.display()))?;
            let http = http.into_iter().map(Listen::Http);
            let raw = raw.into_iter().map(Listen::Raw);
            let listen: Vec<_> = http.chain(raw).collect();
            serve(&listen, file).context("cannot listen")
        }
        Arguments::Ask => {
            let wish: Wish = serde_json::from_reader(io::stdin()).context("reading the wish")?;
            let text = serde_json::to_vec(&ask(&wish)).context("writing the answers")?;
            io::stdout().write_all(&text).context("writing the answers")
        }
    }
}
