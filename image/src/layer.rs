//! A tree as a compressed tar archive.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::digest::{Digest, Digesting};
use crate::{Content, Entry, Error, Node, Result, Tree};

/// A layer in a temporary file, ready to be copied.
pub(crate) struct Layer {
    pub(crate) file: File,
    /// Compressed, bytes.
    pub(crate) size: u64,
    /// Of the compressed bytes: the blob's name.
    pub(crate) digest: Digest,
    /// Of what is inside: the name that the image's configuration uses.
    pub(crate) diff_id: Digest,
}

/// Writes the layer to `file`; every entry has the same time, seconds since 1970.
pub(crate) fn write(tree: &Tree, mtime: u64, file: File) -> Result<Layer> {
    let io = |source| Error::File {
        operation: "write a layer into",
        path: std::env::temp_dir(),
        source,
    };
    let compressed = Digesting::new(BufWriter::new(file));
    // No name, no time, and "unknown" for the system: nothing that differs from run to run.
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(compressed, Compression::default());
    let mut tar = Builder::new(Digesting::new(gzip));
    for (path, entry) in tree.entries() {
        append(&mut tar, path, entry, mtime)?;
    }
    let (gzip, diff_id, _) = tar.into_inner().map_err(io)?.finish();
    let (buffered, digest, size) = gzip.finish().map_err(io)?.finish();
    let mut file = buffered
        .into_inner()
        .map_err(|error| io(error.into_error()))?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(Layer {
        file,
        size,
        digest,
        diff_id,
    })
}

fn append<W: Write>(tar: &mut Builder<W>, path: &str, entry: &Entry, mtime: u64) -> Result<()> {
    let writing = |source| Error::File {
        operation: "write to the layer",
        path: path.into(),
        source,
    };
    let mut header = Header::new_ustar();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(mtime);
    header.set_size(0);
    if let Some(capabilities) = entry.capabilities {
        // How container engines spell extended attributes in a layer.
        let value = capabilities.encode();
        tar.append_pax_extensions([("SCHILY.xattr.security.capability", value.as_slice())])
            .map_err(writing)?;
    }
    match &entry.node {
        Node::Directory => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
                .map_err(writing)
        }
        Node::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, target).map_err(writing)
        }
        Node::File(Content::Bytes(bytes)) => {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())
                .map_err(writing)
        }
        Node::File(Content::Host(host)) => {
            let file = File::open(host).map_err(Error::file("open", host))?;
            let size = file.metadata().map_err(Error::file("look at", host))?.len();
            header.set_size(size);
            let mut limited = file.take(size);
            tar.append_data(&mut header, path, &mut limited)
                .map_err(writing)?;
            // Whatever came or went in the meantime would spoil every later entry.
            let missing = limited.limit() > 0;
            let mut rest = limited.into_inner();
            let more = rest.read(&mut [0]).map_err(Error::file("read", host))? > 0;
            if missing || more {
                return Err(Error::Changed {
                    path: host.clone(),
                    expected: size,
                });
            }
            Ok(())
        }
    }
}
