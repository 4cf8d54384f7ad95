//! The Envoy binary that setup fetched, and how it is known to be the right one.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host;

/// The release.
pub const VERSION: &str = "1.40.0";
/// The hash of its binary.
pub const SHA256: &str = "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80";
/// The binary's length in bytes.
pub const SIZE: u64 = 106_905_560;

/// Names another binary, which is taken as it is.
const VARIABLE: &str = "HOPTRACE_ENVOY";

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envoy {
    /// The release, whole.
    Genuine,
    /// Something else.
    Other,
    /// Nothing that can be started.
    Absent,
}

/// Where setup puts it: `$HOPTRACE_CACHE`, else `~/.cache/hoptrace`.
///
/// # Errors
/// Neither that variable nor `HOME` is set.
pub fn cached() -> Result<PathBuf> {
    let cache = match env::var_os("HOPTRACE_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => env::home_dir()
            .context("HOME is not set; set HOME, or HOPTRACE_CACHE")?
            .join(".cache/hoptrace"),
    };
    Ok(cache.join(format!("envoy-{VERSION}")).join("envoy"))
}

/// The Envoy to use: `$HOPTRACE_ENVOY`, else the one that setup fetched.
///
/// # Errors
/// It is missing, or setup's is not the release.
pub fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) {
        if !host::is_executable(&path) {
            bail!(
                "{VARIABLE} names {}, which is no program: unset it, or name an Envoy",
                path.display()
            );
        }
        return Ok(path);
    }
    let path = cached()?;
    match verify(&path)? {
        Envoy::Genuine => Ok(path),
        Envoy::Absent => bail!(
            "no Envoy {VERSION} at {}: run `cargo xtask setup`",
            path.display()
        ),
        Envoy::Other => bail!(
            "{} is not Envoy {VERSION} (its SHA-256 is not {SHA256}): run `cargo xtask setup`",
            path.display()
        ),
    }
}

/// Whether this is the release. Hashing 107 MB takes a moment, so the answer is remembered in a
/// file beside it, together with what changes when the binary does.
///
/// # Errors
/// It cannot be read.
pub fn verify(path: &Path) -> Result<Envoy> {
    if !host::is_executable(path) {
        return Ok(Envoy::Absent);
    }
    let reading = || format!("cannot read {}", path.display());
    let file = fs::metadata(path).with_context(reading)?;
    if file.len() != SIZE {
        return Ok(Envoy::Other);
    }
    let stamp = format!(
        "{SHA256} inode {} changed {}.{:09}\n",
        file.ino(),
        file.ctime(),
        file.ctime_nsec()
    );
    let stamp_path = path.with_extension("verified");
    if fs::read_to_string(&stamp_path).is_ok_and(|text| text == stamp) {
        return Ok(Envoy::Genuine);
    }
    if sha256(path).with_context(reading)? != SHA256 {
        return Ok(Envoy::Other);
    }
    // Where it cannot be written, the next look takes a moment too.
    let _unremembered = fs::write(&stamp_path, stamp);
    Ok(Envoy::Genuine)
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

    #[test]
    fn another_file_is_not_envoy() {
        assert_eq!(verify(Path::new("/no/such/file")).unwrap(), Envoy::Absent);
        assert_eq!(verify(Path::new("/bin/sh")).unwrap(), Envoy::Other);
    }
}
