//! An image, and how it becomes an archive.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use tar::{Builder, EntryType, Header};

use crate::documents::{
    self, CONFIG, Descriptor, DockerImage, History, INDEX, ImageConfig, Index, LAYER, LAYOUT,
    MANIFEST, Manifest, Nothing, PlatformName, Process, RootFs, blob, to_json,
};
use crate::layer::{self, Layer};
use crate::{Digest, Error, Platform, Reference, Result, Tree, inputs};

/// An image to be written.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its full name.
    pub reference: Reference,
    /// What it runs on.
    pub platform: Platform,
    /// The time of everything in it, seconds since 1970.
    pub created: u64,
    /// How it is started.
    pub config: Config,
    /// Of the manifest; `org.opencontainers.image.*` for one.
    pub annotations: BTreeMap<String, String>,
    /// What is in it, the lowest first.
    pub layers: Vec<Tree>,
}

/// How an image is started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Config {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, which whoever starts it may replace.
    pub command: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// `uid:gid`; by number, so that `runAsNonRoot` can be checked. Empty is root.
    pub user: String,
    /// Where it is started; empty is `/`.
    pub working_directory: String,
    /// TCP ports it listens on: documentation only.
    pub ports: Vec<u16>,
    /// For `docker inspect` and selection.
    pub labels: BTreeMap<String, String>,
}

/// What is in the archive now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Of the manifest: the image's digest.
    pub manifest: Digest,
    /// Of the configuration: what engines call the image's id.
    pub config: Digest,
    /// Of the archive.
    pub bytes: u64,
    /// The archive was there already, from the same input, and nothing was written.
    pub reused: bool,
}

impl Image {
    /// Writes the archive, in one step for readers; leaves it alone if it was made from the same
    /// input. What it was made from is kept beside it, in a file `.inputs`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self, output: &Path) -> Result<Written> {
        let inputs = inputs::describe(self)?;
        if let Some(written) = inputs::unchanged(output, &inputs) {
            return Ok(written);
        }
        let dir = output
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let temporary = || tempfile::tempfile_in(dir).map_err(Error::file("write to", dir));
        let layers = self
            .layers
            .iter()
            .map(|tree| layer::write(tree, self.created, temporary()?))
            .collect::<Result<Vec<_>>>()?;
        let mut partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempfile_in(dir)
            .map_err(Error::file("write to", dir))?;
        let (manifest, config) = self
            .assemble(layers, partial.as_file_mut())?
            .map_err(Error::file("write", output))?;
        // Temporary files are private; an archive is for everybody.
        fs::set_permissions(partial.path(), Permissions::from_mode(0o644))
            .map_err(Error::file("write", output))?;
        let file = partial
            .persist(output)
            .map_err(|error| Error::file("write", output)(error.error))?;
        let bytes = file
            .metadata()
            .map_err(Error::file("look at", output))?
            .len();
        let written = Written {
            manifest,
            config,
            bytes,
            reused: false,
        };
        inputs::remember(output, &inputs, &written)?;
        Ok(written)
    }

    /// Documents, then the archive: `Err(Error)` for a document, `Ok(Err)` for the file.
    fn assemble(
        &self,
        layers: Vec<Layer>,
        file: &mut File,
    ) -> Result<io::Result<(Digest, Digest)>> {
        let config = to_json("the configuration", &self.config_document(&layers))?;
        let config_digest = Digest::of(&config);
        let manifest = to_json(
            "the manifest",
            &Manifest {
                schema_version: 2,
                media_type: MANIFEST.to_owned(),
                config: Descriptor::new(CONFIG, config_digest.clone(), config.len() as u64),
                layers: layers
                    .iter()
                    .map(|layer| Descriptor::new(LAYER, layer.digest.clone(), layer.size))
                    .collect(),
                annotations: self.annotations.clone(),
            },
        )?;
        let manifest_digest = Digest::of(&manifest);
        let index = to_json("the index", &self.index(&manifest_digest, manifest.len()))?;
        let docker = to_json(
            "the list for docker load",
            &[DockerImage {
                config: blob(&config_digest),
                repo_tags: vec![self.reference.to_string()],
                layers: layers.iter().map(|layer| blob(&layer.digest)).collect(),
            }],
        )?;

        let mut blobs: BTreeMap<Digest, (u64, Box<dyn Read>)> = BTreeMap::new();
        for layer in layers {
            blobs.insert(layer.digest, (layer.size, Box::new(layer.file)));
        }
        for (digest, bytes) in [(&config_digest, config), (&manifest_digest, manifest)] {
            let entry = (bytes.len() as u64, Box::new(io::Cursor::new(bytes)) as _);
            blobs.insert(digest.clone(), entry);
        }
        let texts = [
            ("index.json", index.as_slice()),
            ("manifest.json", docker.as_slice()),
            ("oci-layout", LAYOUT.as_bytes()),
        ];
        Ok(archive(file, blobs, &texts, self.created).map(|()| (manifest_digest, config_digest)))
    }

    fn config_document<'a>(&'a self, layers: &[Layer]) -> ImageConfig<'a> {
        let created = UNIX_EPOCH + Duration::from_secs(self.created);
        ImageConfig {
            created: humantime::format_rfc3339_seconds(created).to_string(),
            architecture: self.platform.as_str(),
            variant: self.platform.variant(),
            os: "linux",
            config: Process {
                user: &self.config.user,
                exposed_ports: self
                    .config
                    .ports
                    .iter()
                    .map(|port| (format!("{port}/tcp"), Nothing {}))
                    .collect(),
                env: self
                    .config
                    .environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                entrypoint: &self.config.entrypoint,
                cmd: &self.config.command,
                working_dir: &self.config.working_directory,
                labels: &self.config.labels,
            },
            rootfs: RootFs {
                kind: "layers",
                diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            },
            history: layers
                .iter()
                .map(|_| History {
                    created_by: "cargo xtask image",
                })
                .collect(),
        }
    }

    fn index(&self, manifest: &Digest, size: usize) -> Index {
        let mut descriptor = Descriptor::new(MANIFEST, manifest.clone(), size as u64);
        descriptor.platform = Some(PlatformName {
            architecture: self.platform.as_str().to_owned(),
            os: "linux".to_owned(),
            variant: self.platform.variant().map(str::to_owned),
        });
        // containerd takes the whole name from the first, others the tag from the second.
        descriptor.annotations = documents::Annotations::from([
            (
                "io.containerd.image.name".to_owned(),
                self.reference.to_string(),
            ),
            (
                "org.opencontainers.image.ref.name".to_owned(),
                self.reference.tag().to_owned(),
            ),
        ]);
        Index {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: vec![descriptor],
        }
    }
}

/// The archive itself: blobs by name, then the documents that lead to them.
fn archive(
    file: &mut File,
    blobs: BTreeMap<Digest, (u64, Box<dyn Read>)>,
    texts: &[(&str, &[u8])],
    mtime: u64,
) -> io::Result<()> {
    let header = |kind, mode, size| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        header.set_size(size);
        header
    };
    let mut tar = Builder::new(io::BufWriter::new(file));
    for dir in ["blobs/", "blobs/sha256/"] {
        tar.append_data(
            &mut header(EntryType::Directory, 0o755, 0),
            dir,
            io::empty(),
        )?;
    }
    for (digest, (size, content)) in blobs {
        let mut header = header(EntryType::Regular, 0o644, size);
        tar.append_data(&mut header, blob(&digest), content)?;
    }
    for (name, text) in texts {
        let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut header, name, *text)?;
    }
    tar.into_inner()?.flush()
}
