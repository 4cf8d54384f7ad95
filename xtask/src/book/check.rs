//! Whether every link of the book leads somewhere inside of it, and nothing of it is fetched from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Shown by a server for what is not there; its links are from the server's root.
const NOT_FOUND: &str = "404.html";

/// One page as mdBook made it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Html {
    /// What links can lead to.
    ids: BTreeSet<String>,
    /// Where its links lead.
    links: Vec<String>,
    /// What a browser fetches to show it.
    parts: Vec<String>,
}

/// Follows every link of every page below a directory; returns how many there are.
///
/// # Errors
/// Some lead nowhere, or a page is not complete without the network: the error names each.
pub(super) fn follow(directory: &Path) -> Result<usize> {
    let mut pages = BTreeMap::new();
    collect(directory, &mut pages)?;
    let (mut count, mut wrong) = (0, Vec::new());
    for (path, page) in &pages {
        let shown = path.strip_prefix(directory).unwrap_or(path).display();
        let outside = page.parts.iter().filter(|part| is_elsewhere(part));
        wrong.extend(outside.map(|part| format!("{shown} fetches {part}")));
        let inside = page.links.iter().chain(&page.parts);
        for link in inside.filter(|link| !is_elsewhere(link)) {
            count += 1;
            if let Some(reason) = fault(path, link, &pages) {
                wrong.push(format!("{shown}: {link}: {reason}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} links lead nowhere:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        );
    }
    Ok(count)
}

fn collect(directory: &Path, pages: &mut BTreeMap<PathBuf, Html>) -> Result<()> {
    let reading = || format!("reading {}", directory.display());
    for entry in fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = entry.path();
        if entry.file_type().with_context(reading)?.is_dir() {
            collect(&path, pages)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "html")
            && entry.file_name() != NOT_FOUND
        {
            let text = fs::read_to_string(&path).with_context(reading)?;
            // The order of the file system's, with `..` in none of them.
            pages.insert(path.canonicalize().with_context(reading)?, Html::of(&text));
        }
    }
    Ok(())
}

fn is_elsewhere(link: &str) -> bool {
    let scheme = link.split([':', '/', '#', '?']).next().unwrap_or_default();
    link.get(scheme.len()..)
        .is_some_and(|rest| rest.starts_with(':'))
        || link.starts_with("//")
}

/// Why a link of a page leads nowhere.
fn fault(page: &Path, link: &str, pages: &BTreeMap<PathBuf, Html>) -> Option<&'static str> {
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let file = file.split('?').next().unwrap_or_default();
    let path = if file.is_empty() {
        page.to_path_buf()
    } else {
        match page.parent().unwrap_or(page).join(file).canonicalize() {
            Ok(path) => path,
            Err(_) => return Some("no such file"),
        }
    };
    if fragment.is_empty() {
        return None;
    }
    let there = pages.get(&path).is_some_and(|to| to.ids.contains(fragment));
    (!there).then_some("no such heading")
}

impl Html {
    fn of(text: &str) -> Self {
        let mut page = Self::default();
        // In text `<` is written `&lt;`, so what follows one is a tag.
        for tag in text.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            page.ids.extend(attribute(tag, "id"));
            page.parts.extend(attribute(tag, "src"));
            let link = attribute(tag, "href");
            if tag.starts_with("link ") {
                page.parts.extend(link);
            } else {
                page.links.extend(link);
            }
        }
        page
    }
}

/// The value of a tag's attribute.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag
        .split(&format!(" {name}=\""))
        .nth(1)?
        .split('"')
        .next()?;
    Some(value.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_all_kinds_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("b.html", "<h1 id=\"here\">b</h1>");
        let check = |text: &str| {
            write("a.html", text);
            follow(directory.path()).map_err(|error| format!("{error:#}"))
        };
        let good = "<a href=\"b.html#here\">b</a> <a href=\"https://x.example/y\">x</a> \
                    <a href=\"#top\" id=\"top\">top</a> <img src=\"b.html?v=1\">";
        assert_eq!(check(good), Ok(3));
        for (text, said) in [
            ("<a href=\"c.html\">c</a>", "no such file"),
            ("<a href=\"b.html#there\">b</a>", "no such heading"),
            ("<link href=\"https://x.example/a.css\">", "fetches"),
            ("<script src=\"//x.example/a.js\">", "fetches"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
