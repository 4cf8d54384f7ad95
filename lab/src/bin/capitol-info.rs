//! `capitol-info`: the capitals of the world over HTTP, the service of the article.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use hoptrace_lab::capitol::store::Store;
use hoptrace_lab::capitol::{router, serve};
use hoptrace_lab::generator::descriptors;
use tokio::signal::unix::{SignalKind, signal};

/// Serve the capitals of the world from an SQLite database over HTTP/1.1.
///
/// GET /capitols?limit=1, GET /capitols/{id}, POST /capitols and POST /capitols/{id} with
/// {"country": …, "city": …}, GET /healthz. For tests, ?delay_ms=20 (or x-delay-ms: 20) delays an
/// answer and ?burn_ms=20 (or x-burn-ms: 20) computes for as long, each up to 10 s.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address and port; an IPv6 wildcard takes IPv4 clients too
    #[arg(long, default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Database file, created and filled when it is not there; :memory: keeps it in memory
    #[arg(long, default_value = ":memory:", value_name = "FILE")]
    database: PathBuf,
    /// Worker threads
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    descriptors::raise_limit();
    let store = if arguments.database == Path::new(":memory:") {
        Store::in_memory()
    } else {
        Store::open(&arguments.database)
    }
    .with_context(|| format!("cannot open database {}", arguments.database.display()))?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.workers.into())
        .enable_all()
        .build()
        .context("cannot start the worker threads")?
        .block_on(run(arguments.listen, Arc::new(store)))
}

async fn run(listen: SocketAddr, store: Arc<Store>) -> anyhow::Result<()> {
    let listener = serve::open(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("capitol-info listens on {}", listener.local_addr()?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve::run(listener, router(store), stop)
        .await
        .context("cannot serve")
}
