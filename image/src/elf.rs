//! The libraries of a dynamic program, as its loader would find them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache};

use crate::{Error, Platform, Result};

/// Where the libraries of one platform are on this machine, and where they go in an image.
#[derive(Clone, Debug)]
pub struct Sysroot {
    platform: Platform,
    directories: Vec<PathBuf>,
    /// Where Debian's loader looks by itself.
    destination: String,
}

/// A library, or the interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Where it is on this machine, links resolved.
    pub host: PathBuf,
    /// Where it goes in the image.
    pub path: String,
}

impl Sysroot {
    /// This machine's own libraries.
    ///
    /// # Errors
    /// Images cannot be made for this architecture.
    pub fn host() -> Result<Self> {
        let platform = Platform::host()?;
        let triplet = platform.triplet();
        let usual = [
            format!("/usr/lib/{triplet}"),
            format!("/lib/{triplet}"),
            "/usr/lib64".to_owned(),
            "/lib64".to_owned(),
            "/usr/lib".to_owned(),
            "/lib".to_owned(),
        ];
        Ok(Self::at(platform, usual.map(PathBuf::from).to_vec()))
    }

    /// Libraries in these directories only.
    #[must_use]
    pub fn at(platform: Platform, directories: Vec<PathBuf>) -> Self {
        Self {
            platform,
            directories,
            destination: format!("/usr/lib/{}", platform.triplet()),
        }
    }
}

/// What the loader needs to know about a file.
#[derive(Debug, Default)]
struct Dynamic {
    machine: u16,
    interpreter: Option<String>,
    needed: Vec<String>,
    /// Directories to look into first, `$ORIGIN` not yet replaced.
    run_path: Vec<String>,
}

impl Dynamic {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let cache = ReadCache::new(file);
        Self::parse(&cache).map_err(|source| Error::Elf {
            path: path.to_path_buf(),
            source,
        })
    }

    fn parse(data: &ReadCache<File>) -> object::read::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let mut found = Self {
            machine: header.e_machine(endian),
            ..Self::default()
        };
        for segment in header.program_headers(endian, data)? {
            if let Some(path) = segment.interpreter(endian, data)? {
                found.interpreter = Some(text(path));
            }
        }
        let sections = header.sections(endian, data)?;
        let table = sections.dynamic_table(endian, data)?;
        for entry in table.iter() {
            match entry.tag {
                DT_NEEDED => found.needed.push(text(table.string(entry)?)),
                DT_RUNPATH | DT_RPATH => {
                    let paths = text(table.string(entry)?);
                    found.run_path.extend(paths.split(':').map(str::to_owned));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every library that the program at `host` needs when it is at `at` in the image, and its
/// interpreter; sorted by path, empty for a static program.
pub(crate) fn libraries(host: &Path, at: &str, sysroot: &Sysroot) -> Result<Vec<Library>> {
    // By name, because the loader looks up each name once (ld.so(8)).
    let mut found: BTreeMap<String, Library> = BTreeMap::new();
    let mut waiting = vec![Library {
        host: host.to_path_buf(),
        path: at.to_owned(),
    }];
    while let Some(current) = waiting.pop() {
        let dynamic = Dynamic::read(&current.host)?;
        if dynamic.machine != sysroot.platform.elf_machine() {
            return Err(Error::Machine {
                path: current.host,
                machine: dynamic.machine,
                platform: sysroot.platform,
            });
        }
        if let Some(interpreter) = &dynamic.interpreter {
            let name = file_name(interpreter);
            let mut library = find(&name, &current, &[], sysroot)?;
            // The kernel starts it by this path; libc needs it by name, and the loader has it.
            library.path.clone_from(interpreter);
            found.insert(name, library);
        }
        for name in dynamic.needed {
            if let Entry::Vacant(place) = found.entry(name) {
                let library = find(place.key(), &current, &dynamic.run_path, sysroot)?;
                waiting.push(library.clone());
                place.insert(library);
            }
        }
    }
    let mut libraries: Vec<_> = found.into_values().collect();
    libraries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(libraries)
}

/// The library of that name for this platform, in the order of ld.so(8).
fn find(name: &str, user: &Library, run_path: &[String], sysroot: &Sysroot) -> Result<Library> {
    let host_origin = user.host.parent().unwrap_or(Path::new("/"));
    let image_origin = user.path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let own = run_path.iter().map(|dir| {
        let on_host = expand(dir, &host_origin.to_string_lossy());
        (PathBuf::from(on_host), expand(dir, image_origin))
    });
    let usual = sysroot.directories.iter();
    let usual = usual.map(|dir| (dir.clone(), sysroot.destination.clone()));
    let mut searched = Vec::new();
    for (dir, destination) in own.chain(usual) {
        let candidate = dir.join(name);
        // A library of another architecture in the way is passed over, as the loader does.
        if let Ok(host) = candidate.canonicalize()
            && Dynamic::read(&host).is_ok_and(|d| d.machine == sysroot.platform.elf_machine())
        {
            return Ok(Library {
                host,
                path: format!("{}/{name}", destination.trim_end_matches('/')),
            });
        }
        searched.push(dir);
    }
    Err(Error::Library {
        name: name.to_owned(),
        needed_by: user.host.clone(),
        searched,
    })
}

fn expand(dir: &str, origin: &str) -> String {
    dir.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Sysroot {
        Sysroot::host().unwrap()
    }

    #[test]
    fn a_dynamic_program_brings_its_loader_and_libc() {
        let me = std::env::current_exe().unwrap();
        let libraries = libraries(&me, "/usr/bin/me", &host()).unwrap();
        let dynamic = Dynamic::read(&me).unwrap();
        let paths: Vec<_> = libraries.iter().map(|l| l.path.as_str()).collect();
        assert!(paths.contains(&dynamic.interpreter.unwrap().as_str()));
        assert!(
            paths.iter().any(|path| path.ends_with("/libc.so.6")),
            "{paths:?}"
        );
        assert!(
            libraries.iter().all(|library| library.host.is_file()),
            "{libraries:?}"
        );
    }

    #[test]
    fn what_is_missing_or_foreign_is_named() {
        let me = std::env::current_exe().unwrap();
        let nowhere = Sysroot::at(Platform::host().unwrap(), vec!["/nonexistent".into()]);
        let error = libraries(&me, "/me", &nowhere).unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent") && error.contains(".so"),
            "{error}"
        );

        let other = match Platform::host().unwrap() {
            Platform::Amd64 => Platform::Arm64,
            Platform::Arm64 => Platform::Amd64,
        };
        let error = libraries(&me, "/me", &Sysroot::at(other, vec![]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(other.as_str()), "{error}");

        let error = libraries(Path::new("/etc/passwd"), "/me", &host()).unwrap_err();
        assert!(error.to_string().contains("/etc/passwd is not an ELF"));
    }

    #[test]
    fn origin_is_where_the_user_is() {
        for dir in ["$ORIGIN/../lib", "${ORIGIN}/../lib"] {
            assert_eq!(expand(dir, "/opt/x"), "/opt/x/../lib");
        }
    }
}
