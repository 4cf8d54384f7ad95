//! `cargo xtask image`: OCI archives of the agent and of what its tests run, without Docker.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hoptrace_image::{Platform, Written};

use crate::paths;

mod attempt;
mod build;
mod debian;
mod recipes;
mod sbom;
mod time;

/// Where the images say they come from; nothing is ever fetched from there by us.
const REPOSITORY: &str = "docker.io/hoptrace";
/// Of every image: the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The agent's archive must not be larger, bytes.
const MOST_BYTES: u64 = 25_000_000;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which images.
    #[arg(value_enum, default_value = "hoptrace")]
    names: Vec<Name>,
    /// Architecture; another than this machine's needs `cargo xtask setup --arm64`
    #[arg(long, value_name = "amd64|arm64", value_parser = str::parse::<Platform>)]
    arch: Option<Platform>,
    /// Where the archives go [default: target/image].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Take our own programs from here instead of building them: for trying things out.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// An image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// The agent; the only one that is meant for others.
    Hoptrace,
    /// The lab's service: capitals of the world.
    CapitolInfo,
    /// The lab's load generator, with a shell.
    Load,
    /// Debian's NGINX, for the gateway.
    Nginx,
    /// The Envoy that setup fetched, for sidecars.
    Envoy,
    /// A shell and iptables, for what istio-init does.
    Tools,
    /// What holds a pod's namespaces.
    Pause,
}

impl Name {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hoptrace => "hoptrace",
            Self::CapitolInfo => "capitol-info",
            Self::Load => "load",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Tools => "tools",
            Self::Pause => "pause",
        }
    }

    /// As a cluster knows it.
    pub(crate) fn reference(self) -> String {
        format!("{REPOSITORY}/{}:{VERSION}", self.as_str())
    }
}

/// What images are made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) platform: Platform,
    pub(crate) output: &'a Path,
    /// Where our own programs are; built and found by themselves otherwise.
    pub(crate) programs: Option<&'a Path>,
}

impl<'a> Target<'a> {
    /// This machine, everything built here.
    ///
    /// # Errors
    /// There are no images for it.
    pub(crate) fn host(output: &'a Path) -> Result<Self> {
        Ok(Self {
            platform: Platform::host()?,
            output,
            programs: None,
        })
    }

    /// A file beside the archives, by what it is.
    fn beside(&self, name: Name, what: &str) -> PathBuf {
        let (name, arch) = (name.as_str(), self.platform);
        self.output.join(format!("{name}-{VERSION}-{arch}{what}"))
    }

    /// The archive of an image.
    pub(crate) fn archive(&self, name: Name) -> PathBuf {
        self.beside(name, ".oci.tar")
    }
}

/// Where archives go unless told otherwise.
pub(crate) fn default_output() -> PathBuf {
    paths::target().join("image")
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let output = options.output.clone().unwrap_or_else(default_output);
    let target = Target {
        platform: options.arch.map_or_else(Platform::host, Ok)?,
        output: &output,
        programs: options.programs.as_deref(),
    };
    make(&options.names, &target).map(drop)
}

/// Makes these images, or finds that they are there already; in the order of the names.
///
/// # Errors
/// Something cannot be built, or the agent's archive is too large.
pub(crate) fn make(names: &[Name], target: &Target<'_>) -> Result<Vec<Written>> {
    build::programs(names, target)?;
    names.iter().map(|name| make_one(*name, target)).collect()
}

fn make_one(name: Name, target: &Target<'_>) -> Result<Written> {
    let started = Instant::now();
    let image = recipes::image(name, target).with_context(|| format!("image {}", name.as_str()))?;
    let archive = target.archive(name);
    let written = image.write(&archive)?;
    let materials = target.beside(name, ".cdx.json");
    if name == Name::Hoptrace && !(written.reused && materials.is_file()) {
        sbom::write(&image, target, &materials)?;
        let said = attempt::version(&image)?;
        println!("✓ it starts: {said}, {}", target.platform);
    }
    println!(
        "✓ {}: {:.1} MB, {} in {:.2} s, {}",
        archive
            .strip_prefix(paths::root())
            .unwrap_or(&archive)
            .display(),
        written.bytes as f64 / 1e6,
        if written.reused {
            "unchanged"
        } else {
            "written"
        },
        started.elapsed().as_secs_f64(),
        image.reference,
    );
    let is_shipped = name == Name::Hoptrace && target.programs.is_none();
    if is_shipped && written.bytes > MOST_BYTES {
        bail!(
            "{} has {:.1} MB, and must not have more than {:.0}: look at what became larger in \
             {}",
            archive.display(),
            written.bytes as f64 / 1e6,
            MOST_BYTES as f64 / 1e6,
            materials.display(),
        );
    }
    Ok(written)
}
