//! The archive that a kernel unpacks as its first file system: cpio, "newc" (initramfs buffer
//! format, Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use std::fs;

use anyhow::{Context, Result};
use hoptrace_image::{Content, Node, Tree};

/// What stands at the head of every entry.
const MAGIC: &str = "070701";
/// Numbers between the magic and the name.
const FIELDS: usize = 13;
/// Names and contents begin at multiples of this, counted from the archive's beginning.
const ALIGNMENT: usize = 4;
/// The name of the last entry.
const END: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The archive of a tree. Everything in it belongs to root and was changed at the epoch, so equal
/// trees make equal archives.
///
/// # Errors
/// A file of this machine cannot be read, or has 4 GiB or more.
pub(super) fn archive(tree: &Tree) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (name, entry) in tree.entries() {
        match &entry.node {
            Node::Directory => archive.entry(name, DIRECTORY | entry.mode, &[])?,
            Node::File(Content::Bytes(bytes)) => archive.entry(name, FILE | entry.mode, bytes)?,
            Node::File(Content::Host(path)) => {
                let bytes =
                    fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                archive.entry(name, FILE | entry.mode, &bytes)?;
            }
            Node::Symlink(to) => archive.entry(name, LINK | entry.mode, to.as_bytes())?,
        }
    }
    archive.entry(END, 0, &[])?;
    Ok(archive.bytes)
}

/// An archive under construction.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is too large for an initramfs: 4 GiB and more"))?;
        // The terminating zero counts.
        let name_size = u32::try_from(name.len() + 1).context("a name of 4 GiB")?;
        let (links, zero) = (1, 0);
        let fields: [u32; FIELDS] = [
            self.entries,
            mode,
            zero, // user
            zero, // group
            links,
            zero, // time of change
            size,
            zero, // device on which it is, major and minor
            zero,
            zero, // device that it is, major and minor
            zero,
            name_size,
            zero, // checksum, of another format
        ];
        self.bytes.extend(MAGIC.bytes());
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        let len = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(len, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as read back: name, mode, content.
    type Entry = (String, u32, Vec<u8>);

    /// A reader by the format's description, independent of the writer.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let whole = bytes.len();
        let mut entries = Vec::new();
        loop {
            let at = whole - bytes.len();
            assert_eq!(at % 4, 0);
            assert_eq!(&bytes[..6], b"070701");
            let field = |number: usize| {
                let from = 6 + number * 8;
                let text = std::str::from_utf8(&bytes[from..from + 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = &bytes[110..110 + name_size];
            assert_eq!(name.last(), Some(&0));
            let name = String::from_utf8(name[..name_size - 1].to_vec()).unwrap();
            let content_at = (at + 110 + name_size).next_multiple_of(4) - at;
            let content = bytes[content_at..content_at + size].to_vec();
            let next = (at + content_at + size).next_multiple_of(4) - at;
            bytes = &bytes[next..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    #[test]
    fn what_was_put_in_is_read_back() {
        let mut tree = Tree::new();
        // Contents and names of every length modulo the alignment.
        let contents: [&[u8]; 5] = [b"", b"1", b"12", b"123", b"1234"];
        for (number, content) in contents.iter().enumerate() {
            let name = format!("/bin/{}", "n".repeat(number + 1));
            tree.bytes(&name, *content, 0o755).unwrap();
        }
        tree.symlink("/bin/sh", "busybox").unwrap();
        let host = std::env::current_exe().unwrap();
        tree.file("/me", &host, 0o644).unwrap();
        let entries = read(&archive(&tree).unwrap());
        assert_eq!(entries[0], ("bin".into(), 0o040_755, vec![]));
        for (number, content) in contents.iter().enumerate() {
            let (name, mode, found) = &entries[number + 1];
            assert_eq!(name.len(), "bin/".len() + number + 1);
            assert_eq!((*mode, &found[..]), (0o100_755, *content));
        }
        assert_eq!(entries[6], ("bin/sh".into(), 0o120_777, b"busybox".into()));
        assert_eq!((&*entries[7].0, entries[7].1), ("me", 0o100_644));
        assert!(entries[7].2 == fs::read(host).unwrap());
        assert_eq!(entries.len(), 8);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut tree = Tree::new();
        tree.file("/a", "/nonexistent", 0o644).unwrap();
        let error = archive(&tree).unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
