//! Architectures that images are made for.

use std::fmt;
use std::str::FromStr;

use object::elf::{EM_AARCH64, EM_X86_64};
use serde::Serialize;

use crate::Error;

/// Linux on one of these; the names are those of Go, which OCI uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Platform {
    /// This machine's.
    ///
    /// # Errors
    /// It is neither of the two.
    pub fn host() -> Result<Self, Error> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => Err(Error::Platform {
                text: other.to_owned(),
            }),
        }
    }

    /// `amd64` or `arm64`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's and GCC's name, of directories and of cross compilers.
    #[must_use]
    pub fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Rust's name for it with glibc.
    #[must_use]
    pub fn rust_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The variant that OCI's list of platforms has for it.
    pub(crate) fn variant(self) -> Option<&'static str> {
        (self == Self::Arm64).then_some("v8")
    }

    pub(crate) fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => EM_X86_64,
            Self::Arm64 => EM_AARCH64,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            _ => Err(Error::Platform {
                text: text.to_owned(),
            }),
        }
    }
}
