//! Kubernetes' own programs, built from Debian's source package with Debian's Go.
//!
//! No registry that is at hand carries server binaries, and this source package is the last one of
//! Debian with the whole tree. One file is missing from its tarball and is generated first, as the
//! project's own makefile does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_cluster::{KUBERNETES_PROGRAMS, KUBERNETES_VERSION, Tools};
use hoptrace_lab::pinned::sha256;

use super::apt;
use crate::run;

/// The source package.
const SOURCE: &str = "kubernetes=1.20.5+really1.20.2-1.1+deb12u1";
const TARBALL: &str = "kubernetes_1.20.5+really1.20.2.orig.tar.gz";
const TARBALL_SHA256: &str = "b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc";
/// The only Go of Debian 12; Kubernetes 1.20 was made for 1.15.
const GO: [&str; 3] = [
    "golang-1.19-go/bookworm",
    "golang-1.19-src/bookworm",
    "golang-github-modern-go-reflect2-dev/bookworm",
];
const GO_ROOT: &str = "usr/lib/go-1.19";
/// The release of this library that is in the tree knows the insides of maps up to Go 1.17: with a
/// newer one, the API server crashes at the first custom resource. This one knows them.
const REFLECT: &str = "github.com/modern-go/reflect2";
/// Where Debian has sources of libraries.
const LIBRARIES: &str = "usr/share/gocode/src";
/// The name by which the sources import each other.
const IMPORT_PATH: &str = "k8s.io/kubernetes";
/// Generated from the types below [`TYPES`].
const GENERATED: &str = "pkg/generated/openapi/zz_generated.openapi.go";
const TYPES: [&str; 4] = ["cmd", "pkg", "plugin", "staging/src/k8s.io"];
/// Packages that carry the mark and are none of the API's.
const NO_TYPES: [&str; 4] = ["_examples", "sample", "kube-openapi", "code-generator"];
/// Packages that are told the version at link time.
const VERSIONED: [&str; 2] = [
    "k8s.io/kubernetes/vendor/k8s.io/component-base/version",
    "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version",
];

/// Builds what is missing; 4 minutes on two processors. An interrupted build is taken up again.
///
/// # Errors
/// The sources cannot be fetched, are not what they should be, or do not build.
pub(super) fn ensure(places: &Tools) -> Result<()> {
    let complete = KUBERNETES_PROGRAMS
        .iter()
        .all(|name| places.kubernetes(name).is_file());
    if complete {
        return Ok(());
    }
    let work = Work(partial(&places.kubernetes));
    work.fetch()?;
    work.generate()?;
    let built = work.build()?;
    let _incomplete = fs::remove_dir_all(&places.kubernetes);
    fs::rename(&built, &places.kubernetes)
        .with_context(|| format!("moving the programs to {}", places.kubernetes.display()))?;
    // 2 GB that nobody needs any more.
    fs::remove_dir_all(&work.0).with_context(|| format!("removing {}", work.0.display()))
}

/// Beside its destination; a version has a dot, so this is no extension.
fn partial(destination: &Path) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// The directory of the build.
struct Work(PathBuf);

impl Work {
    fn tree(&self) -> PathBuf {
        self.0.join("gopath/src").join(IMPORT_PATH)
    }

    fn fetch(&self) -> Result<()> {
        if self.0.join("fetched").is_file() {
            return Ok(());
        }
        let _half = fs::remove_dir_all(&self.0);
        let archive = apt()?;
        let go = self.0.join("go");
        archive.unpack("Go 1.19 (Debian, 81 MB)", &GO.map(str::to_owned), &go)?;
        let what = format!("sources of Kubernetes {KUBERNETES_VERSION} (Debian, 34 MB)");
        archive.source_tarball(&what, SOURCE, &self.0)?;
        let tarball = self.0.join(TARBALL);
        let hash = sha256(&tarball).with_context(|| format!("reading {}", tarball.display()))?;
        if hash != TARBALL_SHA256 {
            bail!(
                "{} is not the tarball it should be: its SHA-256 is {hash}, not {TARBALL_SHA256}",
                tarball.display()
            );
        }
        let tree = self.tree();
        fs::create_dir_all(&tree).with_context(|| format!("making {}", tree.display()))?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--strip-components=1", "--file"])
            .arg(&tarball)
            .arg("--directory")
            .arg(&tree);
        run::quiet("unpacking the sources", &mut tar)?;
        let (newer, older) = (
            go.join(LIBRARIES).join(REFLECT),
            tree.join("vendor").join(REFLECT),
        );
        let replacing = || format!("replacing {}", older.display());
        fs::remove_dir_all(&older).with_context(replacing)?;
        fs::rename(&newer, &older).with_context(replacing)?;
        fs::write(self.0.join("fetched"), "").context("remembering what was fetched")
    }

    fn generate(&self) -> Result<()> {
        let tree = self.tree();
        if tree.join(GENERATED).is_file() {
            return Ok(());
        }
        let generator = self.0.join("openapi-gen");
        let mut build = self.go();
        build
            .args(["build", "-o"])
            .arg(&generator)
            .arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen");
        run::quiet("Kubernetes' generator of API descriptions", &mut build)?;
        let mut generate = self.with_go(Command::new(&generator));
        generate
            .args(["--logtostderr", "-O", "zz_generated.openapi"])
            .args(["-i", &typed_packages(&tree)?.join(",")])
            .args(["-p", &format!("{IMPORT_PATH}/pkg/generated/openapi")])
            .args(["-h", "hack/boilerplate/boilerplate.generatego.txt"])
            .arg("-r")
            .arg(self.0.join("violations"));
        run::quiet("descriptions of Kubernetes' API", &mut generate).map(drop)
    }

    /// Returns the directory of the programs.
    fn build(&self) -> Result<PathBuf> {
        let built = self.0.join("built");
        fs::create_dir_all(&built).with_context(|| format!("making {}", built.display()))?;
        let mut flags = "-s -w".to_owned();
        for package in VERSIONED {
            for (name, value) in [
                ("gitVersion", format!("v{KUBERNETES_VERSION}")),
                ("gitMajor", "1".to_owned()),
                ("gitMinor", "20".to_owned()),
                ("gitTreeState", "clean".to_owned()),
            ] {
                flags += &format!(" -X {package}.{name}={value}");
            }
        }
        let mut build = self.go();
        build.args(["build", "-ldflags", &flags, "-o"]).arg(&built);
        build.args(KUBERNETES_PROGRAMS.map(|name| format!("./cmd/{name}")));
        let what = format!(
            "building Kubernetes {KUBERNETES_VERSION}, programs: {} (some minutes, once)",
            KUBERNETES_PROGRAMS.len()
        );
        run::quiet(&what, &mut build)?;
        Ok(built)
    }

    fn go(&self) -> Command {
        self.with_go(Command::new(self.0.join("go").join(GO_ROOT).join("bin/go")))
    }

    fn with_go(&self, mut command: Command) -> Command {
        command
            .current_dir(self.tree())
            .env("GOROOT", self.0.join("go").join(GO_ROOT))
            .env("GOPATH", self.0.join("gopath"))
            .env("GOCACHE", self.0.join("gocache"))
            // Everything is in the tree; nothing is asked of any proxy.
            .envs([("GO111MODULE", "off"), ("GOPROXY", "off"), ("GOFLAGS", "")])
            .env("CGO_ENABLED", "0");
        command
    }
}

/// Packages whose types the API serves.
fn typed_packages(tree: &Path) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for root in TYPES {
        collect(tree, &tree.join(root), &mut found)?;
    }
    Ok(found.into_iter().collect())
}

fn collect(tree: &Path, dir: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let reading = || format!("reading {}", dir.display());
    for entry in fs::read_dir(dir).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = entry.path();
        if entry.file_type().with_context(reading)?.is_dir() {
            collect(tree, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "go")
            && fs::read(&path)
                .with_context(reading)?
                .windows(MARK.len())
                .any(|bytes| bytes == MARK)
        {
            let within = dir.strip_prefix(tree).unwrap_or(dir).display().to_string();
            if !NO_TYPES.iter().any(|other| within.contains(other)) {
                // Packages below staging/ are imported by way of vendor/.
                let within = within.replacen("staging/src/", "vendor/", 1);
                found.insert(format!("{IMPORT_PATH}/{within}"));
            }
        }
    }
    Ok(())
}

const MARK: &[u8] = b"+k8s:openapi-gen=";
