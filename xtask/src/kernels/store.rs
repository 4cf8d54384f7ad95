//! What the guests are made of, fetched once into `$HOPTRACE_CACHE/kernels`: kernels with their
//! module for veth, an emulator, a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::release::{self, FLAVOUR, Release, Series};
use crate::apt::Apt;
use crate::paths;

/// Where the kernels, the emulator and the guest's shell come from.
const SUITES: [&str; 4] = [
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie-backports",
];
/// The emulator's suite: Debian 12's own QEMU 7.2 panics 6.12 guests now and then.
const EMULATOR_SUITE: &str = "bookworm-backports";
const EMULATOR: &str = "qemu-system-x86";
/// Major versions below this are not used.
const OLDEST_EMULATOR: u32 = 10;
const SHELL: &str = "busybox-static";
const IMAGE: &str = "vmlinuz";
/// The module that makes pairs of network devices, unpacked.
const VETH: &str = "veth.ko";

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) series: &'static Series,
    pub(super) release: Release,
    directory: PathBuf,
}

impl Kernel {
    /// What a boot loader loads.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    /// The module that makes pairs of network devices.
    pub(super) fn veth(&self) -> PathBuf {
        self.directory.join(VETH)
    }
}

/// Everything there is.
pub(super) struct Store {
    directory: PathBuf,
    /// Opened when the first thing is missing.
    apt: Option<Apt>,
}

impl Store {
    /// # Errors
    /// There is no place for a cache.
    pub(super) fn open() -> Result<Self> {
        let directory = paths::cache()?.join("kernels");
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self {
            directory,
            apt: None,
        })
    }

    /// Fetches what is missing, after saying so.
    ///
    /// # Errors
    /// Something cannot be fetched.
    pub(super) fn complete(&mut self, wanted: &[&'static Series]) -> Result<Vec<Kernel>> {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|series| self.kernel(series).is_none())
            .collect();
        let tools = [
            (self.emulator().is_err(), "QEMU 10, 16 MB"),
            (!self.busybox().is_file(), "busybox, 1 MB"),
        ];
        let mut lines: Vec<_> = tools
            .iter()
            .filter(|(missing, _)| *missing)
            .map(|(_, what)| (*what).to_owned())
            .collect();
        lines.extend(
            missing.iter().map(|series| {
                format!("Linux {} (Debian's cloud kernel, 20 to 51 MB)", series.name)
            }),
        );
        if !lines.is_empty() {
            eprintln!(
                "kernels fetches into {} (nothing is installed):",
                self.directory.display()
            );
            for line in lines {
                eprintln!("  - {line}");
            }
        }
        if self.emulator().is_err() {
            self.fetch_emulator()?;
            self.emulator()?;
        }
        if !self.busybox().is_file() {
            self.fetch_busybox()?;
        }
        wanted
            .iter()
            .map(|series| match self.kernel(series) {
                Some(kernel) => Ok(kernel),
                None => self.fetch_kernel(series),
            })
            .collect()
    }

    /// The static busybox.
    pub(super) fn busybox(&self) -> PathBuf {
        self.directory.join("busybox")
    }

    /// The emulator, started from where it was unpacked.
    pub(super) fn qemu(&self) -> Command {
        let root = self.directory.join("qemu");
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
            .map(|part| root.join(part).display().to_string());
        let mut command = Command::new(root.join("usr/bin/qemu-system-x86_64"));
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        // Its own firmware, not the system's.
        for part in ["usr/share/seabios", "usr/share/qemu"] {
            command.arg("-L").arg(root.join(part));
        }
        command
    }

    /// Whether the emulator starts, and is new enough.
    fn emulator(&self) -> Result<()> {
        let output = self.qemu().arg("--version").output();
        let output = output.context("cannot start QEMU")?;
        let text = String::from_utf8_lossy(&output.stdout);
        match major(&text) {
            Some(version) if version >= OLDEST_EMULATOR => Ok(()),
            _ => bail!(
                "the QEMU in {} says `{}{}`, and version {OLDEST_EMULATOR} or newer is needed: \
                 remove that directory, then run `cargo xtask kernels` again",
                self.directory.join("qemu").display(),
                text.trim(),
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }

    fn kernel(&self, series: &'static Series) -> Option<Kernel> {
        let names: Vec<_> = fs::read_dir(&self.directory)
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let release = release::choose(series, names.iter().map(String::as_str))?;
        let directory = self.directory.join(release.full());
        Some(Kernel {
            series,
            release,
            directory,
        })
    }

    fn fetch_emulator(&mut self) -> Result<()> {
        let partial = self.partial()?;
        self.apt()?
            .unpack_closure("QEMU", EMULATOR_SUITE, EMULATOR, &partial)?;
        let home = self.directory.join("qemu");
        paths::remove_tree(&home)?;
        rename(&partial, &home)
    }

    fn fetch_busybox(&mut self) -> Result<()> {
        let partial = self.partial()?;
        self.apt()?
            .unpack("busybox", &[SHELL.to_owned()], &partial)?;
        let places = ["bin/busybox", "usr/bin/busybox"].map(str::to_owned);
        rename(&first(&partial, &places)?, &self.busybox())?;
        paths::remove_tree(&partial)
    }

    fn fetch_kernel(&mut self, series: &'static Series) -> Result<Kernel> {
        let partial = self.partial()?;
        let apt = self.apt()?;
        // Newer ones come as image and modules, which the package of this name then only names.
        let prefixes = ["linux-image-", "linux-binary-", "linux-modules-"];
        let mut names = Vec::new();
        for prefix in prefixes {
            names.extend(apt.names(&format!("{prefix}{}", series.name), FLAVOUR)?);
        }
        let releases = names
            .iter()
            .filter_map(|name| name.strip_prefix("linux-image-"));
        let release = release::choose(series, releases).with_context(|| {
            format!(
                "the archive has no kernel {} any more: leave it out (--kernel), or give the series \
                 another in xtask/src/kernels/release.rs",
                series.name
            )
        })?;
        if release != Release::new(series.pinned) {
            eprintln!(
                "  Linux {} is not in the archive any more; {release} takes its place",
                series.pinned
            );
        }
        names.retain(|name| {
            prefixes
                .iter()
                .any(|prefix| *name == format!("{prefix}{}", release.full()))
        });
        apt.unpack(&format!("Linux {release}"), &names, &partial)?;
        let directory = self.directory.join(release.full());
        let chosen = self.directory.join("partial-kernel");
        paths::remove_tree(&chosen)?;
        fs::create_dir(&chosen).with_context(|| format!("cannot create {}", chosen.display()))?;
        let full = release.full();
        let images = [
            format!("boot/{IMAGE}-{full}"),
            format!("usr/lib/modules/{full}/{IMAGE}"),
        ];
        rename(&first(&partial, &images)?, &chosen.join(IMAGE))?;
        let modules = ["", "usr/"].map(|top| {
            let path = format!("{top}lib/modules/{full}/kernel/drivers/net/{VETH}");
            [format!("{path}.xz"), path]
        });
        let module = first(&partial, modules.as_flattened())?;
        self.decompress(&module, &chosen.join(VETH))?;
        paths::remove_tree(&directory)?;
        rename(&chosen, &directory)?;
        paths::remove_tree(&partial)?;
        Ok(Kernel {
            series,
            release,
            directory,
        })
    }

    /// Newer modules are compressed; the guest's busybox knows how.
    fn decompress(&self, module: &Path, to: &Path) -> Result<()> {
        if module.extension().is_none_or(|extension| extension != "xz") {
            return rename(module, to);
        }
        let output = Command::new(self.busybox())
            .args(["xz", "-d", "-c"])
            .arg(module)
            .output()
            .context("cannot start busybox")?;
        if !output.status.success() {
            bail!(
                "cannot decompress {}: {}",
                module.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        fs::write(to, output.stdout).with_context(|| format!("cannot write {}", to.display()))
    }

    fn apt(&mut self) -> Result<&Apt> {
        if self.apt.is_none() {
            self.apt = Some(Apt::open(
                &self.directory.join("apt"),
                &SUITES,
                None,
                "cargo xtask kernels",
            )?);
        }
        self.apt.as_ref().context("apt was opened just above")
    }

    /// An empty directory beside the things that it becomes, so that moving is one step.
    fn partial(&self) -> Result<PathBuf> {
        let partial = self.directory.join("partial");
        paths::remove_tree(&partial)?;
        fs::create_dir(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        Ok(partial)
    }
}

/// `QEMU emulator version 10.0.2 (Debian …)`.
fn major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version ")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The first of these files that there is.
fn first(root: &Path, names: &[String]) -> Result<PathBuf> {
    let found = names
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "the packages that were fetched have no {}",
            names.join(" and no ")
        )
    })
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulators_version_is_read() {
        let text = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c)";
        assert_eq!(major(text), Some(10));
        assert_eq!(major("error while loading shared libraries"), None);
    }
}
