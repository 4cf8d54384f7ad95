//! `cargo xtask cluster`: a real Kubernetes of one node to look at, that stays until it is taken
//! down.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use hoptrace_cluster::{
    Cluster, ClusterState, Component, KUBERNETES_VERSION, NODE_NETNS, Options, PODS, Tools,
    clean_stale,
};
use hoptrace_lab::{need_root, netns, signals};

use crate::apt::Apt;
use crate::image::{self, Name};
use crate::{paths, setup};

mod fetch;
mod kubernetes;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch and build what the cluster is made of, and nothing else.
    Fetch,
    /// Bring the cluster up, and leave it running.
    Up(Up),
    /// Show the cluster, if there is one.
    Status,
    /// Take the cluster down.
    Down,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Archives of images to import (`cargo xtask image` makes some).
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Where it works; on a disk, for images are unpacked there.
    #[arg(long, default_value_os_t = Options::default_dir())]
    dir: PathBuf,
}

/// Does what was asked.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Fetch => fetch().map(drop),
        Command::Up(options) => up(options),
        Command::Status => status(),
        Command::Down => down(),
    }
}

/// Fetches and builds what is missing.
///
/// # Errors
/// Something cannot be fetched or built.
pub(crate) fn fetch() -> Result<Tools> {
    setup::ensure()?;
    let places = Tools::places()?;
    fetch::ensure(&places)?;
    kubernetes::ensure(&places)?;
    Tools::find()
}

/// What a cluster of ours is made of, all of it there.
///
/// # Errors
/// Something cannot be fetched or built.
pub(crate) fn options(dir: PathBuf, logs: PathBuf) -> Result<Options> {
    let tools = fetch()?;
    Ok(Options {
        tools,
        pods: PODS.to_owned(),
        pause: pause()?,
        dir,
        logs,
    })
}

/// An apt of our own for the releases that tools and sources are taken from.
fn apt() -> Result<Apt> {
    Apt::open(
        &paths::cache()?.join("cluster-apt"),
        &["bookworm", "trixie"],
        Some("bookworm"),
        "cargo xtask cluster fetch",
    )
}

/// The image that holds pods' namespaces: its archive and its name.
fn pause() -> Result<(PathBuf, String)> {
    let output = image::default_output();
    let target = image::Target::host(&output)?;
    image::make(&[Name::Pause], &target)?;
    Ok((target.archive(Name::Pause), Name::Pause.reference()))
}

fn up(asked: &Up) -> Result<()> {
    need_root()?;
    let options = options(asked.dir.clone(), paths::target().join("cluster/logs"))?;
    signals::on_interrupt()?;
    let started = Instant::now();
    let said = |what: &str| {
        eprintln!("  {:5.1} s  {what}", started.elapsed().as_secs_f64());
    };
    let cluster = Cluster::up(&options, &said)?;
    for archive in &asked.image {
        for image in cluster.import(archive)? {
            said(&format!("image {image}"));
        }
    }
    let state = cluster.state();
    cluster.keep()?;
    println!(
        "✓ Kubernetes {KUBERNETES_VERSION} is up after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    explain(&state, &options.tools);
    Ok(())
}

/// How to use it.
fn explain(state: &ClusterState, tools: &Tools) {
    println!("\nIts API:");
    println!("  export KUBECONFIG={}", state.kubeconfig().display());
    println!(
        "  alias k='nsenter --net={} {}'",
        netns::path(NODE_NETNS).display(),
        tools.kubectl.display()
    );
    println!("  k get pods --all-namespaces");
    println!("\nLogs: {}", state.logs.display());
    println!("End:  cargo xtask cluster down");
}

fn status() -> Result<()> {
    let Some(state) = hoptrace_cluster::status()? else {
        println!("no cluster is up; `cargo xtask cluster up` brings one up");
        return Ok(());
    };
    if state.is_stale() {
        println!("left by a program that was killed; `cargo xtask cluster down` removes it");
    } else if !state.kept {
        println!("of process {}", state.creator.pid);
    }
    for (component, process) in &state.processes {
        let runs = if process.is_alive() { "runs" } else { "ended" };
        println!("  {:24} {runs}, process {}", component.name(), process.pid);
    }
    let started = |wanted| {
        state
            .processes
            .iter()
            .any(|(component, _)| *component == wanted)
    };
    for component in Component::ALL
        .into_iter()
        .filter(|wanted| !started(*wanted))
    {
        println!("  {:24} was not started", component.name());
    }
    explain(&state, &Tools::places()?);
    Ok(())
}

fn down() -> Result<()> {
    need_root()?;
    signals::on_interrupt()?;
    if clean_stale().context("what a killed run left")? {
        println!("✓ what a killed run left is removed");
    } else if Cluster::down_any()? {
        println!("✓ the cluster is down");
    } else {
        println!("no cluster is up");
    }
    Ok(())
}
