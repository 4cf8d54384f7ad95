//! No source file grows past the length at which one stops reading it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::members;
use crate::paths;

const MOST_LINES: usize = 600;

/// # Errors
/// A file is too long: the error names each, with its length.
pub(super) fn check() -> Result<()> {
    let mut sources = Vec::new();
    for directory in members::directories()? {
        collect(&directory, &mut sources)?;
    }
    let mut long = Vec::new();
    for path in &sources {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let lines = text.lines().count();
        if lines > MOST_LINES {
            let shown = path.strip_prefix(paths::root()).unwrap_or(path);
            long.push(format!("{} ({lines})", shown.display()));
        }
    }
    if !long.is_empty() {
        bail!(
            "longer than {MOST_LINES} lines, split them by story: {}",
            long.join(", ")
        );
    }
    eprintln!(
        "✓ file size: {} files within {MOST_LINES} lines",
        sources.len()
    );
    Ok(())
}

fn collect(directory: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    let listing = || format!("listing {}", directory.display());
    for entry in fs::read_dir(directory).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let path = entry.path();
        if entry.file_type().with_context(listing)?.is_dir() {
            if entry.file_name() != "target" {
                collect(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}
