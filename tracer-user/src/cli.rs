//! The command line of `hoptrace`.

use crate::config::{AgentArgs, Buckets, Interval};
use crate::metrics::{LabelSet, ResponseCode};
use crate::recording::Settings;
use crate::requests;
use crate::top::{self, Column};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

mod report;

pub use report::{Header, Percent, ReportCommand, Whose};

/// Latency of every hop of every request in an Envoy mesh, from outside the processes.
#[derive(Parser, Debug)]
#[command(name = "hoptrace", version = DETAILS, long_version = VERSION, disable_version_flag = true)]
#[command(about, long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
#[command(after_help = "Try `hoptrace doctor` first, then `hoptrace agent`. Examples: --help")]
pub struct Cli {
    /// Print the version; -V with what tells this build from others
    // One line for scripts behind the long name, whatever clap makes of long and short.
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The version alone.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version with the commit, the machine and the kernel side of this build.
pub const DETAILS: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("HOPTRACE_COMMIT"),
    "\ntarget: ",
    env!("HOPTRACE_TARGET"),
    "\nkernel object: sha256 ",
    env!("HOPTRACE_OBJECT_HASH"),
);

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
  hoptrace top                                   the same, live in a terminal
  hoptrace requests --min 5ms                    single requests as they come, each a waterfall
  hoptrace report --with URL --without URL       what the sidecars cost, by runs of load
  hoptrace record h.rec --for 10s                what the agent would see, as a file
  hoptrace replay h.rec                          and the metrics it would show
  hoptrace completions bash > /etc/bash_completion.d/hoptrace
  hoptrace man /usr/local/share/man/man1         a manual page for each command";

/// A subcommand.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Trace this node and serve metrics until told to stop
    #[command(long_about = AGENT_ABOUT, after_long_help = AGENT_EXAMPLES)]
    Agent(AgentCommand),
    /// Check what this node offers, and what would be lost by what it does not
    #[command(long_about = DOCTOR_ABOUT)]
    Doctor(DoctorCommand),
    /// Show live what an agent measures: pairs of workloads, and where their time goes
    #[command(long_about = TOP_ABOUT, after_long_help = TOP_EXAMPLES)]
    Top(TopCommand),
    /// Show single requests of an agent as they come, with the way of each
    #[command(long_about = REQUESTS_ABOUT, after_long_help = REQUESTS_EXAMPLES)]
    Requests(RequestsCommand),
    /// Measure what the mesh costs: load with and without the sidecars, what they add, and where
    #[command(long_about = report::ABOUT, after_long_help = report::EXAMPLES)]
    Report(ReportCommand),
    /// Record what comes from the kernel, for `hoptrace replay`
    #[command(long_about = RECORD_ABOUT)]
    Record(RecordCommand),
    /// Print the metrics that an agent would show for a recording
    #[command(long_about = REPLAY_ABOUT)]
    Replay(ReplayCommand),
    /// Print the effective configuration and where each value comes from
    #[command(long_about = CONFIG_ABOUT)]
    Config(ConfigCommand),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Where to; hoptrace.1 and the others go there
        directory: Option<PathBuf>,
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

const TOP_ABOUT: &str = "\
Show live what an agent measures: pairs of workloads, and where their time goes.

Everything comes from the agent's /metrics, so it works for any agent that Prometheus can scrape, and \
needs no rights. Figures are of the time between two looks. `mean`, `p50` and `p99` are of whole requests \
as the caller saw them, or where it is on another node, the called pod. The bar shows how the hops share \
the time that is known. NO_COLOR is respected.";

const TOP_EXAMPLES: &str = "\
Examples:
  hoptrace top
  hoptrace top --agent 10.0.0.7:9465 --sort p99 --filter checkout
  kubectl -n hoptrace port-forward daemonset/hoptrace 9465 & hoptrace top
  hoptrace top --once --json | jq '.pairs[0].hop_mean_seconds'";

const REQUESTS_ABOUT: &str = "\
Show single requests of an agent as they come, with the way of each.

A request has three lines: who asked whom, status and whole time; a bar of its way, first byte to first \
byte; and the hops by their self times. A letter of the bar stands for a 72nd of the time: `a`pp, `i`nbound \
and `o`utbound sidecar, `n`etwork, `l`oopback, and `·` for what is on another node. Small letters are bytes \
that wait to be read or are on their way, capital ones work. An app's own calls are in its part of the bar, \
not in its figure.

Needs no rights. NO_COLOR is respected.";

const REQUESTS_EXAMPLES: &str = "\
Examples:
  hoptrace requests --workload checkout --min 50ms
  hoptrace requests 10.0.0.7:9465 --limit 5
  kubectl -n hoptrace port-forward daemonset/hoptrace 9465 & hoptrace requests
  hoptrace requests --for 10s --json | jq -s 'max_by(.duration_ns)'";

const RECORD_ABOUT: &str = "\
Record what comes from the kernel, for `hoptrace replay`: until told to stop (SIGINT or SIGTERM), \
or for the time given.

In the file are times, addresses, numbers of processes and threads, the names of workloads, and what \
plaintext heads told: kind, status, whether it is a probe, and salted hashes of x-request-id and of the \
trace in traceparent. No byte of a head or a body is, unless --record-heads asks for heads.

Takes the options of `hoptrace agent`, serves nothing, and runs beside an agent.";

const REPLAY_ABOUT: &str = "\
Print the metrics that an agent would show for a recording, in Prometheus' text format.

Needs no rights and no eBPF. The options are those with which it was recorded, unless others are given \
here. A file that is cut off or damaged is told up to there, on standard output, and where it ended on \
standard error; the exit code is then 1.";

const CONFIG_ABOUT: &str = "\
Print the effective configuration and where each value comes from.

Takes the options of `hoptrace agent`, and prints TOML that --config takes, or with --output json an \
object of values and sources.";

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

/// Arguments of `hoptrace top`.
#[derive(Args, Debug)]
pub struct TopCommand {
    /// Where the agent answers
    #[arg(
        long,
        value_name = "URL",
        env = "HOPTRACE_AGENT",
        default_value = "http://127.0.0.1:9465"
    )]
    pub agent: String,
    /// A file with the token to show, where /metrics asks for one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long one look is
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub interval: Interval,
    /// What comes first
    #[arg(long, value_enum, value_name = "COLUMN", default_value = "rate")]
    pub sort: Column,
    /// Only pairs with this in the name of a workload, a namespace or a service
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub filter: String,
    /// One look as text, and no more
    #[arg(long)]
    pub once: bool,
    /// As what: of JSON one line for each look, with times in seconds.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// As what something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How to ask for another form than text.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// Print text or JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

impl OutputArgs {
    /// Whether JSON is asked for, in either way.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json || self.output == Output::Json
    }
}

impl From<TopCommand> for top::Options {
    fn from(asked: TopCommand) -> Self {
        Self {
            agent: asked.agent,
            token_file: asked.token_file,
            interval: asked.interval.get(),
            sort: asked.sort,
            filter: asked.filter,
            once: asked.once,
            json: asked.output.is_json(),
        }
    }
}

/// Arguments of `hoptrace requests`.
#[derive(Args, Debug)]
pub struct RequestsCommand {
    /// Where the agent answers
    #[arg(
        value_name = "URL",
        env = "HOPTRACE_AGENT",
        default_value = "http://127.0.0.1:9465"
    )]
    pub agent: String,
    /// A file with the token to show, where the agent asks for one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Only with this in the name of a workload (name.namespace) or a service
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub workload: String,
    /// Only requests that took as long
    #[arg(long, value_name = "TIME")]
    pub min: Option<Interval>,
    /// So many requests, and no more
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroU64>,
    /// For how long [default: until told to stop]
    #[arg(long = "for", value_name = "TIME")]
    pub time: Option<Interval>,
    /// Text or JSON: one line for each request; times are nanoseconds.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl From<RequestsCommand> for requests::Options {
    fn from(asked: RequestsCommand) -> Self {
        Self {
            agent: asked.agent,
            token_file: asked.token_file,
            workload: asked.workload,
            least: asked.min.map(Interval::get),
            limit: asked.limit.map(NonZeroU64::get),
            time: asked.time.map(Interval::get),
            json: asked.output.is_json(),
        }
    }
}

/// Arguments of `hoptrace record`.
#[derive(Args, Debug)]
pub struct RecordCommand {
    /// The file; what was in it is lost
    pub file: PathBuf,
    /// For how long [default: until told to stop]
    #[arg(long = "for", value_name = "TIME")]
    pub time: Option<Interval>,
    /// The options.
    #[command(flatten)]
    pub args: AgentArgs,
}

/// Arguments of `hoptrace replay`.
#[derive(Args, Debug)]
pub struct ReplayCommand {
    /// What `hoptrace record` or `--record` wrote
    pub file: PathBuf,
    /// How long exchanges wait for their neighbours [default: as recorded]
    #[arg(long, value_name = "TIME")]
    pub hold: Option<Interval>,
    /// Greatest number of exchanges that wait [default: as recorded]
    #[arg(long, value_name = "N")]
    pub max_pending: Option<NonZeroUsize>,
    /// Upper bounds of the histograms in seconds [default: as recorded]
    #[arg(long, value_name = "SECONDS")]
    pub buckets: Option<Buckets>,
    /// Common labels to export [default: as recorded]
    #[arg(long, value_name = "LABELS")]
    pub labels: Option<LabelSet>,
    /// Show the status as its class or exactly [default: as recorded]
    #[arg(long, value_name = "HOW")]
    pub response_code: Option<ResponseCode>,
    /// Greatest number of label sets [default: as recorded]
    #[arg(long, value_name = "N")]
    pub max_series: Option<NonZeroUsize>,
}

impl ReplayCommand {
    /// Puts what was given in place of what was recorded.
    pub fn change(&self, settings: &mut Settings) {
        if let Some(hold) = self.hold {
            settings.hold_ns = hold.nanos();
        }
        if let Some(max_pending) = self.max_pending {
            settings.max_pending = max_pending.get();
        }
        if let Some(buckets) = &self.buckets {
            settings.buckets = buckets.clone();
        }
        if let Some(labels) = self.labels {
            settings.labels = labels;
        }
        if let Some(response_code) = self.response_code {
            settings.response_code = response_code;
        }
        if let Some(max_series) = self.max_series {
            settings.max_series = max_series.get();
        }
    }
}

/// Arguments of `hoptrace doctor`.
#[derive(Args, Debug)]
pub struct DoctorCommand {
    /// The options that the agent is to have: those of its names are looked at too.
    #[command(flatten)]
    pub args: AgentArgs,
    /// As what.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `hoptrace config`.
#[derive(Args, Debug)]
pub struct ConfigCommand {
    /// The options.
    #[command(flatten)]
    pub args: AgentArgs,
    /// As what.
    #[command(flatten)]
    pub output: OutputArgs,
}
