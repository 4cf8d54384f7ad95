//! What the agent's image is made of, as CycloneDX 1.6: <https://cyclonedx.org/docs/1.6/json/>.
//!
//! Crates are those that `cargo tree` names for the target: the agent's, and those of the eBPF
//! object that it embeds. A crate that only helps to compile is listed with the scope "excluded".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hoptrace_image::Image;
use serde::Serialize;
use toml::{Table, Value};

use super::Target;
use super::debian::{self, Package};
use crate::toolchain::{host_cargo, rust_version};
use crate::{paths, run};

/// The agent's crate, and what is embedded in it.
const AGENT: &str = "tracer-user";
const EMBEDDED: (&str, &str) = ("tracer-ebpf", "bpfel-unknown-none");

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    timestamp: String,
    component: Component,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    purl: String,
}

#[derive(Debug, Clone, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Debug, Clone, Serialize)]
struct License {
    expression: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: BTreeSet<String>,
}

/// A crate as `cargo tree` names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
}

impl Crate {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// What `cargo tree` tells.
#[derive(Debug, Default)]
struct Graph {
    crates: BTreeMap<Crate, About>,
    edges: BTreeMap<Crate, BTreeSet<Crate>>,
    /// What was asked for.
    roots: Vec<Crate>,
}

/// Of a crate.
#[derive(Debug)]
struct About {
    licence: String,
    is_macro: bool,
}

/// Writes what the image holds to `path`.
pub(super) fn write(image: &Image, target: &Target<'_>, path: &Path) -> Result<()> {
    let mut graph = Graph::default();
    for (package, triple) in [(AGENT, target.platform.rust_target()), EMBEDDED] {
        graph.add(&cargo_tree(package, triple)?)?;
    }
    let lock = paths::root().join("Cargo.lock");
    let text = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let checksums = checksums(&text)?;
    let mut components = graph.components(&checksums);
    components.push(standard_library()?);
    components.extend(debian_packages(image)?);
    let root = Component {
        kind: "container",
        reference: image.reference.to_string(),
        name: "hoptrace".to_owned(),
        version: super::VERSION.to_owned(),
        scope: None,
        hashes: Vec::new(),
        licenses: licence("MIT OR Apache-2.0"),
        purl: format!(
            "pkg:oci/hoptrace?repository_url={}/hoptrace&tag={}&arch={}",
            super::REPOSITORY,
            super::VERSION,
            target.platform
        ),
    };
    let mut dependencies = graph.dependencies();
    let others = components
        .iter()
        .filter(|component| !component.purl.starts_with("pkg:cargo/"))
        .map(|component| component.reference.clone());
    dependencies.push(Dependency {
        reference: root.reference.clone(),
        depends_on: others.chain([graph.find(AGENT)?.purl()]).collect(),
    });
    let timestamp = UNIX_EPOCH + Duration::from_secs(image.created);
    let bom = Bom {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        version: 1,
        metadata: Metadata {
            timestamp: humantime::format_rfc3339_seconds(timestamp).to_string(),
            component: root,
        },
        components,
        dependencies,
    };
    let json = serde_json::to_string_pretty(&bom).context("writing the bill of materials")?;
    fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
}

/// Linked into the agent, and in no lock file.
fn standard_library() -> Result<Component> {
    let version = rust_version()?;
    let purl = format!("pkg:generic/rust-std@{}", escape(&version));
    Ok(Component {
        kind: "library",
        reference: purl.clone(),
        name: "rust-std".to_owned(),
        version,
        scope: Some("required"),
        hashes: Vec::new(),
        licenses: licence("MIT OR Apache-2.0"),
        purl,
    })
}

/// One line a crate: depth, crate, licence.
fn cargo_tree(package: &str, triple: &str) -> Result<String> {
    let mut command = host_cargo("tree");
    command
        .args(["--locked", "--package", package, "--target", triple])
        .args(["--edges", "normal", "--prefix", "depth"])
        .args(["--format", "\t{p}\t{l}"]);
    run::quiet(&format!("crates of {package}"), &mut command)
}

impl Graph {
    fn add(&mut self, tree: &str) -> Result<()> {
        let mut way: Vec<Crate> = Vec::new();
        for line in tree.lines() {
            let mut fields = line.split('\t');
            let parsed = fields.next().and_then(|depth| depth.parse::<usize>().ok());
            // Messages of cargo itself have no depth before them.
            let Some(depth) = parsed else { continue };
            let (Some(package), Some(licence)) = (fields.next(), fields.next()) else {
                bail!("cargo tree printed {line:?}, which is no crate with its licence");
            };
            let mut words = package.split(' ');
            let (Some(name), Some(version)) = (words.next(), words.next()) else {
                bail!("cargo tree printed {package:?}, which has no version");
            };
            let found = Crate {
                name: name.to_owned(),
                version: version.trim_start_matches('v').to_owned(),
            };
            way.truncate(depth);
            match way.last() {
                Some(parent) => {
                    let below = self.edges.entry(parent.clone()).or_default();
                    below.insert(found.clone());
                }
                None => self.roots.push(found.clone()),
            }
            let about = About {
                // A star says that what is below was printed before.
                licence: licence.trim_end_matches("(*)").trim().to_owned(),
                is_macro: package.contains("(proc-macro)"),
            };
            self.crates.entry(found.clone()).or_insert(about);
            way.push(found);
        }
        Ok(())
    }

    /// What goes into the product: all that can be reached without passing a macro.
    fn linked(&self) -> BTreeSet<&Crate> {
        let mut linked = BTreeSet::new();
        let mut waiting: Vec<_> = self.roots.iter().collect();
        while let Some(current) = waiting.pop() {
            let is_macro = self.crates.get(current).is_some_and(|about| about.is_macro);
            if !is_macro && linked.insert(current) {
                waiting.extend(self.edges.get(current).into_iter().flatten());
            }
        }
        linked
    }

    fn find(&self, name: &str) -> Result<&Crate> {
        let mut names = self.crates.keys();
        names
            .find(|found| found.name == name)
            .with_context(|| format!("cargo tree does not name {name}"))
    }

    fn components(&self, checksums: &BTreeMap<Crate, String>) -> Vec<Component> {
        let linked = self.linked();
        let component = |(found, about): (&Crate, &About)| Component {
            kind: "library",
            reference: found.purl(),
            name: found.name.clone(),
            version: found.version.clone(),
            scope: Some(if linked.contains(found) {
                "required"
            } else {
                "excluded"
            }),
            hashes: checksums
                .get(found)
                .map(|sum| sha256(sum))
                .into_iter()
                .collect(),
            licenses: licence(&about.licence),
            purl: found.purl(),
        };
        self.crates.iter().map(component).collect()
    }

    fn dependencies(&self) -> Vec<Dependency> {
        let dependency = |found: &Crate| Dependency {
            reference: found.purl(),
            depends_on: self
                .edges
                .get(found)
                .into_iter()
                .flatten()
                .map(Crate::purl)
                .collect(),
        };
        self.crates.keys().map(dependency).collect()
    }
}

/// Of everything from a registry.
fn checksums(lock: &str) -> Result<BTreeMap<Crate, String>> {
    let lock: Table = lock.parse().context("parsing Cargo.lock")?;
    let packages = lock.get("package").and_then(Value::as_array);
    let text = |package: &Value, key| package.get(key)?.as_str().map(str::to_owned);
    Ok(packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let found = Crate {
                name: text(package, "name")?,
                version: text(package, "version")?,
            };
            Some((found, text(package, "checksum")?))
        })
        .collect())
}

/// The packages of the libraries that were copied.
fn debian_packages(image: &Image) -> Result<Vec<Component>> {
    let mut packages = BTreeSet::new();
    for tree in &image.layers {
        packages.extend(debian::packages(tree)?);
    }
    Ok(packages.iter().map(debian_component).collect())
}

fn debian_component(package: &Package) -> Component {
    let purl = format!(
        "pkg:deb/debian/{}@{}?arch={}",
        package.name,
        escape(&package.version),
        package.architecture
    );
    Component {
        kind: "library",
        reference: purl.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        scope: Some("required"),
        hashes: Vec::new(),
        licenses: Vec::new(),
        purl,
    }
}

/// Of a version in a package URL: everything but what it leaves as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn sha256(hex: &str) -> Hash {
    Hash {
        alg: "SHA-256",
        content: hex.to_owned(),
    }
}

/// As an SPDX expression; older manifests write a slash for "or".
fn licence(text: &str) -> Vec<License> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    let alternatives: Vec<_> = text.split('/').map(str::trim).collect();
    vec![License {
        expression: alternatives.join(" OR "),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tagent v0.1.0 (/src/agent)\tMIT OR Apache-2.0
1\tderive v1.0.0 (proc-macro)\tMIT
2\tsyn v2.0.0\tMIT / Apache-2.0
2\tboth v1.0.0\tMIT
3\tbelow v1.0.0\tMIT
1\tshared v3.0.0\tMIT
2\tsyn v1.0.0\tMIT
1\tother v1.0.0\tMIT
2\tderive v1.0.0 (proc-macro)\tMIT (*)
2\tboth v1.0.0\tMIT (*)";

    #[test]
    fn what_only_helps_to_compile_is_excluded() {
        let mut graph = Graph::default();
        graph.add(TREE).unwrap();
        let components = graph.components(&BTreeMap::new());
        let scopes: Vec<_> = components
            .iter()
            .map(|c| (c.purl.as_str(), c.scope.unwrap()))
            .collect();
        assert_eq!(
            scopes,
            [
                ("pkg:cargo/agent@0.1.0", "required"),
                ("pkg:cargo/below@1.0.0", "required"),
                ("pkg:cargo/both@1.0.0", "required"),
                ("pkg:cargo/derive@1.0.0", "excluded"),
                ("pkg:cargo/other@1.0.0", "required"),
                ("pkg:cargo/shared@3.0.0", "required"),
                ("pkg:cargo/syn@1.0.0", "required"),
                ("pkg:cargo/syn@2.0.0", "excluded"),
            ]
        );
        let dependencies = graph.dependencies();
        let other = dependencies
            .iter()
            .find(|d| d.reference == "pkg:cargo/other@1.0.0");
        assert!(other.unwrap().depends_on.contains("pkg:cargo/derive@1.0.0"));
        let licences = &components.last().unwrap().licenses;
        assert_eq!(licences.first().unwrap().expression, "MIT OR Apache-2.0");
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = 'a'\nversion = '1.0.0'\nchecksum = 'ff'\n\
                    [[package]]\nname = 'ours'\nversion = '0.1.0'\n";
        let sums = checksums(lock).unwrap();
        assert_eq!(sums.values().collect::<Vec<_>>(), ["ff"]);
    }

    #[test]
    fn a_debian_version_is_escaped() {
        let component = debian_component(&Package {
            name: "libc6".to_owned(),
            version: "1:2.36-9+deb12u1~x".to_owned(),
            architecture: "amd64".to_owned(),
        });
        assert_eq!(
            component.purl,
            "pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u1~x?arch=amd64"
        );
    }
}
