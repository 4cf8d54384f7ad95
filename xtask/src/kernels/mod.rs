//! `cargo xtask kernels`: does all of it work on other kernels than this machine's?
//!
//! Each kernel boots under QEMU into a file system of our own ([`image`], [`cpio`]). Its first
//! process makes two pods, starts the agent and sends traffic through both (`init.sh`), straight and
//! through a sidecar; what it says on its console ([`console`]) is judged here ([`judge`]).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use hoptrace_image::Tree;
use hoptrace_lab::signals;

use crate::paths;

mod console;
mod cpio;
mod guest;
mod image;
mod judge;
mod release;
mod store;
mod table;

use release::{SERIES, Series};
use store::{Kernel, Store};
use table::Row;

/// How often a guest is started that stops before its first process begins: emulated machines now
/// and then do.
const BOOTS: u32 = 2;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this series of kernels; may be given several times [default: all of them]
    #[arg(long, value_name = "SERIES", value_parser = PossibleValuesParser::new(SERIES.map(|it| it.name)))]
    kernel: Vec<String>,
    /// Keep what each guest said on its console in this directory [default: target/kernels]
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,
}

/// Boots each, prints a table. A kernel that fails is an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    signals::on_interrupt()?;
    let wanted: Vec<&'static Series> = SERIES
        .iter()
        .filter(|series| {
            options.kernel.is_empty() || options.kernel.iter().any(|it| it == series.name)
        })
        .collect();
    image::build()?;
    let mut store = Store::open()?;
    let kernels = store.complete(&wanted)?;
    let common = image::common(&store)?;
    let logs = match &options.keep_logs {
        Some(directory) => directory.clone(),
        None => paths::target().join("kernels"),
    };
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mut rows = Vec::new();
    for kernel in &kernels {
        let row = try_kernel(&store, &common, kernel, &logs)?;
        eprintln!(
            "{} Linux {} ({:.0} s)",
            if row.findings.faults.is_empty() {
                "✓"
            } else {
                "✗"
            },
            kernel.release,
            row.seconds
        );
        rows.push(row);
    }
    print!("{}", table::show(&rows));
    let failed = rows
        .iter()
        .filter(|row| !row.findings.faults.is_empty())
        .count();
    if failed > 0 {
        bail!(
            "{failed} of {} kernels failed; what they said is in {}",
            rows.len(),
            logs.display()
        );
    }
    Ok(())
}

fn try_kernel(store: &Store, common: &Tree, kernel: &Kernel, logs: &Path) -> Result<Row> {
    let full = kernel.release.full();
    let archive = paths::target().join("kernels").join("initramfs.cpio");
    fs::write(&archive, image::archive(common, kernel)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let log = logs.join(format!("{full}.log"));
    let mut boots = 0;
    loop {
        boots += 1;
        eprintln!("… Linux {}", kernel.release);
        let life = guest::live(store, kernel, &archive, &log)?;
        if life.console.section("kernel").is_none() && boots < BOOTS {
            eprintln!("  it stopped before its first process began; once more");
            continue;
        }
        return Ok(Row {
            release: kernel.release.to_string(),
            findings: judge::judge(kernel.series, &life.console),
            seconds: life.seconds,
            boots,
        });
    }
}
