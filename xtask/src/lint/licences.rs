//! Licences, sources and versions of the dependencies, by `deny.toml`.
//!
//! Known vulnerabilities are not among it: their list (RustSec) is fetched from a git server, which a
//! check that has to give the same answer tomorrow cannot depend on.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use hoptrace_lab::pinned::CARGO_DENY;

use crate::{paths, run};

/// # Errors
/// A dependency is under a licence, or from a place, that `deny.toml` does not allow; or cargo-deny is
/// not there.
pub(super) fn check() -> Result<()> {
    run::shown("cargo deny", &mut deny(&paths::root())?)
}

/// The check of one workspace, by our rules.
fn deny(workspace: &Path) -> Result<Command> {
    let mut command = Command::new(CARGO_DENY.find()?);
    command
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--config")
        .arg(paths::root().join("deny.toml"))
        .args([
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A workspace of one crate with a dependency by path under this licence.
    fn judged(licence: &str) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let package = |name: &str, licence: &str, dependency: &str| {
            let source = root.join(name).join("src");
            fs::create_dir_all(&source).unwrap();
            fs::write(source.join("lib.rs"), "").unwrap();
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\
                 license = \"{licence}\"\n\n[dependencies]\n{dependency}\n"
            );
            fs::write(root.join(name).join("Cargo.toml"), manifest).unwrap();
        };
        package("guest", licence, "");
        package("host", "MIT", "guest = { path = \"../guest\" }");
        let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"host\", \"guest\"]\n";
        fs::write(root.join("Cargo.toml"), workspace).unwrap();
        let output = deny(root).unwrap().output().unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(words).unwrap())
    }

    #[test]
    fn what_the_rules_do_not_allow_fails() {
        let (passed, words) = judged("MIT OR Apache-2.0");
        assert!(passed, "{words}");
        for licence in [
            "GPL-3.0-only",
            "MIT AND AGPL-3.0-only",
            "MIT AND NOT-A-LICENCE",
        ] {
            let (passed, words) = judged(licence);
            assert!(
                !passed && words.contains("licenses FAILED"),
                "{licence}: {words}"
            );
        }
    }
}
