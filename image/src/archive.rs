//! Reading an archive: every digest is checked before anything is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::Digesting;
use crate::documents::{DockerImage, Index, Manifest, blob};
use crate::{Digest, Error, Result};

/// An image out of an archive, with all its bytes.
#[derive(Debug)]
pub struct Archive {
    reference: String,
    digest: Digest,
    annotations: BTreeMap<String, String>,
    config: serde_json::Value,
    layers: Vec<Vec<u8>>,
}

impl Archive {
    /// Reads and checks it: sizes and digests of the manifest, the configuration and the layers,
    /// the layers' inner digests, and that Docker's list leads to the same blobs.
    ///
    /// # Errors
    /// It cannot be read, or one of these is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let mut members = members(path)?;
        let bad = |problem: String| Error::Archive {
            path: path.to_path_buf(),
            problem,
        };
        let mut take = |name: &str| {
            let member = members.remove(name);
            member.ok_or_else(|| bad(format!("{name} is missing")))
        };
        let layout: serde_json::Value = parse("oci-layout", &take("oci-layout")?)?;
        if layout.get("imageLayoutVersion").and_then(|v| v.as_str()) != Some("1.0.0") {
            return Err(bad(format!("layout {layout} is not version 1.0.0")));
        }
        let index: Index = parse("index.json", &take("index.json")?)?;
        let docker: Vec<DockerImage> = parse("manifest.json", &take("manifest.json")?)?;
        let mut checked = |digest: &Digest, size: u64| {
            let bytes = take(&blob(digest))?;
            let (actual, length) = (Digest::of(&bytes), bytes.len() as u64);
            if (&actual, length) != (digest, size) {
                return Err(bad(format!(
                    "blob {digest} should have {size} bytes, and is {actual} with {length}"
                )));
            }
            Ok(bytes)
        };
        let [entry] = index.manifests.as_slice() else {
            let count = index.manifests.len();
            return Err(bad(format!("it holds {count} images instead of one")));
        };
        let manifest: Manifest = parse("the manifest", &checked(&entry.digest, entry.size)?)?;
        let config: serde_json::Value = parse(
            "the configuration",
            &checked(&manifest.config.digest, manifest.config.size)?,
        )?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| checked(&layer.digest, layer.size))
            .collect::<Result<Vec<_>>>()?;
        let diff_ids = layers
            .iter()
            .map(|layer| diff_id(layer).map_err(Error::file("unpack a layer of", path)))
            .collect::<Result<Vec<_>>>()?;
        let expected = config.pointer("/rootfs/diff_ids");
        let said = expected.and_then(|ids| Vec::<Digest>::deserialize(ids).ok());
        if said.as_ref() != Some(&diff_ids) {
            return Err(bad(format!(
                "the layers are {diff_ids:?}, and the configuration says {said:?}"
            )));
        }
        let name = entry.annotations.get("io.containerd.image.name");
        let reference = name.cloned().unwrap_or_default();
        let same = |image: &DockerImage| {
            let layers = manifest.layers.iter().map(|layer| blob(&layer.digest));
            image.config == blob(&manifest.config.digest)
                && image.layers == layers.collect::<Vec<_>>()
                && image.repo_tags == [reference.as_str()]
        };
        if docker.len() != 1 || !docker.iter().all(same) {
            return Err(bad("manifest.json and index.json disagree".to_owned()));
        }
        Ok(Self {
            reference,
            digest: entry.digest.clone(),
            annotations: manifest.annotations.clone(),
            config,
            layers,
        })
    }

    /// The full name.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Of the manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Of the manifest.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The whole configuration document.
    #[must_use]
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// Unpacks every layer, one over the other. Owners and file capabilities need root.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn unpack(&self, dir: &Path) -> Result<()> {
        for layer in &self.layers {
            let mut tar = tar::Archive::new(GzDecoder::new(layer.as_slice()));
            tar.set_preserve_permissions(true);
            tar.set_preserve_ownerships(true);
            tar.set_unpack_xattrs(true);
            tar.unpack(dir).map_err(Error::file("unpack into", dir))?;
        }
        Ok(())
    }
}

fn members(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let mut tar = tar::Archive::new(BufReader::new(file));
    let mut found = BTreeMap::new();
    let mut read = || -> io::Result<()> {
        for entry in tar.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                let name = entry.path()?.to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                found.insert(name, bytes);
            }
        }
        Ok(())
    };
    read().map_err(Error::file("read", path))?;
    Ok(found)
}

fn diff_id(layer: &[u8]) -> io::Result<Digest> {
    let mut sink = Digesting::new(io::sink());
    io::copy(&mut GzDecoder::new(layer), &mut sink)?;
    Ok(sink.finish().1)
}

fn parse<T: DeserializeOwned>(document: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { document, source })
}
