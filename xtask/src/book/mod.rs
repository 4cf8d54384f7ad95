//! `cargo xtask book`: the pages as a book in `target/book/html`, and whether every link in it leads
//! somewhere.
//!
//! mdBook sees nothing outside of its source directory, and the pages link to what is beside `docs/`. So
//! [`stage`] lays out the chapters of `docs/SUMMARY.md`, and what they link to, as they lie in the
//! repository; mdBook makes the book of that; [`check`] follows every link of what it made.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use hoptrace_lab::pinned::MDBOOK;

use crate::{paths, run, setup};

mod check;
mod stage;

/// Builds it and follows its links.
///
/// # Errors
/// mdBook is missing or fails, a page is in no chapter, or a link leads nowhere.
pub(crate) fn run() -> Result<()> {
    setup::ensure()?;
    let first = build()?.join("index.html");
    eprintln!("  open {}", first.display());
    Ok(())
}

/// # Errors
/// As [`run()`].
pub(crate) fn lint() -> Result<()> {
    build().map(drop)
}

fn build() -> Result<PathBuf> {
    let home = paths::target().join("book");
    paths::remove_tree(&home)?;
    let chapters = stage::stage(&paths::root(), &home)?;
    let mut mdbook = Command::new(MDBOOK.find()?);
    run::quiet("mdBook", mdbook.arg("build").arg(&home))?;
    let html = home.join("html");
    let links = check::follow(&html)?;
    eprintln!("✓ book: {chapters} chapters, {links} links followed");
    Ok(html)
}
