//! Which Debian packages the copied files are of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use hoptrace_image::{Content, Node, Tree};

use crate::setup::foreign;

/// What is built here, by its path in an image.
const OURS: [&str; 2] = ["usr/bin/", "usr/share/doc/hoptrace/"];
const DOCUMENTATION: &str = "usr/share/doc";

/// A package that is installed here, or unpacked for another architecture.
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
    let unpacked = foreign::root()?;
    let mut found = BTreeSet::new();
    for (path, entry) in tree.entries() {
        let is_ours = OURS.iter().any(|ours| path.starts_with(ours));
        if let Node::File(Content::Host(host)) = &entry.node
            && !is_ours
        {
            // Directories of documentation are links in some packages.
            let real = host.canonicalize();
            let real = real.with_context(|| format!("looking for {}", host.display()))?;
            found.insert(match Package::unpacked(&real, &unpacked) {
                Some(package) => package,
                None => Package::that_owns(&real)?,
            });
        }
    }
    Ok(found)
}

/// Adds what the packages in the tree say about copyright and licences, where Debian has it.
///
/// # Errors
/// A file belongs to no package, or a package says nothing.
pub(super) fn add_copyrights(tree: &mut Tree) -> Result<()> {
    let unpacked = foreign::root()?;
    for package in packages(tree)? {
        let path = format!("/{DOCUMENTATION}/{}/copyright", package.name);
        // A copied library may be of a package of either kind.
        let mut roots: Vec<PathBuf> = foreign::directories()?;
        let is_unpacked =
            |dir: &PathBuf| Package::unpacked(dir, &unpacked).as_ref() == Some(&package);
        if !roots.iter().any(is_unpacked) {
            roots = vec![PathBuf::from("/")];
        }
        let file = copyright(&package.name, &roots).with_context(|| {
            let name = &package.name;
            format!("the Debian package {name} has no copyright file in /{DOCUMENTATION}/{name}")
        })?;
        tree.file(&path, file, 0o644)?;
    }
    Ok(())
}

/// The file in one of these directories; a package may leave it to another one, by a link.
fn copyright(name: &str, roots: &[PathBuf]) -> Option<PathBuf> {
    let docs: Vec<_> = roots.iter().map(|root| root.join(DOCUMENTATION)).collect();
    let linked = docs
        .iter()
        .find_map(|docs| fs::read_link(docs.join(name)).ok());
    let name = linked.unwrap_or_else(|| PathBuf::from(name));
    docs.iter()
        .map(|docs| docs.join(&name).join("copyright"))
        .find(|path| path.is_file())
}

impl Package {
    /// Of a file in the directory where packages are unpacked, each in a directory of its name.
    fn unpacked(file: &Path, root: &Path) -> Option<Self> {
        let below = file.strip_prefix(root).ok()?;
        let directory = below.components().next()?.as_os_str().to_string_lossy();
        // apt writes the colon of a version like this.
        let fields = directory.replace("%3a", ":").replace('_', "\t");
        Self::parse(&fields)
    }

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
    fn an_unpacked_package_is_known_by_its_directory() {
        let root = Path::new("/cache/debian-arm64");
        let file = root.join("libx_1%3a2.3-4+b1_arm64/usr/lib/libx.so");
        let package = Package::unpacked(&file, root).unwrap();
        assert_eq!(
            (package.name.as_str(), package.version.as_str()),
            ("libx", "1:2.3-4+b1")
        );
        assert_eq!(Package::unpacked(Path::new("/usr/lib/libx.so"), root), None);
    }

    #[test]
    fn the_owner_of_a_file_is_found_under_both_paths() {
        if crate::paths::on_path("dpkg-query").is_none() {
            println!("SKIP the_owner_of_a_file_is_found_under_both_paths: no dpkg-query here");
            return;
        }
        for (path, owner) in [
            ("/usr/bin/dpkg-query", "dpkg"),
            ("/usr/bin/cat", "coreutils"),
        ] {
            assert_eq!(Package::that_owns(Path::new(path)).unwrap().name, owner);
        }
        let error = Package::that_owns(Path::new("/nowhere")).unwrap_err();
        assert!(
            error.to_string().contains("/nowhere belongs to no"),
            "{error}"
        );
    }
}
