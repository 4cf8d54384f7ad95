//! Programs that setup fetches, each one release known by its hash.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host;

/// Helm, which renders and installs the chart.
pub const HELM: Pinned = Pinned {
    name: "helm",
    version: "4.1.4",
    sha256: "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9",
    size: 62_861_496,
    variable: "HOPTRACE_HELM",
};

/// kubectl with its kustomize, which builds the overlays.
pub const KUBECTL: Pinned = Pinned {
    name: "kubectl",
    version: "1.35.2",
    sha256: "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277",
    size: 58_601_656,
    variable: "HOPTRACE_KUBECTL",
};

/// cargo-deny, which looks at the dependencies' licences and sources.
pub const CARGO_DENY: Pinned = Pinned {
    name: "cargo-deny",
    version: "0.20.2",
    sha256: "409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855",
    size: 8_670_568,
    variable: "HOPTRACE_CARGO_DENY",
};

/// mdBook, which makes a book of the pages in `docs/`.
pub const MDBOOK: Pinned = Pinned {
    name: "mdbook",
    version: "0.5.4",
    sha256: "99488ce5058c9a6ba7f0e18dc94c342682b03cf323538ebbcab8109ef8e51ff4",
    size: 12_587_608,
    variable: "HOPTRACE_MDBOOK",
};

/// One release of a program, as one file.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// What the program is called.
    pub name: &'static str,
    /// The release.
    pub version: &'static str,
    /// The file's hash, in hexadecimal digits.
    pub sha256: &'static str,
    /// The file's length in bytes.
    pub size: u64,
    /// A variable that names another file, which is taken as it is.
    pub variable: &'static str,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The release, whole.
    Genuine,
    /// Something else.
    Other,
    /// Nothing that can be started.
    Absent,
}

impl Pinned {
    /// Where setup puts it in the [`cache`].
    ///
    /// # Errors
    /// There is no place for a cache.
    pub fn cached(&self) -> Result<PathBuf> {
        Ok(cache()?
            .join(format!("{}-{}", self.name, self.version))
            .join(self.name))
    }

    /// The file to use: the one its variable names, else the one that setup fetched.
    ///
    /// # Errors
    /// It is missing, or setup's is not the release.
    pub fn find(&self) -> Result<PathBuf> {
        let Self {
            name,
            version,
            sha256,
            variable,
            ..
        } = self;
        if let Some(path) = env::var_os(variable).map(PathBuf::from) {
            if !host::is_executable(&path) {
                bail!(
                    "{variable} names {}, which is no program: unset it, or name a {name}",
                    path.display()
                );
            }
            return Ok(path);
        }
        let path = self.cached()?;
        match self.verify(&path)? {
            Found::Genuine => Ok(path),
            Found::Absent => bail!(
                "no {name} {version} at {}: run `cargo xtask setup`",
                path.display()
            ),
            Found::Other => bail!(
                "{} is not {name} {version} (its SHA-256 is not {sha256}): run `cargo xtask setup`",
                path.display()
            ),
        }
    }

    /// Whether this is the release. Hashing 100 MB takes a moment, so the answer is remembered in
    /// a file beside it, together with what changes when the program does.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn verify(&self, path: &Path) -> Result<Found> {
        if !host::is_executable(path) {
            return Ok(Found::Absent);
        }
        let reading = || format!("cannot read {}", path.display());
        let file = fs::metadata(path).with_context(reading)?;
        if file.len() != self.size {
            return Ok(Found::Other);
        }
        let stamp = format!(
            "{} inode {} changed {}.{:09}\n",
            self.sha256,
            file.ino(),
            file.ctime(),
            file.ctime_nsec()
        );
        let stamp_path = path.with_extension("verified");
        if fs::read_to_string(&stamp_path).is_ok_and(|text| text == stamp) {
            return Ok(Found::Genuine);
        }
        if sha256(path).with_context(reading)? != self.sha256 {
            return Ok(Found::Other);
        }
        // Where it cannot be written, the next look takes a moment too.
        let _unremembered = fs::write(&stamp_path, stamp);
        Ok(Found::Genuine)
    }
}

/// What setup builds or fetches once per user: `$HOPTRACE_CACHE`, else `~/.cache/hoptrace`.
///
/// # Errors
/// Neither that variable nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("HOPTRACE_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let home = env::home_dir().context("HOME is not set; set HOME, or HOPTRACE_CACHE")?;
    Ok(home.join(".cache").join("hoptrace"))
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::ENVOY;

    #[test]
    fn another_file_is_not_the_release() {
        for pinned in [ENVOY, HELM, KUBECTL, CARGO_DENY, MDBOOK] {
            let absent = Path::new("/no/such/file");
            assert_eq!(pinned.verify(absent).unwrap(), Found::Absent);
            assert_eq!(pinned.verify(Path::new("/bin/sh")).unwrap(), Found::Other);
        }
    }

    #[test]
    fn a_file_of_the_same_length_is_told_by_its_hash() {
        let name = format!("hoptrace-pinned-{}", std::process::id());
        let dir = env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        let path = dir.join("program");
        fs::copy("/bin/true", &path).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        let other = Pinned { size, ..HELM };
        let found = other.verify(&path);
        let digest = sha256(&path).unwrap().leak();
        let same = Pinned {
            sha256: digest,
            ..other
        };
        let again = same.verify(&path);
        let remembered = dir.join("program.verified").exists();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found.unwrap(), Found::Other);
        assert_eq!(again.unwrap(), Found::Genuine);
        assert!(remembered);
    }
}
