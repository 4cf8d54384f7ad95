//! Whether an archive has to be written again.
//!
//! Files count by size, time and inode, as `make` would have it: to hash a hundred megabytes each
//! time would take longer than anything else here.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Content, Digest, Error, Image, Node, Result, Tree, Written};

/// Increased when the same input gives other bytes.
const WRITER: u32 = 1;

/// What is kept beside the archive.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    inputs: Digest,
    manifest: Digest,
    config: Digest,
    bytes: u64,
}

/// A digest of everything the archive depends on.
pub(crate) fn describe(image: &Image) -> Result<Digest> {
    let layers = image
        .layers
        .iter()
        .map(describe_tree)
        .collect::<Result<Vec<_>>>()?;
    let all = json!({
        "writer": WRITER,
        "reference": image.reference.to_string(),
        "platform": image.platform,
        "created": image.created,
        "config": image.config,
        "annotations": image.annotations,
        "layers": layers,
    });
    Ok(Digest::of(all.to_string().as_bytes()))
}

fn describe_tree(tree: &Tree) -> Result<serde_json::Value> {
    let mut entries = Vec::new();
    for (path, entry) in tree.entries() {
        let content = match &entry.node {
            Node::Directory => json!("directory"),
            Node::Symlink(target) => json!({ "link": target }),
            Node::File(Content::Bytes(bytes)) => json!({ "bytes": Digest::of(bytes) }),
            Node::File(Content::Host(host)) => {
                let meta = fs::metadata(host).map_err(Error::file("look at", host))?;
                json!({
                    "host": host.to_string_lossy(),
                    "size": meta.size(),
                    "mtime": [meta.mtime(), meta.mtime_nsec()],
                    "inode": [meta.dev(), meta.ino()],
                })
            }
        };
        let capabilities = entry.capabilities.map(crate::FileCapabilities::encode);
        entries.push(json!([
            path,
            entry.mode,
            entry.uid,
            entry.gid,
            capabilities,
            content
        ]));
    }
    Ok(entries.into())
}

/// What is in the archive, if it was made from the same input and is whole.
pub(crate) fn unchanged(output: &Path, inputs: &Digest) -> Option<Written> {
    let kept = fs::read(beside(output)).ok()?;
    let kept: Kept = serde_json::from_slice(&kept).ok()?;
    let bytes = fs::metadata(output).ok()?.len();
    (kept.inputs == *inputs && kept.bytes == bytes).then_some(Written {
        manifest: kept.manifest,
        config: kept.config,
        bytes,
        reused: true,
    })
}

/// Keeps what the archive was made from.
pub(crate) fn remember(output: &Path, inputs: &Digest, written: &Written) -> Result<()> {
    let kept = Kept {
        inputs: inputs.clone(),
        manifest: written.manifest.clone(),
        config: written.config.clone(),
        bytes: written.bytes,
    };
    let json = crate::documents::to_json("the list of inputs", &kept)?;
    let path = beside(output);
    fs::write(&path, json).map_err(Error::file("write", &path))
}

fn beside(output: &Path) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(".inputs");
    name.into()
}
