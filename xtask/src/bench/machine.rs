//! Where figures come from: without these facts they cannot be compared.

use std::fs;
use std::process::Command;
use std::thread;

use serde::Serialize;

use crate::paths;

/// The machine, and the sources.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    /// Load averages before the benchmark started: what else was going on.
    load_average: String,
    /// The commit, with a mark when the sources differ from it.
    commit: String,
}

impl Machine {
    /// What cannot be found out is told as unknown.
    pub(super) fn look() -> Self {
        let line = |path| fs::read_to_string(path).map_or_else(|_| unknown(), first_line);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: model(&cpuinfo).unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(0, usize::from),
            load_average: line("/proc/loadavg"),
            commit: commit().unwrap_or_else(unknown),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Linux {}, {}, {} cores; commit {}",
            self.kernel, self.cpu, self.cores, self.commit
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn first_line(text: String) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// On x86 `model name`; Arm names only numbers.
fn model(cpuinfo: &str) -> Option<String> {
    let field = |name| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
    };
    field("model name").or_else(|| field("CPU part").map(|part| format!("CPU part {part}")))
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        let output = command
            .current_dir(paths::root())
            .args(args)
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_names() {
        let x86 = "processor\t: 0\nmodel name\t: Fast CPU: the best\nflags\t\t: fpu";
        assert_eq!(model(x86).unwrap(), "Fast CPU: the best");
        assert_eq!(model("CPU part\t: 0xd0c\n").unwrap(), "CPU part 0xd0c");
        assert_eq!(model(""), None);
    }
}
