//! Debian packages fetched into the cache by an apt whose configuration is ours: the system's sources,
//! lists and packages stay as they are. Needs no root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{paths, run};

/// The suite whose archive the others are in; it is among the system's sources.
const SYSTEM_SUITE: &str = "bookworm";
/// Debian's keys, old and new.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with a directory of its own.
pub(crate) struct Apt {
    directory: PathBuf,
    /// The command that wanted it, to be run again after a failure.
    wanted_by: &'static str,
}

impl Apt {
    /// Writes the configuration and fetches the lists of these suites; `source` is one whose source
    /// packages are wanted too.
    ///
    /// # Errors
    /// The system has no apt, or one that knows no Debian 12; the archive cannot be reached.
    pub(crate) fn open(
        directory: &Path,
        suites: &[&str],
        source: Option<&str>,
        wanted_by: &'static str,
    ) -> Result<Self> {
        let this = Self {
            directory: directory.to_path_buf(),
            wanted_by,
        };
        let archive = system_archive()?;
        let writing = || format!("cannot write {}", directory.display());
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part)).with_context(writing)?;
        }
        fs::write(
            directory.join("sources.list"),
            sources(&archive, suites, source),
        )
        .with_context(writing)?;
        fs::write(this.configuration(), configuration(directory)).with_context(writing)?;
        run::quiet(
            &format!("lists of Debian packages ({})", suites.join(", ")),
            this.command("apt-get").args(["-q", "update"]),
        )
        .map_err(|error| this.unreachable(&error))?;
        Ok(this)
    }

    /// Names of packages that begin and end so.
    ///
    /// # Errors
    /// apt-cache fails.
    pub(crate) fn names(&self, prefix: &str, suffix: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["pkgnames", prefix])
            .output()
            .context("cannot start apt-cache")?;
        if !output.status.success() {
            bail!(
                "apt-cache fails: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let names = String::from_utf8_lossy(&output.stdout);
        Ok(names
            .lines()
            .filter(|name| name.ends_with(suffix))
            .map(str::to_owned)
            .collect())
    }

    /// Fetches packages, without what they depend on, and unpacks them into one directory.
    ///
    /// # Errors
    /// The archive has not all of them, or cannot be reached.
    pub(crate) fn unpack(&self, what: &str, names: &[String], into: &Path) -> Result<()> {
        let archives = self.empty_archives()?;
        run::quiet(
            what,
            self.command("apt-get")
                .current_dir(&archives)
                .args(["-q", "download"])
                .args(names),
        )
        .map_err(|error| self.unreachable(&error))?;
        unpack_all(&archives, into)
    }

    /// Fetches a package of a suite with everything that it needs and the system has not, and unpacks
    /// it all into one directory. Nothing is installed.
    ///
    /// # Errors
    /// As [`Apt::unpack`].
    pub(crate) fn unpack_closure(
        &self,
        what: &str,
        suite: &str,
        name: &str,
        into: &Path,
    ) -> Result<()> {
        let archives = self.empty_archives()?;
        run::quiet(
            what,
            self.command("apt-get")
                .args(["-q", "-y", "--download-only", "--no-install-recommends"])
                // Also where the system has some version of it.
                .args(["--reinstall", "--target-release", suite, "install", name]),
        )
        .map_err(|error| self.unreachable(&error))?;
        unpack_all(&archives, into)
    }

    /// Fetches the upstream tarball of a source package, given as `name=version`.
    ///
    /// # Errors
    /// The archive has not this version, or cannot be reached.
    pub(crate) fn source_tarball(&self, what: &str, package: &str, into: &Path) -> Result<()> {
        fs::create_dir_all(into).with_context(|| format!("cannot write {}", into.display()))?;
        run::quiet(
            what,
            self.command("apt-get").current_dir(into).args([
                "-q",
                "source",
                "--download-only",
                "--tar-only",
                package,
            ]),
        )
        .map_err(|error| self.unreachable(&error))
        .map(drop)
    }

    fn unreachable(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!(
            "apt cannot fetch what is missing: check the network or the proxy (apt reads \
             http_proxy), then run `{}` again\n{error:#}",
            self.wanted_by
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.configuration())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }

    /// What an earlier run fetched is unpacked already, or was not wanted.
    fn empty_archives(&self) -> Result<PathBuf> {
        let archives = self.directory.join("archives");
        let emptying = || format!("cannot empty {}", archives.display());
        paths::remove_tree(&archives)?;
        fs::create_dir_all(archives.join("partial")).with_context(emptying)?;
        Ok(archives)
    }
}

/// Where the system itself fetches Debian 12 from: a mirror, perhaps, or a proxy.
fn system_archive() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
        .output()
        .context("cannot start apt-get: what is wanted are Debian packages")?;
    archive(&String::from_utf8_lossy(&output.stdout)).with_context(|| {
        format!(
            "apt has no source of Debian's {SYSTEM_SUITE}: add one to its sources; what is \
             wanted is fetched from the same archive"
        )
    })
}

fn archive(targets: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(suite, _)| *suite == SYSTEM_SUITE)
        .map(|(_, uri)| uri.trim().to_owned())
}

fn sources(archive: &str, suites: &[&str], source: Option<&str>) -> String {
    let binary = suites.iter().map(|suite| ("deb", *suite));
    binary
        .chain(source.map(|suite| ("deb-src", suite)))
        .map(|(kind, suite)| format!("{kind} [signed-by={KEYRING}] {archive} {suite} main\n"))
        .collect()
}

/// The system's own configuration is read too (for proxies); what would touch the system is not
/// left to it.
fn configuration(directory: &Path) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let settings = [
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Dir::Etc::preferences", "/dev/null".to_owned()),
        ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
        ("Dir::State::lists", at("lists")),
        ("Dir::State::extended_states", at("extended_states")),
        ("Dir::Cache", directory.display().to_string()),
        ("Dir::Cache::archives", at("archives")),
        // The descriptions and icons of a desktop are not wanted.
        ("Acquire::Languages", "none".to_owned()),
        (
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
            "false".to_owned(),
        ),
        // The directories are the caller's, and nobody else locks them.
        ("APT::Sandbox::User", String::new()),
        ("Debug::NoLocking", "true".to_owned()),
        // Some systems throw away at once what was fetched.
        ("APT::Keep-Downloaded-Packages", "true".to_owned()),
    ];
    let mut text: String = settings
        .iter()
        .map(|(name, value)| format!("{name} \"{value}\";\n"))
        .collect();
    for hooks in [
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
        "DPkg::Post-Invoke",
    ] {
        text += &format!("#clear {hooks};\n");
    }
    text
}

fn unpack_all(archives: &Path, into: &Path) -> Result<()> {
    let reading = || format!("cannot read {}", archives.display());
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut unpacked = 0;
    for entry in fs::read_dir(archives).with_context(reading)? {
        let package = entry.with_context(reading)?.path();
        if package
            .extension()
            .is_none_or(|extension| extension != "deb")
        {
            continue;
        }
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(&package).arg(into);
        let output = command.output().context("cannot start dpkg-deb")?;
        if !output.status.success() {
            bail!(
                "cannot unpack {}: {}",
                package.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
        unpacked += 1;
    }
    if unpacked == 0 {
        bail!(
            "apt says it is done, and there is no package in {}",
            archives.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_systems_own() {
        let targets = "bookworm-updates http://mirror.example/updates/\n\
                       bookworm http://mirror.example/debian/\n";
        assert_eq!(
            archive(targets).as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(archive("jammy http://mirror.example/\n"), None);
    }

    #[test]
    fn sources_are_wanted_of_one_suite() {
        let text = sources(
            "http://a/debian/",
            &["bookworm", "trixie"],
            Some("bookworm"),
        );
        assert_eq!(text.matches("deb [").count(), 2);
        assert!(
            text.contains("deb-src [") && text.ends_with("bookworm main\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_of_the_systems_is_written_to() {
        let text = configuration(Path::new("/cache/apt"));
        for setting in ["Dir::State::lists", "Dir::Cache", "Dir::Cache::archives"] {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{setting} ")))
                .unwrap();
            assert!(line.contains("\"/cache/apt"), "{line}");
        }
    }
}
