//! OCI image archives without a container engine.
//!
//! A [`Tree`] says which files a layer holds, an [`Image`] what else belongs to it; [`Image::write`]
//! makes one archive that `ctr images import`, `docker load`, `podman load` and `skopeo` take. The
//! same input gives the same bytes: entries are sorted, owners and times are given, not looked up.
//!
//! ```
//! # use hoptrace_image::{Config, Image, Platform, Tree};
//! let mut tree = Tree::distroless()?;
//! tree.bytes("/etc/motd", "good morning\n", 0o644)?;
//! let image = Image {
//!     reference: "docker.io/example/motd:1".parse()?,
//!     platform: Platform::Amd64,
//!     created: 0,
//!     config: Config::default(),
//!     annotations: [].into(),
//!     layers: vec![tree],
//! };
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("motd.oci.tar");
//! let written = image.write(&path)?;
//! assert!(image.write(&path)?.reused);
//! # assert!(!written.reused);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod digest;
mod documents;
mod elf;
mod error;
mod image;
mod inputs;
mod layer;
mod platform;
mod reference;
mod tree;

pub use archive::Archive;
pub use digest::Digest;
pub use elf::{Library, Sysroot};
pub use error::{Error, Result};
pub use image::{Config, Image, Written};
pub use platform::Platform;
pub use reference::Reference;
pub use tree::{Content, Entry, FileCapabilities, Node, Tree};
