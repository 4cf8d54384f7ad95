//! `hoptrace-chain`: services in a chain, and what is behind the last; see `hoptrace_lab::chain`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use hoptrace_lab::chain::{self, How, Next, Service};

/// Be a service that calls another, or a database.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Serve HTTP/1.1 until killed
    Serve {
        /// Name in the header `x-fault`
        #[arg(long)]
        name: String,
        /// Address and port
        #[arg(long)]
        listen: SocketAddr,
        /// Whom to call: http://ADDRESS:PORT, or tcp://ADDRESS:PORT of a database
        #[arg(long, value_parser = next)]
        next: Next,
        /// With which threads
        #[arg(long)]
        how: How,
        /// A line of JSON for each request goes here; appended to
        #[arg(long, value_name = "FILE")]
        log: PathBuf,
    },
    /// Answer messages of 32 bytes until killed
    Database {
        /// Address and port
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn next(text: &str) -> Result<Next, String> {
    let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    match text.split_once("://") {
        Some(("http", text)) => address(text).map(Next::Http),
        Some(("tcp", text)) => address(text).map(Next::Tcp),
        _ => Err("neither http:// nor tcp:// is in front".to_owned()),
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Serve {
            name,
            listen,
            next,
            how,
            log,
        } => {
            let file = File::options().create(true).append(true).open(&log);
            let log = file.with_context(|| format!("cannot write {}", log.display()))?;
            chain::serve(Service { name, next, log }, listen, how)
                .with_context(|| format!("cannot listen on {listen}"))
        }
        Arguments::Database { listen } => {
            chain::database(listen).with_context(|| format!("cannot listen on {listen}"))
        }
    }
}
