//! `hoptrace-load`: one load spec on standard input, one report on standard output, both JSON.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Parser;
use hoptrace_lab::generator::{self, descriptors};
use hoptrace_lab::load::LoadSpec;

/// Load one URL over HTTP/1.1 and report latencies.
///
/// Reads a spec as JSON on standard input, for instance
/// {"url": "http://127.0.0.1:8080/capitols?limit=1", "method": "GET", "headers": [], "body": "",
/// "connections": 8, "schedule": {"rate": {"per_second": 500, "seconds": 10}},
/// "request_ids": false}
/// and prints the report as JSON. Other schedules: {"count": 1000} and {"seconds": 10}. Targets
/// are addresses in 127.0.0.0/8, ::1, 10.0.0.0/8 and fd00::/8, and those named by --allow, only.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    /// An address that may be loaded too: of a service of yours in another network
    #[arg(long, value_name = "ADDRESS")]
    allow: Vec<IpAddr>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.allow) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoptrace-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(allowed: &[IpAddr]) -> anyhow::Result<()> {
    let spec: LoadSpec = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| anyhow::anyhow!("cannot read the load spec: {error}"))?;
    descriptors::raise_limit();
    let report = generator::run(&spec, allowed)?;
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &report)?;
    writeln!(stdout)?;
    Ok(())
}
