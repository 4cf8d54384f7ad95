//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// Of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of this machine.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A path inside of the image that is none.
    #[error("image path {path:?} {problem}")]
    Path {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file that changed while it was copied.
    #[error(
        "{} changed while it was copied: {expected} bytes were there at first; try again when \
         nobody writes to it",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when the copy began, bytes.
        expected: u64,
    },
    /// A file that is no program for Linux.
    #[error("{} is not an ELF file", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: object::read::Error,
    },
    /// A program of another architecture.
    #[error("{} is built for ELF machine {machine}, and the image is for {platform}", path.display())]
    Machine {
        /// The file.
        path: PathBuf,
        /// The number in its header.
        machine: u16,
        /// What was asked for.
        platform: crate::Platform,
    },
    /// A library that is nowhere.
    #[error(
        "{name}, which {} needs, is in none of {}; install the Debian package that holds it",
        needed_by.display(),
        list(searched)
    )]
    Library {
        /// Its name.
        name: String,
        /// The program or library that needs it.
        needed_by: PathBuf,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A name of an image that is not complete.
    #[error(
        "{text:?} is not a full image reference: write it as docker.io/hoptrace/hoptrace:0.1.0"
    )]
    Reference {
        /// As it was given.
        text: String,
    },
    /// Not an architecture that images are made for.
    #[error("{text:?} is not an architecture of images: use amd64 or arm64")]
    Platform {
        /// As it was given.
        text: String,
    },
    /// An archive that is not what it says.
    #[error("{}: {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// JSON that cannot be read or written.
    #[error("{document} of the image")]
    Json {
        /// Which document.
        document: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    pub(crate) fn file(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    shown.join(", ")
}
