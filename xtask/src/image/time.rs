//! The moment and the commit that an image is of.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths;

/// What the sources are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Of the commit, seconds since 1970; `SOURCE_DATE_EPOCH` goes first.
    pub(super) seconds: u64,
    /// The commit, with `-dirty` behind it where files differ; none outside of a checkout.
    pub(super) revision: Option<String>,
}

impl Source {
    /// # Errors
    /// `SOURCE_DATE_EPOCH` is no number.
    pub(super) fn of_checkout() -> Result<Self> {
        let chosen = chosen()?;
        let Some(commit) = git(&["log", "-1", "--format=%H %ct"]) else {
            return Ok(Self {
                seconds: chosen.unwrap_or(0),
                revision: None,
            });
        };
        let (hash, seconds) = commit.split_once(' ').unwrap_or((&commit, "0"));
        let is_dirty = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
        Ok(Self {
            seconds: chosen.unwrap_or(seconds.parse().unwrap_or(0)),
            revision: Some(format!("{hash}{}", if is_dirty { "-dirty" } else { "" })),
        })
    }
}

/// For images in which nothing is ours: no commit changes them, so none dates them.
pub(super) fn of_others() -> Result<u64> {
    Ok(chosen()?.unwrap_or(0))
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn chosen() -> Result<Option<u64>> {
    let Some(text) = env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let seconds = text.parse().with_context(|| {
        format!("SOURCE_DATE_EPOCH is {text:?}: set it to seconds since 1970, or unset it")
    })?;
    Ok(Some(seconds))
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command
        .current_dir(paths::root())
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
