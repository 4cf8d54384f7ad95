//! Debian packages: which are missing, and their installation without starting any service.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{paths, run};

/// A compiler with core's sources and the LLVM of the linker (Debian 12, security archive).
pub(super) const COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// To build bpf-linker.
pub(super) const LINKER: &[&str] = &[
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
];
/// To build images for arm64, and to try what is in them.
pub(super) const ARM64: &[&str] = &[
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user-static",
];
/// A C compiler for what the agent bundles; the lab's pods, services, scrapes and
/// images; clients and servers of others for the tests; a browser for the page, with letters.
pub(super) const BASE: &[&str] = &[
    "busybox-static",
    "chromium",
    "curl",
    "fonts-dejavu-core",
    "gcc",
    "libc6-dev",
    "iproute2",
    "iptables",
    "libcap2-bin",
    "nghttp2-client",
    "nginx-light",
    "openjdk-17-jre-headless",
    "openssl",
    "prometheus",
    "python3-pip",
    "tomcat10-common",
    "util-linux",
];

/// The article's own capitol-info (`cargo xtask lab up --flavour jvm`).
pub(super) const JVM: &[&str] = &[
    "libhikaricp-java",
    "libjackson2-databind-java",
    "libpostgresql-jdbc-java",
    "libspring-jdbc-java",
    "libspring-web-servlet-java",
    "libtomcat9-java",
    "openjdk-17-jdk-headless",
    "postgresql-15",
];

/// Of these packages, those that are not installed.
pub(super) fn missing(names: impl Iterator<Item = &'static str>) -> Result<Vec<&'static str>> {
    let names: Vec<_> = names.collect();
    if paths::on_path("dpkg-query").is_none() || paths::on_path("apt-get").is_none() {
        bail!(
            "this system has no apt-get: install the equivalents of {} yourself, then run \
             `cargo xtask setup --skip-packages --toolchain rustup`",
            names.join(", ")
        );
    }
    // It fails when it does not know one of the names, and still lists the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"])
        .args(&names)
        .output()
        .context("asking dpkg-query for the installed packages")?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let installed = installed(&listing);
    Ok(names
        .into_iter()
        .filter(|name| !installed.contains(name))
        .collect())
}

fn installed(listing: &str) -> BTreeSet<&str> {
    listing
        .lines()
        .filter_map(|line| line.strip_prefix("ii"))
        .map(str::trim)
        .collect()
}

/// Installs packages; their services are neither started nor enabled.
pub(super) fn install(names: &[&str]) -> Result<()> {
    if !is_root()? {
        bail!(
            "installing packages needs root: run `apt-get install --no-install-recommends {}` as \
             root, then `cargo xtask setup` again",
            names.join(" ")
        );
    }
    let _guard = ServiceGuard::raise()?;
    // An unreachable archive is not yet an error: the packages may be on the machine.
    let updated = run::quiet("apt-get update", apt_get().arg("update"));
    if let Err(error) = &updated {
        eprintln!("warning: {error:#}");
    }
    let what = format!("apt-get install, packages: {}", names.len());
    run::quiet(
        &what,
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(names),
    )
    .map_err(|error| anyhow!("{}\n{error:#}", reason(&format!("{error:#}"))))?;
    disable_services(names);
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    // Another apt may hold the lock for a while, a machine's daily update for one.
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// What apt's complaint means, in one sentence.
fn reason(output: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if says(&["Unable to locate package", "has no installation candidate"]) {
        "apt does not know a package: setup is written for Debian 12 with its security archive; \
         elsewhere install rustup and run `cargo xtask setup --toolchain rustup`"
    } else if says(&[
        "Could not resolve",
        "Failed to fetch",
        "Unable to connect",
        "Temporary failure",
    ]) {
        "apt cannot reach its package archive: check the network or the proxy (apt reads \
         http_proxy), then run `cargo xtask setup` again"
    } else if says(&[
        "Could not get lock",
        "Unable to acquire the dpkg frontend lock",
    ]) {
        "another package manager is at work: wait for it, then run `cargo xtask setup` again"
    } else {
        "apt could not install the packages: mend what it says, then run `cargo xtask setup` again"
    }
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0"))
}

/// The lab starts its own nginx and prometheus; the packages' must not start at the next boot.
fn disable_services(names: &[&str]) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    for (package, service) in [
        ("nginx-light", "nginx"),
        ("postgresql-15", "postgresql"),
        ("prometheus", "prometheus"),
    ] {
        if names.contains(&package) {
            let what = format!("systemctl disable {service}");
            if let Err(error) =
                run::quiet(&what, Command::new("systemctl").args(["disable", service]))
            {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

/// While it stands, Debian's packages start no service (policy-rc.d answers 101, "forbidden").
struct ServiceGuard {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# hoptrace's setup: start no service while it installs\nexit 101\n";

impl ServiceGuard {
    fn raise() -> Result<Self> {
        let raising = || format!("writing {POLICY}, which keeps packages from starting services");
        match fs::read_to_string(POLICY) {
            // Left behind by an interrupted setup: it is ours to take away.
            Ok(text) if text == POLICY_TEXT => return Ok(Self { ours: true }),
            Ok(_) => return Ok(Self { ours: false }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(raising),
        }
        fs::write(POLICY, POLICY_TEXT).with_context(raising)?;
        let guard = Self { ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).with_context(raising)?;
        Ok(guard)
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: remove {POLICY} by hand, services cannot start with it: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let listing = "ii  gcc\nrc  nginx-light\nun  prometheus\nii  libc6-dev\n";
        assert_eq!(installed(listing), BTreeSet::from(["gcc", "libc6-dev"]));
    }

    #[test]
    fn each_complaint_has_its_sentence() {
        for (output, word) in [
            ("E: Unable to locate package rustc-web", "Debian 12"),
            ("Err: Could not resolve 'archive'", "network"),
            (
                "E: Could not get lock /var/lib/dpkg/lock",
                "another package manager",
            ),
            ("dpkg: error processing package", "mend"),
        ] {
            assert!(reason(output).contains(word), "{output}");
        }
    }
}
