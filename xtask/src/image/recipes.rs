//! What is in each image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_image::{Config, FileCapabilities, Image, Platform, Sysroot, Tree};
use hoptrace_lab::envoy;

use super::build::{pause, stripped};
use super::time::{self, Source};
use super::{Name, Target, debian};
use crate::paths;
use crate::setup::foreign;

/// Of the agent and the lab's programs: "nonroot".
const NONROOT: u32 = 65_532;
/// Of Istio's sidecars; the redirection rules let its traffic pass.
const SIDECAR: u32 = 1337;
/// Debian's `www-data`.
const WEB: u32 = 33;
/// Upstream's pause has this one too.
const NOBODY: u32 = 65_535;

/// `CAP_NET_ADMIN`, `CAP_PERFMON`, `CAP_BPF` (linux/capability.h).
const AGENT_CAPABILITIES: [u8; 3] = [12, 38, 39];

const BUSYBOX: &str = "/bin/busybox";
const NGINX: &str = "/usr/sbin/nginx";
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";
const NGINX_CONFIG: &str = "\
# Serves a page until another configuration is mounted over this one.
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen 8080;
    return 200 \"nginx\\n\";
  }
}
";

/// Puts the image together; what it is made of has been built.
pub(super) fn image(name: Name, target: &Target<'_>) -> Result<Image> {
    match name {
        Name::Hoptrace => hoptrace(target),
        Name::CapitolInfo => capitol_info(target),
        Name::Load => load(target),
        Name::Nginx => nginx(target),
        Name::Envoy => envoy(target),
        Name::Tools => tools(target),
        Name::Pause => pause_image(target),
    }
}

fn hoptrace(target: &Target<'_>) -> Result<Image> {
    let at = "/usr/bin/hoptrace";
    let debug = target.beside(Name::Hoptrace, ".debug");
    let program = stripped("hoptrace", target, Some(&debug))?;
    let mut tree = Tree::distroless()?;
    // Permitted only: "effective" would have the kernel refuse to start it where one is missing,
    // and it could not say which. It raises them itself.
    tree.program(at, &program, &sysroot(target.platform)?)?
        .capabilities = Some(FileCapabilities::permitted(&AGENT_CAPABILITIES));
    debian::add_copyrights(&mut tree)?;
    for licence in ["LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT"] {
        let path = format!("/usr/share/doc/hoptrace/{licence}");
        tree.file(&path, paths::root().join(licence), 0o644)?;
    }
    let config = Config {
        entrypoint: words(&[at]),
        command: words(&["agent"]),
        user: both(NONROOT),
        ports: vec![9465],
        ..Config::default()
    };
    ours(Name::Hoptrace, target, config, tree)
}

fn capitol_info(target: &Target<'_>) -> Result<Image> {
    let at = "/usr/bin/capitol-info";
    let program = stripped("capitol-info", target, None)?;
    let mut tree = Tree::distroless()?;
    tree.program(at, &program, &sysroot(target.platform)?)?;
    tree.directory("/data", 0o755)?.owned_by(NONROOT);
    let config = Config {
        entrypoint: words(&[at]),
        user: both(NONROOT),
        ports: vec![8080],
        ..Config::default()
    };
    ours(Name::CapitolInfo, target, config, tree)
}

fn load(target: &Target<'_>) -> Result<Image> {
    need_native(Name::Load, target.platform)?;
    let at = "/usr/bin/hoptrace-load";
    let program = stripped("hoptrace-load", target, None)?;
    let mut tree = Tree::distroless()?;
    tree.program(at, &program, &sysroot(target.platform)?)?;
    busybox(&mut tree)?;
    let config = Config {
        entrypoint: words(&[at]),
        command: words(&["--help"]),
        environment: shell_environment(),
        user: both(NONROOT),
        ..Config::default()
    };
    ours(Name::Load, target, config, tree)
}

fn nginx(target: &Target<'_>) -> Result<Image> {
    need_native(Name::Nginx, target.platform)?;
    let sysroot = sysroot(target.platform)?;
    let mut tree = Tree::distroless()?;
    tree.users(&[("nonroot", NONROOT), ("www-data", WEB)])?;
    tree.program(NGINX, Path::new(NGINX), &sysroot)?;
    for module in files(Path::new(NGINX_MODULES), "so")? {
        tree.program(&path_of(&module), &module, &sysroot)?;
    }
    tree.file("/etc/nginx/mime.types", "/etc/nginx/mime.types", 0o644)?;
    tree.bytes("/etc/nginx/nginx.conf", NGINX_CONFIG, 0o644)?;
    for dir in ["/var/lib/nginx", "/var/log/nginx", "/run"] {
        tree.directory(dir, 0o755)?.owned_by(WEB);
    }
    let config = Config {
        // Debian's would first open a log file where a pod has none.
        entrypoint: words(&[NGINX, "-e", "stderr"]),
        command: words(&["-g", "daemon off;"]),
        user: both(WEB),
        ports: vec![8080],
        ..Config::default()
    };
    others(Name::Nginx, target, config, tree)
}

fn envoy(target: &Target<'_>) -> Result<Image> {
    need_native(Name::Envoy, target.platform)?;
    let at = "/usr/local/bin/envoy";
    let mut tree = Tree::distroless()?;
    tree.users(&[("nonroot", NONROOT), ("istio-proxy", SIDECAR)])?;
    tree.program(at, &envoy::find()?, &sysroot(target.platform)?)?;
    let config = Config {
        entrypoint: words(&[at]),
        command: words(&["--version"]),
        user: both(SIDECAR),
        ..Config::default()
    };
    others(Name::Envoy, target, config, tree)
}

fn tools(target: &Target<'_>) -> Result<Image> {
    need_native(Name::Tools, target.platform)?;
    let sysroot = sysroot(target.platform)?;
    let mut tree = Tree::distroless()?;
    busybox(&mut tree)?;
    // One program for each of the kernel's two interfaces; what it does follows from its name.
    for (backend, variants) in [("nft", ["", "-nft"].as_slice()), ("legacy", &["-legacy"])] {
        let multi = format!("/usr/sbin/xtables-{backend}-multi");
        tree.program(&multi, Path::new(&multi), &sysroot)?;
        for variant in variants {
            for action in ["", "-restore", "-save"] {
                for family in ["ip", "ip6"] {
                    let link = format!("/usr/sbin/{family}tables{variant}{action}");
                    tree.symlink(&link, &multi)?;
                }
            }
        }
    }
    let plugins = format!("/usr/lib/{}/xtables", target.platform.triplet());
    for plugin in files(Path::new(&plugins), "so")? {
        tree.program(&path_of(&plugin), &plugin, &sysroot)?;
    }
    // For the lock of the legacy tables.
    tree.directory("/run", 0o1777)?;
    let config = Config {
        command: words(&["/bin/sh"]),
        environment: shell_environment(),
        ..Config::default()
    };
    others(Name::Tools, target, config, tree)
}

fn pause_image(target: &Target<'_>) -> Result<Image> {
    let mut tree = Tree::new();
    tree.file("/pause", pause(target)?, 0o755)?;
    let config = Config {
        entrypoint: words(&["/pause"]),
        user: both(NOBODY),
        ..Config::default()
    };
    others(Name::Pause, target, config, tree)
}

/// An image of our own programs, dated and named by the commit.
fn ours(name: Name, target: &Target<'_>, config: Config, tree: Tree) -> Result<Image> {
    let source = Source::of_checkout()?;
    let mut image = assemble(name, target, source.seconds, config, tree)?;
    let said = [
        ("version", Some(super::VERSION.to_owned())),
        ("licenses", Some("MIT OR Apache-2.0".to_owned())),
        ("revision", source.revision),
    ];
    image.annotations.extend(
        said.into_iter()
            .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?))),
    );
    Ok(image)
}

/// An image of what others made.
fn others(name: Name, target: &Target<'_>, config: Config, tree: Tree) -> Result<Image> {
    assemble(name, target, time::of_others()?, config, tree)
}

fn assemble(
    name: Name,
    target: &Target<'_>,
    created: u64,
    config: Config,
    tree: Tree,
) -> Result<Image> {
    let title = "org.opencontainers.image.title".to_owned();
    Ok(Image {
        reference: name.reference().parse()?,
        platform: target.platform,
        created,
        config,
        annotations: [(title, name.as_str().to_owned())].into(),
        layers: vec![tree],
    })
}

/// A shell and the usual commands, static.
fn busybox(tree: &mut Tree) -> Result<()> {
    let output = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .with_context(|| format!("starting {BUSYBOX}: run `cargo xtask setup`"))?;
    tree.program(BUSYBOX, Path::new(BUSYBOX), &Sysroot::host()?)?;
    let applets = String::from_utf8_lossy(&output.stdout);
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        tree.symlink(&format!("/bin/{applet}"), BUSYBOX)?;
    }
    Ok(())
}

/// The libraries of that platform.
fn sysroot(platform: Platform) -> Result<Sysroot> {
    if platform == Platform::host()? {
        return Ok(Sysroot::host()?);
    }
    let triplet = platform.triplet();
    let packages = foreign::directories()?;
    if packages.is_empty() {
        bail!("Debian's libraries for {platform} are not here: run `cargo xtask setup --arm64`");
    }
    let directories = packages
        .into_iter()
        .flat_map(|dir| ["lib", "usr/lib"].map(|lib| dir.join(lib).join(triplet)));
    Ok(Sysroot::at(platform, directories.collect()))
}

fn shell_environment() -> BTreeMap<String, String> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    [("PATH".to_owned(), path)].into()
}

/// # Errors
/// It is made of this machine's packages, and another architecture is asked for.
fn need_native(name: Name, platform: Platform) -> Result<()> {
    let host = Platform::host()?;
    if platform != host {
        bail!(
            "it is made of this machine's packages, which are for {host}: leave {} out for \
             {platform}, or make it on such a machine",
            name.as_str()
        );
    }
    Ok(())
}

/// Files of that directory with that extension, sorted; none if there is no directory.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let listing = || format!("listing {}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn path_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// By number, so that a cluster can see that it is not root.
fn both(id: u32) -> String {
    format!("{id}:{id}")
}
