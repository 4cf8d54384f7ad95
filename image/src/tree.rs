//! What a layer holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, Result, Sysroot, elf};

/// The user of images whose program needs no other: "nonroot", as distroless images have it.
const NONROOT: u32 = 65_532;

/// Files, links and directories by their path in the image. Parents are added by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What a program gains when it is started.
    pub capabilities: Option<FileCapabilities>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A file.
    File(Content),
    /// A symbolic link, and where it leads.
    Symlink(String),
}

/// Where a file's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// From a file of this machine; links are followed.
    Host(PathBuf),
    /// From here.
    Bytes(Vec<u8>),
}

/// The extended attribute `security.capability` (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCapabilities {
    /// A bit for each capability by its number in `linux/capability.h`.
    pub permitted: u64,
    /// Whether they are effective from the start; if they are, the kernel refuses to start a
    /// program that may not have them all.
    pub effective: bool,
}

impl FileCapabilities {
    /// Permitted, and up to the program to raise.
    #[must_use]
    pub fn permitted(numbers: &[u8]) -> Self {
        Self {
            permitted: numbers.iter().fold(0, |set, number| set | 1 << number),
            effective: false,
        }
    }

    /// `struct vfs_cap_data`, version 2 (`linux/capability.h`).
    pub(crate) fn encode(self) -> [u8; 20] {
        const REVISION_2: u32 = 0x0200_0000;
        let low = |set: u64| (set & u64::from(u32::MAX)) as u32;
        let words = [
            REVISION_2 | u32::from(self.effective),
            low(self.permitted),
            0,
            low(self.permitted >> 32),
            0,
        ];
        let mut bytes = [0; 20];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl Tree {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a program expects around it: names of root and of nonroot (65532), names resolved by
    /// `/etc/hosts` and DNS, `/tmp`. No shell, no packages.
    ///
    /// # Errors
    /// None in practice.
    pub fn distroless() -> Result<Self> {
        let mut tree = Self::new();
        tree.users(&[("nonroot", NONROOT)])?;
        tree.bytes("/etc/nsswitch.conf", "hosts: files dns\n", 0o644)?;
        tree.directory("/tmp", 0o1777)?;
        Ok(tree)
    }

    /// `/etc/passwd` and `/etc/group` with root and these users, each with a group of its own;
    /// replaces those that were there.
    ///
    /// # Errors
    /// None in practice.
    pub fn users(&mut self, users: &[(&str, u32)]) -> Result<()> {
        let mut passwd = "root:x:0:0:root:/:/sbin/nologin\n".to_owned();
        let mut group = "root:x:0:\n".to_owned();
        for (name, id) in users {
            passwd += &format!("{name}:x:{id}:{id}:{name}:/:/sbin/nologin\n");
            group += &format!("{name}:x:{id}:\n");
        }
        for (path, text) in [("/etc/passwd", passwd), ("/etc/group", group)] {
            self.entries.remove(path.trim_start_matches('/'));
            self.bytes(path, text, 0o644)?;
        }
        Ok(())
    }

    /// Adds a directory of root's.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Entry> {
        self.insert(path, Node::Directory, mode)
    }

    /// Adds a file of root's with the content of a file of this machine.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn file(&mut self, path: &str, host: impl Into<PathBuf>, mode: u32) -> Result<&mut Entry> {
        self.insert(path, Node::File(Content::Host(host.into())), mode)
    }

    /// Adds a file of root's with these bytes.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn bytes(
        &mut self,
        path: &str,
        bytes: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Result<&mut Entry> {
        self.insert(path, Node::File(Content::Bytes(bytes.into())), mode)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Entry> {
        self.insert(path, Node::Symlink(target.to_owned()), 0o777)
    }

    /// Adds a program or a plugin, with its interpreter and every library it needs.
    ///
    /// # Errors
    /// As [`Tree::insert`]; it is no ELF file of that platform; a library is missing.
    pub fn program(&mut self, path: &str, host: &Path, sysroot: &Sysroot) -> Result<&mut Entry> {
        for library in elf::libraries(host, path, sysroot)? {
            self.file(&library.path, library.host, 0o755)?;
        }
        self.file(path, host, 0o755)
    }

    /// Adds something of root's. The same thing twice is no error: libraries are shared.
    ///
    /// # Errors
    /// The path is not absolute or has `..` in it, something else is there, or what should be its
    /// directory is none.
    pub fn insert(&mut self, path: &str, node: Node, mode: u32) -> Result<&mut Entry> {
        let refused = |problem| Error::Path {
            path: path.to_owned(),
            problem,
        };
        let name = path
            .strip_prefix('/')
            .ok_or_else(|| refused("is not absolute"))?;
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !name.split('/').all(is_plain) {
            return Err(refused("is not plain: it has an empty part, `.` or `..`"));
        }
        for (end, _) in name.match_indices('/') {
            let parent = name.get(..end).unwrap_or_default();
            let parent = self
                .entries
                .entry(parent.to_owned())
                .or_insert_with(|| Entry::new(Node::Directory, 0o755));
            if parent.node != Node::Directory {
                return Err(refused("is below something that is no directory"));
            }
        }
        let new = Entry::new(node, mode);
        if let Some(old) = self.entries.get(name) {
            // An implied directory may be told more precisely later.
            let both_directories = old.node == Node::Directory && new.node == Node::Directory;
            if *old != new && !both_directories {
                return Err(refused("is there already, and something else"));
            }
        }
        self.entries.insert(name.to_owned(), new);
        let added = self.entries.get_mut(name);
        added.ok_or_else(|| refused("was not added"))
    }

    /// Everything, sorted; paths have no leading slash.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }
}

impl Entry {
    fn new(node: Node, mode: u32) -> Self {
        Self {
            node,
            mode,
            uid: 0,
            gid: 0,
            capabilities: None,
        }
    }

    /// Gives it to somebody else, user and group.
    pub fn owned_by(&mut self, id: u32) -> &mut Self {
        self.uid = id;
        self.gid = id;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children() {
        let mut tree = Tree::new();
        tree.bytes("/a/b/c", "x", 0o644).unwrap();
        tree.directory("/a/b", 0o1777).unwrap();
        let paths: Vec<_> = tree.entries().map(|(path, e)| (path, e.mode)).collect();
        assert_eq!(paths, [("a", 0o755), ("a/b", 0o1777), ("a/b/c", 0o644)]);
    }

    #[test]
    fn a_path_holds_one_thing() {
        let mut tree = Tree::new();
        tree.bytes("/a", "x", 0o644).unwrap();
        tree.bytes("/a", "x", 0o644).unwrap();
        for (path, word) in [
            ("/a", "already"),
            ("/a/b", "no directory"),
            ("b", "absolute"),
            ("/b/../c", "plain"),
            ("/", "plain"),
        ] {
            let error = tree.bytes(path, "y", 0o644).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(path), "{error}");
        }
    }

    #[test]
    fn capabilities_are_spelled_as_the_kernel_reads_them() {
        // What `setcap cap_net_admin,cap_perfmon,cap_bpf=ep` writes: numbers 12, 38 and 39.
        let mut set = FileCapabilities::permitted(&[12, 38, 39]);
        let zeros = [0; 4];
        let (permitted, high) = ([0, 0x10, 0, 0], [0xc0, 0, 0, 0]);
        let expected = |magic: [u8; 4]| [magic, permitted, zeros, high, zeros].concat();
        assert_eq!(set.encode().to_vec(), expected([0, 0, 0, 2]));
        set.effective = true;
        assert_eq!(set.encode().to_vec(), expected([1, 0, 0, 2]));
    }
}
