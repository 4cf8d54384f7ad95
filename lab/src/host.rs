//! What the lab needs of the machine, and one clear sentence for each thing that is missing.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Directories of administrators' programs, which are not on everybody's `PATH`.
const ADMIN_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// # Errors
/// This process is not root.
pub fn need_root() -> Result<()> {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        bail!(
            "the lab makes network namespaces and control groups, and this is user {}: run it as \
             root",
            uid.as_raw()
        );
    }
    Ok(())
}

/// The path of a program.
///
/// # Errors
/// It is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(ADMIN_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate));
    found.with_context(|| format!("`{name}` is not installed: run `cargo xtask setup`"))
}

/// Whether there is a program at this path.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Where the cgroup v2 hierarchy is mounted.
///
/// # Errors
/// It is not.
pub fn cgroup2() -> Result<PathBuf> {
    let found = cgroup_mount(&mounts()?, |kind, _| kind == "cgroup2");
    found.context("no cgroup v2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup`")
}

/// Where the cpu controller of cgroup v1 is mounted, on machines that still have it there.
pub fn cgroup1_cpu() -> Result<Option<PathBuf>> {
    Ok(cgroup_mount(&mounts()?, |kind, options| {
        kind == "cgroup" && options.split(',').any(|option| option == "cpu")
    }))
}

fn mounts() -> Result<String> {
    fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts; is /proc mounted?")
}

/// The first mount whose type and options fit; a line is `source target type options 0 0`.
fn cgroup_mount(mounts: &str, fits: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let target = fields.next()?;
        fits(fields.next()?, fields.next()?).then(|| PathBuf::from(target))
    })
}

/// Pods run as users without privileges, who must get at their files.
///
/// # Errors
/// A directory on the way is closed to others.
pub fn need_open_path(dir: &Path) -> Result<()> {
    for ancestor in dir.ancestors() {
        let mode = fs::metadata(ancestor)
            .with_context(|| format!("cannot look at {}", ancestor.display()))?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            bail!(
                "pods run as other users and cannot enter {} (mode {:o}), which the work directory \
                 {} is in: name a work directory below /tmp or /run",
                ancestor.display(),
                mode & 0o7777,
                dir.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = cgroup_mount(HYBRID, |kind, _| kind == "cgroup2");
        assert_eq!(v2, Some("/sys/fs/cgroup/unified".into()));
        let cpu = cgroup_mount(HYBRID, |kind, options| {
            kind == "cgroup" && options.split(',').any(|option| option == "cpu")
        });
        assert_eq!(cpu, Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(cgroup_mount("", |_, _| true), None);
    }

    #[test]
    fn a_closed_directory_is_named() {
        let closed = env::temp_dir().join(format!("closed-{}", std::process::id()));
        let inside = closed.join("inside");
        fs::create_dir_all(&inside).unwrap();
        need_open_path(&inside).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let error = need_open_path(&inside).unwrap_err().to_string();
        fs::remove_dir_all(&closed).unwrap();
        assert!(error.contains(&format!("cannot enter {} (mode 700)", closed.display())));
    }

    #[test]
    fn a_missing_program_names_the_remedy() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("cargo xtask setup"));
    }
}
