//! What a person types: `cargo xtask <command>`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// Before all others, which use its macros.
#[macro_use]
mod out;

mod apt;
mod bench;
mod book;
mod cluster;
mod dashboards;
mod demo;
mod drill;
mod e2e;
mod ebpf;
mod image;
mod kernels;
mod lab;
mod lint;
mod manifests;
mod paths;
mod report;
mod run;
mod screenshots;
mod setup;
mod soak;
mod test;
mod toolchain;
mod usage;

/// Builds, checks and tries hoptrace on this machine.
///
/// A first time: `cargo xtask setup`, then `cargo xtask test`.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true,
    after_help = FIRST_STEPS
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

const FIRST_STEPS: &str = "\
First steps:
  cargo xtask demo         all of it: what a mesh costs, without and with sidecars
  cargo xtask report       the same as a report with intervals and charts: target/report/
  cargo xtask setup        what is missing is named, then installed (needs root)
  cargo xtask build-ebpf   again after each change in tracer-ebpf/
  cargo build --release    the agent: target/release/hoptrace
  cargo xtask test         every test there is; --unit for the quick ones
  cargo xtask lab up       a mesh to trace; says how to use it
  cargo xtask image        the agent as an OCI archive: target/image/
  cargo xtask bench        what tracing costs; --hooks-only for the kernel side
  cargo xtask soak         a million requests of every kind, each exchange explained
  cargo xtask kernels      the same figures on kernels from 5.10 to 7.x, emulated
  cargo xtask book         the pages as a book: target/book/html
  cargo xtask e2e          the agent on a real Kubernetes, with everything that may happen there

Environment:
  HOPTRACE_CACHE           where setup keeps what it fetched [default: ~/.cache/hoptrace]
  HOPTRACE_MDBOOK          another mdBook than the one setup fetched
  HOPTRACE_ENVOY           another Envoy for the lab than the one setup fetched
  HOPTRACE_HELM            another Helm, and
  HOPTRACE_KUBECTL         another kubectl than those setup fetched";

#[derive(Debug, Subcommand)]
enum Task {
    /// Show what a mesh costs: the article's experiment, without and with sidecars (needs root).
    ///
    /// Does all set-up first; removes all it started at the end.
    Demo(demo::Options),
    /// Write `hoptrace report` of the same experiment: without sidecars, in clear text, mTLS (needs root).
    Report(report::Options),
    /// Install what building and testing need; says first what that is.
    Setup(setup::Options),
    /// Build the kernel side and stage it for the agent: target/bpf/*.o.
    BuildEbpf,
    /// Lint the kernel side with the compiler that builds it.
    ClippyEbpf,
    /// Check format, lints, documentation and the workspace's own rules.
    Lint,
    /// Write the files of `deploy/` that follow from others; --check to only compare.
    Manifests(manifests::Options),
    /// Write Grafana's dashboards in `deploy/` from their Rust source; --check to only compare.
    Dashboards(dashboards::Options),
    /// Make a book of the pages, and follow every link in it: target/book/html.
    Book,
    /// Take the pictures of the agent's page for `docs/images`, in a real browser.
    Screenshots,
    /// A mesh in network namespaces, with real Envoy sidecars (needs root).
    #[command(subcommand)]
    Lab(lab::Command),
    /// Make OCI images of the agent and of what its tests run, without Docker.
    Image(image::Options),
    /// A real Kubernetes of one node, in namespaces of its own (needs root).
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// The agent on a real Kubernetes, with the chart and the demo: every promise checked (needs
    /// root).
    E2e(e2e::Options),
    /// Run every test; as root also those of the kernel and the lab.
    Test(test::Options),
    /// Make something in a chain of services slow, and find it by the printed steps (needs root).
    Drill(drill::Options),
    /// Measure what tracing costs the traced (needs root).
    Bench(bench::Options),
    /// Ask a million requests of every kind, and explain each exchange that the agent counted (needs
    /// root).
    Soak(soak::Options),
    /// Boot other kernels under QEMU, trace traffic in each, and check the figures.
    Kernels(kernels::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Demo(options) => demo::run(&options),
        Task::Report(options) => report::run(&options),
        Task::Setup(options) => setup::run(&options),
        Task::BuildEbpf => ebpf::build(),
        Task::ClippyEbpf => ebpf::clippy(),
        Task::Lint => lint::run(),
        Task::Manifests(options) => manifests::run(&options),
        Task::Dashboards(options) => dashboards::run(&options),
        Task::Book => book::run(),
        Task::Screenshots => screenshots::run(),
        Task::Lab(command) => lab::run(&command),
        Task::Image(options) => image::run(&options),
        Task::Cluster(command) => cluster::run(&command),
        Task::E2e(options) => e2e::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Drill(options) => drill::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Kernels(options) => kernels::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
