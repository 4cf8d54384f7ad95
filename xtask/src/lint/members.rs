//! Every crate inherits the workspace's one lint table; a crate that forgets would be lenient
//! without anybody noticing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::paths;

/// The directories of the workspace's crates.
pub(crate) fn directories() -> Result<Vec<PathBuf>> {
    let root = paths::root();
    let manifest = read(&root.join("Cargo.toml"))?;
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(Value::as_array)
        .context("Cargo.toml has no list workspace.members")?;
    Ok(members
        .iter()
        .filter_map(Value::as_str)
        .map(|member| root.join(member))
        .collect())
}

/// # Errors
/// A crate has no `[lints] workspace = true`.
pub(super) fn inherit_lints() -> Result<()> {
    let directories = directories()?;
    for directory in &directories {
        let path = directory.join("Cargo.toml");
        if !inherits(&read(&path)?) {
            bail!(
                "{} does not inherit the lints: add `[lints]` `workspace = true`",
                path.display()
            );
        }
    }
    eprintln!("✓ lint table: inherited by {} crates", directories.len());
    Ok(())
}

fn inherits(manifest: &Table) -> bool {
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    lints.and_then(Value::as_bool) == Some(true)
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.parse()
        .with_context(|| format!("parsing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_inherits() {
        for (manifest, expected) in [
            ("[lints]\nworkspace = true", true),
            ("[lints]\nworkspace = false", false),
            ("[lints.clippy]\nall = 'warn'", false),
            ("[package]\nname = 'x'", false),
        ] {
            assert_eq!(inherits(&manifest.parse().unwrap()), expected, "{manifest}");
        }
    }
}
