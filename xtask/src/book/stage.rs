//! The chapters of the book and what they link to, laid out as in the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const SUMMARY: &str = "docs/SUMMARY.md";
const SETTINGS: &str = "docs/book.toml";
/// Every page in these is a chapter, and so is every page beside them.
const DIRECTORIES: [&str; 2] = ["docs", "deploy"];

/// Fills `home` with what mdBook needs; returns how many chapters there are.
///
/// # Errors
/// A page is in no chapter, a chapter is not there, or a page links to a file that is not there.
pub(super) fn stage(root: &Path, home: &Path) -> Result<usize> {
    let summary = read(&root.join(SUMMARY))?;
    let chapters: BTreeSet<PathBuf> = links(&summary)
        .map(|link| resolved(Path::new(SUMMARY), link))
        .collect::<Result<_>>()?;
    for page in pages(root)? {
        ensure!(
            chapters.contains(&page),
            "{} is not in {SUMMARY}",
            page.display()
        );
    }
    let source = home.join("src");
    put(&home.join("book.toml"), &read(&root.join(SETTINGS))?)?;
    put(&source.join("SUMMARY.md"), &from_root(&summary)?)?;
    for chapter in &chapters {
        let text = read(&root.join(chapter))?;
        for link in links(&text).filter(|link| !is_elsewhere(link)) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() {
                continue;
            }
            let place = || format!("{}: {link}", chapter.display());
            let path = resolved(chapter, file).with_context(place)?;
            if !chapters.contains(&path) {
                attach(root, &source, &path).with_context(place)?;
            }
        }
        put(&source.join(chapter), &text)?;
    }
    Ok(chapters.len())
}

/// Puts a file there that is no page.
fn attach(root: &Path, source: &Path, path: &Path) -> Result<()> {
    ensure!(root.join(path).is_file(), "no such file");
    ensure!(
        path.extension().is_none_or(|extension| extension != "md"),
        "the page is no chapter"
    );
    let to = source.join(path);
    make_parent(&to)?;
    fs::copy(root.join(path), &to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn put(path: &Path, text: &str) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Every page that a person may read, from the root of the repository.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(root, Path::new(""), false, &mut found)?;
    for directory in DIRECTORIES {
        collect(root, Path::new(directory), true, &mut found)?;
    }
    found.retain(|page| page != Path::new(SUMMARY));
    Ok(found)
}

fn collect(root: &Path, directory: &Path, deep: bool, found: &mut Vec<PathBuf>) -> Result<()> {
    let listing = || format!("listing {}", directory.display());
    for entry in fs::read_dir(root.join(directory)).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let path = directory.join(entry.file_name());
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        } else if deep && entry.file_type().with_context(listing)?.is_dir() {
            collect(root, &path, deep, found)?;
        }
    }
    Ok(())
}

/// Targets of the links of a page, but for those in fenced blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let after = prose.flat_map(|line| line.split("](").skip(1));
    after.map(|rest| rest.split(')').next().unwrap_or_default())
}

fn is_elsewhere(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

/// Where a link of a page leads, from the root of the repository.
fn resolved(page: &Path, link: &str) -> Result<PathBuf> {
    let mut path = page.parent().unwrap_or(page).to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => bail!("leads out of the repository"),
        }
    }
    Ok(path)
}

/// The summary with links from the root of the repository.
fn from_root(summary: &str) -> Result<String> {
    let mut text = summary.to_owned();
    for link in links(summary) {
        let path = resolved(Path::new(SUMMARY), link)?;
        text = text.replace(&format!("]({link})"), &format!("]({})", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a summary, one page, and one beside it.
    fn repository(summary: &str, page: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (SUMMARY, summary),
            (SETTINGS, "[book]\n"),
            ("docs/a/page.md", page),
            ("README.md", "# Read me\n"),
            ("deploy/x.yml", "x: 1\n"),
        ] {
            put(&root.path().join(path), text).unwrap();
        }
        root
    }

    #[test]
    fn chapters_and_what_they_link_to_are_laid_out() {
        let root = repository(
            "- [First](../README.md)\n- [Page](a/page.md)\n",
            "[up](../../README.md#read-me), [x](../../deploy/x.yml)\n```text\n[no](no.md)\n```\n",
        );
        let home = root.path().join("out");
        assert_eq!(stage(root.path(), &home).unwrap(), 2);
        let summary = read(&home.join("src/SUMMARY.md")).unwrap();
        assert_eq!(summary, "- [First](README.md)\n- [Page](docs/a/page.md)\n");
        assert!(home.join("src/deploy/x.yml").exists());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let all = "- [First](../README.md)\n- [Page](a/page.md)\n";
        for (summary, page, said) in [
            ("- [First](../README.md)\n", "", "docs/a/page.md is not in"),
            (all, "[x](../../deploy/y.yml)", "no such file"),
            (all, "[x](../../../y.yml)", "out of the repository"),
        ] {
            let root = repository(summary, page);
            let error = stage(root.path(), &root.path().join("out")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(said), "{error}");
        }
    }
}
