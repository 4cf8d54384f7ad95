//! Programs that tests of the pages and of `deploy/` run.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::process::Command;

use crate::markdown::root;
use crate::mesh;

/// What `hoptrace config` makes of a file, whatever the environment says.
pub(crate) fn hoptrace_config(file: &Path) -> Result<String, String> {
    let inherited = std::env::vars().filter(|(name, _)| name.starts_with("HOPTRACE_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
    for (name, _) in inherited {
        command.env_remove(name);
    }
    let output = command
        .args(["config", "--config"])
        .arg(file)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// promtool at the root of the repository, or `None` with a line that says why a test is skipped.
pub(crate) fn promtool(what: &str) -> Option<Command> {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        mesh::skip(what, "promtool is not installed");
        return None;
    }
    let mut command = Command::new("promtool");
    command.current_dir(root());
    Some(command)
}

/// Runs a program that must find no fault.
pub(crate) fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
}
