//! The command line of `hoptrace`.

use crate::config::AgentArgs;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Latency of every hop of every request in an Envoy mesh, from outside the processes.
#[derive(Parser, Debug)]
#[command(name = "hoptrace", version, about, long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
#[command(after_help = "Try `hoptrace doctor` first, then `hoptrace agent`. Examples: --help")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
How much time did the app, each Envoy sidecar and the network take, for every request?

The agent runs once a node. It watches TCP sockets with eBPF, pairs what it sees into requests, \
and serves Prometheus histograms. Nothing is restarted, changed or decrypted.";

const EXAMPLES: &str = "\
Examples:
  hoptrace doctor                                can this node be traced, and what would be lost
  hoptrace agent                                 trace the node, metrics on port 9465
  curl -s localhost:9465/metrics                 what it found
  hoptrace agent --identity static:names.toml    with names of workloads and services
  hoptrace config --max-series 100 > h.toml      the effective configuration as a file
  hoptrace agent --config h.toml                 and how to use it
  hoptrace completions bash > /etc/bash_completion.d/hoptrace";

/// A subcommand.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Trace this node and serve metrics until told to stop
    #[command(long_about = AGENT_ABOUT, after_long_help = AGENT_EXAMPLES)]
    Agent(AgentCommand),
    /// Check what this node offers, and what would be lost by what it does not
    #[command(long_about = DOCTOR_ABOUT)]
    Doctor(DoctorCommand),
    /// Print the effective configuration and where each value comes from
    #[command(long_about = CONFIG_ABOUT)]
    Config(AgentArgs),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

const AGENT_ABOUT: &str = "\
Trace this node and serve metrics until told to stop (SIGINT or SIGTERM).

Every option can be given as a flag, as a variable HOPTRACE_*, or in the TOML file named by \
--config; the first of these wins. Needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or root) to \
start, and drops every capability once the hooks are attached.";

const AGENT_EXAMPLES: &str = "\
Examples:
  hoptrace agent --listen 127.0.0.1:9465
  hoptrace agent --labels destination_workload,response_code --response-code exact
  hoptrace agent --cgroup-root /sys/fs/cgroup/kubepods.slice
  HOPTRACE_LOG=tracer_user=debug,warn hoptrace agent";

const DOCTOR_ABOUT: &str = "\
Check what this node offers, and what would be lost by what it does not.

Tiny programs and maps are really loaded, and let go at once. Exits with 0 when everything is \
there, 1 when the agent cannot run, 2 when it runs but something is lost.

Takes the options of `hoptrace agent`. With --identity kubernetes the API is asked whether it \
answers and what it lets the agent see.";

const CONFIG_ABOUT: &str = "\
Print the effective configuration and where each value comes from.

Takes the options of `hoptrace agent`, and prints TOML that --config takes.";

/// Arguments of `hoptrace agent`.
#[derive(Args, Debug)]
pub struct AgentCommand {
    /// The options.
    #[command(flatten)]
    pub args: AgentArgs,
    /// Print the effective configuration as TOML and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Arguments of `hoptrace doctor`.
#[derive(Args, Debug)]
pub struct DoctorCommand {
    /// The options that the agent is to have: those of its names are looked at too.
    #[command(flatten)]
    pub args: AgentArgs,
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
}
