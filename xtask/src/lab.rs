//! `cargo xtask lab`: a mesh to look at, that stays until it is taken down.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use hoptrace_lab::{
    Container, Flavour, Lab, LabOptions, LabState, Mode, Pod, Target, clean_stale, envoy,
    need_root, netns, signals,
};

use crate::toolchain::host_cargo;
use crate::{paths, run};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a lab up, and leave it running.
    Up(Up),
    /// Show the labs there are.
    Status,
    /// Take a lab down.
    Down(Down),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How the services are meshed.
    #[arg(long, value_enum, default_value_t = Meshed::Mtls)]
    mode: Meshed,
    /// Which capitol-info there is.
    #[arg(long, value_enum, default_value_t = Made::Native)]
    flavour: Made,
    /// Name of the lab; labs of different names do not touch.
    #[arg(long, default_value = "lab")]
    name: String,
    /// Worker threads of each Envoy.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Give the load pod a sidecar too.
    #[arg(long)]
    load_meshed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Name of the lab.
    #[arg(long, default_value = "lab", conflicts_with = "all")]
    name: String,
    /// Every lab that was left running, and what killed programs left.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Meshed {
    /// No sidecars.
    None,
    /// Sidecars, clear text between them.
    Plain,
    /// Sidecars, mutual TLS between them.
    Mtls,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Made {
    /// One small program with SQLite inside.
    Native,
    /// The article's: Spring MVC, Tomcat, PostgreSQL; needs `cargo xtask setup --jvm`.
    Jvm,
}

impl From<Made> for Flavour {
    fn from(made: Made) -> Self {
        match made {
            Made::Native => Self::Native,
            Made::Jvm => Self::Jvm,
        }
    }
}

impl From<Meshed> for Mode {
    fn from(meshed: Meshed) -> Self {
        match meshed {
            Meshed::None => Self::None,
            Meshed::Plain => Self::Plain,
            Meshed::Mtls => Self::Mtls,
        }
    }
}

/// Does what was asked.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up(options) => up(options),
        Command::Status => status(),
        Command::Down(options) => down(options),
    }
}

fn up(asked: &Up) -> Result<()> {
    need_root()?;
    let envoy = envoy::find()?;
    let mut build = host_cargo("build");
    build.args(["--release", "--package", "hoptrace-lab", "--bins"]);
    run::shown("lab programs", &mut build)?;
    signals::on_interrupt()?;
    clean_stale()?;
    let mut options = LabOptions::new(&asked.name, envoy, paths::cargo_target().join("release"));
    options.mode = asked.mode.into();
    options.flavour = asked.flavour.into();
    options.workers = asked.workers;
    options.load_meshed = asked.load_meshed;
    let lab = Lab::up(&options)?;
    let (took, state) = (lab.startup_time(), lab.state().clone());
    lab.keep()?;
    println!(
        "✓ lab `{}` is up after {:.2} s, mode {}",
        state.name,
        took.as_secs_f64(),
        state.mode
    );
    explain(&state);
    Ok(())
}

/// How to use it.
fn explain(lab: &LabState) {
    let enter = format!(
        "nsenter --net={}",
        netns::path(&Pod::Load.netns(&lab.name)).display()
    );
    println!("\nRequests, from the load pod:");
    for (target, path, what) in [
        (Target::Page, "", "a page, answered by NGINX"),
        (Target::Gateway, "capitols", "through NGINX to capitol-info"),
        (Target::Info, "capitols", "straight to capitol-info"),
    ] {
        println!(
            "  {enter} curl -s {}{path}   # {what}",
            lab.url(Pod::Load, target)
        );
    }
    let identity = lab.identity_file();
    println!("\nAn agent on it:");
    println!(
        "  {} agent --cgroup-root {} --identity static:{} --listen 127.0.0.1:9465",
        paths::cargo_target().join("release/hoptrace").display(),
        lab.cgroup_root.display(),
        identity.display()
    );
    println!("  curl -s http://127.0.0.1:9465/metrics");
    println!("\nFiles:");
    println!("  cgroups   {}", lab.cgroup_root.display());
    println!("  identity  {}", identity.display());
    for pod in Pod::ALL.into_iter().filter(|pod| lab.is_meshed(*pod)) {
        println!(
            "  access    {}   # {}",
            lab.access_log_file(pod).display(),
            pod.workload()
        );
    }
    println!("\nEnd: cargo xtask lab down --name {}", lab.name);
}

fn status() -> Result<()> {
    let labs = Lab::list()?;
    if labs.is_empty() {
        println!("no lab is up; `cargo xtask lab up` brings one up");
    }
    for lab in labs {
        let owner = if lab.kept {
            "left running".to_owned()
        } else if lab.is_stale() {
            "left by a program that was killed; `cargo xtask lab down --all` removes it".to_owned()
        } else {
            format!("of process {}", lab.creator.pid)
        };
        println!("{} (mode {}, {owner})", lab.name, lab.mode);
        for entry in &lab.processes {
            let container = match entry.container {
                Container::App => "app",
                Container::Sidecar => "sidecar",
            };
            let state = if entry.process.is_alive() {
                "runs"
            } else {
                "ended"
            };
            let (workload, pid) = (entry.pod.workload(), entry.process.pid);
            println!("  {workload:15} {container:8} {state}, process {pid}");
        }
        println!(
            "  cgroups {}\n  files   {}",
            lab.cgroup_root.display(),
            lab.dir.display()
        );
    }
    Ok(())
}

fn down(asked: &Down) -> Result<()> {
    if !asked.all {
        Lab::down_by_name(&asked.name)?;
        println!("✓ lab `{}` is down", asked.name);
        return Ok(());
    }
    for name in clean_stale()? {
        println!("✓ lab `{name}`, left by a killed program, is down");
    }
    for lab in Lab::list()? {
        if lab.kept {
            Lab::down_by_name(&lab.name)?;
            println!("✓ lab `{}` is down", lab.name);
        } else {
            let (name, pid) = (lab.name, lab.creator.pid);
            println!("- lab `{name}` stays: process {pid} uses it (--name {name} ends it)");
        }
    }
    Ok(())
}
