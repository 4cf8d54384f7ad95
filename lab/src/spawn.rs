//! Starting a program as a container would: in a pod's network, in its cgroup, as its user.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{cgroup, netns};

/// Who apps run as: neither root nor Envoy.
pub const APP_USER: u32 = 1000;
/// Who Envoy runs as; the redirection rules let its own traffic through by this number.
pub const SIDECAR_USER: u32 = 1337;

/// Where and as whom a program runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Network namespace.
    pub netns: &'a str,
    /// Directory of its cgroup.
    pub cgroup: Option<&'a Path>,
    /// User and group.
    pub user: u32,
}

/// A command for a program that runs from its own directory: the user it runs as may not be able
/// to walk there (root's home is closed), but need not when it starts there.
///
/// # Errors
/// The program's path has no directory or no name.
pub fn from_own_directory(program: &Path) -> Result<Command> {
    let whole = std::path::absolute(program)
        .with_context(|| format!("no absolute path for {}", program.display()))?;
    let parts = whole.parent().zip(whole.file_name());
    let (directory, name) =
        parts.with_context(|| format!("{} is no program", program.display()))?;
    let mut command = Command::new(PathBuf::from(".").join(name));
    command.current_dir(directory);
    Ok(command)
}

/// Starts it, in a process group of its own: a terminal's Ctrl-C is for us alone.
///
/// # Errors
/// The namespace or the cgroup is not there, or the program cannot be started.
pub fn spawn(command: &mut Command, place: Place<'_>) -> Result<Child> {
    let namespace = netns::open(place.netns)?;
    let procs = place.cgroup.map(cgroup::join_file).transpose()?;
    command.process_group(0);
    let user = place.user;
    let enter = move || enter(&namespace, procs.as_ref(), user);
    // SAFETY: between fork and exec `enter` makes system calls on open descriptors only: it does
    // not allocate, takes no lock, and touches no state of the parent's other threads.
    unsafe { command.pre_exec(enter) };
    command.spawn().with_context(|| {
        format!(
            "cannot start {} in {} as user {user}",
            command.get_program().display(),
            place.netns
        )
    })
}

fn enter(namespace: &File, mut procs: Option<&File>, user: u32) -> io::Result<()> {
    if let Some(procs) = &mut procs {
        // `0` is the writer itself.
        procs.write_all(b"0")?;
    }
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    if user == 0 {
        return Ok(());
    }
    // SAFETY: plain system calls with values as arguments; the list of groups is empty, so its
    // pointer is not read.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(user, user, user) == 0
            && libc::setresuid(user, user, user) == 0
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Standard output and error into one file, standard input empty.
///
/// # Errors
/// The file cannot be made.
pub fn log_to(command: &mut Command, path: &Path) -> Result<()> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let same = log
        .try_clone()
        .with_context(|| format!("cannot write {}", path.display()))?;
    command.stdin(Stdio::null()).stdout(log).stderr(same);
    Ok(())
}

/// The last lines of a log, for an error.
pub fn last_words(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(5));
    tail.map(|line| format!("\n  | {line}")).collect()
}
