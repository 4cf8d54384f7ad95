//! Which compiler builds the eBPF side, and in what environment.
//!
//! `core` has no prebuilt form for BPF, so its sources are needed (`rust-src`) and an unstable
//! option (`-Z build-std`). Two toolchains offer both: a rustup nightly, or the distribution's
//! own compiler told to accept unstable options.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths;

/// LLVM of the linker; a compiler's LLVM may be as new as this, not newer.
pub(crate) const LLVM_MAJOR: u32 = 22;
/// A nightly of that LLVM, installed when `setup --toolchain rustup` asks for one.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";
/// What the workspace's `rust-version` says.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// For people: "nightly-… (rustup)" or "/usr (1.96, LLVM 22)".
    pub(crate) name: String,
    bin: PathBuf,
    /// A stable compiler accepts `-Z` only when it is told it may.
    bootstrap: bool,
}

impl Toolchain {
    /// Looks for one, rustup's first; starts no rustup proxy, so nothing is fetched.
    pub(crate) fn find() -> Option<Self> {
        rustup_nightlies()
            .into_iter()
            .chain([PathBuf::from("/usr")])
            .find_map(|prefix| Self::at(&prefix))
    }

    /// Whether it is the system's own, from packages, rather than rustup's.
    pub(crate) fn is_system(&self) -> bool {
        self.bin.starts_with("/usr")
    }

    /// Whether `cargo <subcommand>` is a program that is there.
    pub(crate) fn has(&self, subcommand: &str) -> bool {
        self.bin.join(format!("cargo-{subcommand}")).is_file()
    }

    /// # Errors
    /// There is none: the error says how to get one.
    pub(crate) fn need() -> Result<Self> {
        match Self::find() {
            Some(toolchain) => Ok(toolchain),
            None => bail!(
                "no Rust toolchain here can build eBPF (core's sources and LLVM {LLVM_MAJOR} or \
                 older are needed): run `cargo xtask setup`"
            ),
        }
    }

    fn at(prefix: &Path) -> Option<Self> {
        let bin = prefix.join("bin");
        let sources = prefix.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !sources.is_file() || !bin.join("cargo").is_file() {
            return None;
        }
        let output = Command::new(bin.join("rustc")).arg("-vV").output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        if version.release < OLDEST || version.llvm > LLVM_MAJOR {
            return None;
        }
        Some(Self {
            name: format!(
                "{} ({}.{}, LLVM {})",
                prefix.display(),
                version.release.0,
                version.release.1,
                version.llvm
            ),
            bin,
            bootstrap: !version.nightly,
        })
    }

    /// `cargo <subcommand>` of this toolchain, free of what the cargo that runs us has set.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        // cargo would look for subcommands such as clippy in its home first, where rustup's
        // proxies live: name the file.
        let external = self.bin.join(format!("cargo-{subcommand}"));
        let cargo = self.bin.join("cargo");
        let mut command = Command::new(if external.is_file() {
            &external
        } else {
            &cargo
        });
        for (name, _) in env::vars_os().filter(|(name, _)| is_inherited(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command
            .env("CARGO", &cargo)
            .env("RUSTC", self.bin.join("rustc"))
            .env("RUSTDOC", self.bin.join("rustdoc"))
            .arg(subcommand);
        if self.bootstrap {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// `cargo <subcommand>` on the workspace, by the cargo that runs us, as if a person had typed it:
/// build scripts watch what `cargo run` tells its program, and would build their crates again.
pub(crate) fn host_cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_run(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.current_dir(paths::root()).arg(subcommand);
    command
}

/// Whether the compiler that builds the workspace has a standard library for that target.
pub(crate) fn has_target(target: &str) -> Result<bool> {
    // rustc knows the place of every target, also of those that are not there.
    let dir = host_rustc(&["--print", "target-libdir", "--target", target])?;
    Ok(fs::read_dir(dir.trim()).is_ok_and(|mut entries| entries.next().is_some()))
}

/// The release of the compiler that builds the workspace.
pub(crate) fn rust_version() -> Result<String> {
    let said = host_rustc(&["-vV"])?;
    let release = said.lines().find_map(|line| line.strip_prefix("release: "));
    release.map(str::to_owned).context("rustc names no release")
}

fn host_rustc(arguments: &[&str]) -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .current_dir(paths::root())
        .args(arguments)
        .output()
        .with_context(|| format!("starting {}", rustc.display()))?;
    if !output.status.success() {
        bail!(
            "rustc {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Variables that `cargo run` sets for the program it starts (The Cargo Book, "Environment
/// Variables Cargo sets for crates").
fn is_of_run(name: &str) -> bool {
    const OF_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    OF_PACKAGE.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR"
        )
}

/// Variables by which one cargo or rustup steers the programs it starts. A person's choice of
/// home, network and registry is kept.
fn is_inherited(name: &str) -> bool {
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    const STEERING: [&str; 4] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"];
    let starts = |prefix: &&str| name.starts_with(prefix);
    matches!(name, "RUSTUP_TOOLCHAIN" | "LD_LIBRARY_PATH")
        || (STEERING.iter().any(starts) && !KEPT.iter().any(starts))
}

fn rustup_nightlies() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let Some(entries) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Version {
    release: (u32, u32),
    nightly: bool,
    llvm: u32,
}

impl Version {
    /// Reads what `rustc -vV` says.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?;
        let mut numbers = release.split('.').map(str::parse::<u32>);
        let release_numbers = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
        Some(Self {
            release: release_numbers,
            nightly: release.contains("nightly"),
            llvm,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_stable_and_nightly() {
        let stable = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let nightly = "release: 1.97.0-nightly\nLLVM version: 23.0.0";
        let version = |release, nightly, llvm| {
            Some(Version {
                release,
                nightly,
                llvm,
            })
        };
        assert_eq!(Version::parse(stable), version((1, 96), false, 22));
        assert_eq!(Version::parse(nightly), version((1, 97), true, 23));
        assert_eq!(Version::parse("release: 1.96.0"), None);
    }

    #[test]
    fn steering_variables_are_dropped_and_choices_kept() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
        ] {
            assert!(is_inherited(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_X_INDEX",
            "PATH",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
    }
}
