//! Which Debian packages the copied files are of.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hoptrace_image::{Content, Node, Tree};

use crate::paths;

/// A package that is installed here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
}

/// The packages of everything in the tree that was not built here.
///
/// # Errors
/// A file belongs to none.
pub(super) fn packages(tree: &Tree) -> Result<BTreeSet<Package>> {
    let mut found = BTreeSet::new();
    for (_, entry) in tree.entries() {
        if let Node::File(Content::Host(host)) = &entry.node
            && !host.starts_with(paths::root())
        {
            // Directories of documentation are links in some packages.
            let real = host.canonicalize();
            let real = real.with_context(|| format!("looking for {}", host.display()))?;
            found.insert(Package::that_owns(&real)?);
        }
    }
    Ok(found)
}

/// Adds what the packages in the tree say about copyright and licences, where Debian has it.
///
/// # Errors
/// A file belongs to no package.
pub(super) fn add_copyrights(tree: &mut Tree) -> Result<()> {
    for package in packages(tree)? {
        let path = format!("/usr/share/doc/{}/copyright", package.name);
        tree.file(&path, &path, 0o644)?;
    }
    Ok(())
}

impl Package {
    fn that_owns(file: &Path) -> Result<Self> {
        let file = file.to_string_lossy();
        // dpkg knows files by the paths in their packages, some of them before /lib became a link.
        let old = file.strip_prefix("/usr");
        let owner = [Some(file.as_ref()), old]
            .into_iter()
            .flatten()
            .find_map(|path| said(Command::new("dpkg-query").args(["--search", path])));
        let owner = owner
            .as_deref()
            .and_then(|said| said.lines().rfind(|line| !line.starts_with("diversion ")))
            .and_then(|line| line.rsplit_once(": "))
            .with_context(|| {
                format!("{file} belongs to no Debian package: what is in the image must be known")
            })?;
        let format = "${Package}\t${Version}\t${Architecture}";
        let mut show = Command::new("dpkg-query");
        let fields = said(show.args(["--show", "--showformat", format, owner.0]));
        Self::parse(fields.as_deref().unwrap_or_default())
            .with_context(|| format!("dpkg-query does not know the package {}", owner.0))
    }

    fn parse(fields: &str) -> Option<Self> {
        let mut fields = fields.split('\t').map(str::to_owned);
        Some(Self {
            name: fields.next().filter(|name| !name.is_empty())?,
            version: fields.next()?,
            architecture: fields.next()?,
        })
    }
}

/// What a program printed, if it succeeded.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_three_fields() {
        let package = Package::parse("libc6\t2.36-9\tamd64").unwrap();
        assert_eq!(package.name, "libc6");
        assert_eq!(package.architecture, "amd64");
        for text in ["", "libc6", "libc6\t2.36"] {
            assert_eq!(Package::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_owner_of_a_file_is_found_under_both_paths() {
        for path in ["/usr/bin/dpkg-query", "/usr/bin/sh"] {
            let package = Package::that_owns(Path::new(path)).unwrap();
            assert!(
                ["dpkg", "dash"].contains(&package.name.as_str()),
                "{package:?}"
            );
        }
        let error = Package::that_owns(Path::new("/nowhere")).unwrap_err();
        assert!(
            error.to_string().contains("/nowhere belongs to no"),
            "{error}"
        );
    }
}
