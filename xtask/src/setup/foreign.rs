//! Debian's libraries for arm64, as images for it hold them. Those of the cross compiler get no
//! security updates; these do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, run};

const ARCHITECTURE: &str = "arm64";
/// What a Rust program needs, and the documentation of the second.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "gcc-12-base"];

/// For people.
pub(super) fn describe() -> String {
    format!(
        "Debian packages for {ARCHITECTURE}, unpacked and not installed: {}",
        PACKAGES.join(" ")
    )
}

/// Where they are.
pub(crate) fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join(format!("debian-{ARCHITECTURE}")))
}

/// The directory of each unpacked package, `<name>_<version>_<architecture>`; none before setup.
pub(crate) fn directories() -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(root()?)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

pub(super) fn is_current() -> Result<bool> {
    let directories = directories()?;
    let is_there = |package: &str| {
        directories.iter().any(|dir| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            name.split('_').next() == Some(package)
        })
    };
    Ok(PACKAGES.into_iter().all(is_there))
}

/// Fetches and unpacks them, with lists of apt's own for that architecture: the system's are not
/// touched.
pub(super) fn install() -> Result<()> {
    let root = root()?;
    let partial = root.with_extension("partial");
    let fetched = fetch(&partial);
    let moved = fetched.and_then(|()| {
        let moving = || format!("moving the packages to {}", root.display());
        paths::remove_tree(&root)?;
        fs::rename(partial.join("unpacked"), &root).with_context(moving)
    });
    let _gone = fs::remove_dir_all(&partial);
    moved
}

fn fetch(partial: &Path) -> Result<()> {
    let writing = || format!("writing {}", partial.display());
    let _old = fs::remove_dir_all(partial);
    for dir in [
        "state/lists/partial",
        "cache/archives/partial",
        "debs",
        "unpacked",
    ] {
        fs::create_dir_all(partial.join(dir)).with_context(writing)?;
    }
    run::quiet(
        &format!("apt-get update for {ARCHITECTURE}"),
        apt_get(partial).arg("update"),
    )
    .context("check the network or the proxy (apt reads http_proxy)")?;
    run::quiet(&describe(), apt_get(partial).arg("download").args(PACKAGES))?;
    for entry in fs::read_dir(partial.join("debs")).with_context(writing)? {
        let archive = entry.with_context(writing)?.path();
        let Some(name) = archive.file_stem() else {
            continue;
        };
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&archive);
        unpack.arg(partial.join("unpacked").join(name));
        run::quiet(&format!("unpacking {}", name.display()), &mut unpack)?;
    }
    Ok(())
}

fn apt_get(partial: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .current_dir(partial.join("debs"))
        .env("LC_ALL", "C")
        .arg("-q");
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    for option in [
        format!("APT::Architecture={ARCHITECTURE}"),
        format!("APT::Architectures={ARCHITECTURE}"),
        set("Dir::State", &partial.join("state")),
        // Nothing of that architecture is installed.
        set("Dir::State::status", Path::new("/dev/null")),
        set("Dir::Cache", &partial.join("cache")),
    ] {
        command.args(["-o", &option]);
    }
    command
}
