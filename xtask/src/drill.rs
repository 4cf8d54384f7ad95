//! `cargo xtask drill`: makes something in a chain of services slow, and follows the printed steps to it.

use anyhow::Result;
use clap::Args;
use hoptrace_lab::need_root;

use crate::toolchain::host_cargo;
use crate::{ebpf, run, setup, test};

/// As `tracer-user/tests/faults/drill.rs` reads them.
const ROUNDS: &str = "HOPTRACE_DRILL_ROUNDS";
const SEED: &str = "HOPTRACE_DRILL_SEED";
const NAME: &str = "drill::the_printed_steps_name_the_slow_hop";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often something is made slow
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Which faults, in which order [default: of the clock; printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// A round ends at another hop than the slow one, or something does not run.
pub(crate) fn run(options: &Options) -> Result<()> {
    need_root()?;
    setup::ensure()?;
    ebpf::build()?;
    test::build_programs(false)?;
    let mut command = host_cargo("test");
    command.args(["--package", "tracer-user", "--test", "faults", "--"]);
    command.args(["--exact", "--nocapture", NAME]);
    command.env(ROUNDS, options.rounds.to_string());
    if let Some(seed) = options.seed {
        command.env(SEED, seed.to_string());
    }
    run::shown("drill", &mut command)
}
