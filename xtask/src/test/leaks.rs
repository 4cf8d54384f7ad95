//! What tests may leave behind: processes, namespaces, control groups, loaded programs.
//!
//! Only what appeared during the tests counts, and a program only when no process outside of them
//! holds it: an agent that runs beside the tests is not their fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// Marks, by inheritance, every process that a test started.
pub(super) const RUN: &str = "HOPTRACE_TEST_RUN";
/// Programs and cgroups are freed a moment after their last user went.
const PATIENCE: Duration = Duration::from_secs(5);
const NAMESPACES: &str = "/run/netns";
const NAMESPACE_PREFIX: &str = "ht-";
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP_PREFIX: &str = "hoptrace-lab-";
const PROGRAM_PREFIX: &str = "hoptrace_";

/// The value of [`RUN`] for this run.
pub(super) fn run_id() -> String {
    process::id().to_string()
}

/// What is there at one moment, each thing in words.
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(super) fn take() -> Self {
        let mut things = BTreeSet::new();
        for name in entries(Path::new(NAMESPACES), NAMESPACE_PREFIX) {
            things.insert(format!("network namespace {name}"));
        }
        for root in CGROUP_ROOTS {
            for name in entries(Path::new(root), CGROUP_PREFIX) {
                things.insert(format!("control group {root}/{name}"));
            }
        }
        let started_by_tests: BTreeSet<_> =
            processes().into_iter().filter(|p| is_ours(p)).collect();
        for process in &started_by_tests {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            things.insert(format!(
                "process {} ({})",
                process.display(),
                name.trim_end()
            ));
        }
        // Without the right to list programs there is none of ours either.
        for program in aya::programs::loaded_programs().flatten() {
            let name = program.name_as_str().unwrap_or_default();
            if name.starts_with(PROGRAM_PREFIX) {
                let holders = holders(program.id());
                if holders.is_empty() || !holders.is_disjoint(&started_by_tests) {
                    things.insert(format!("eBPF program {name} (id {})", program.id()));
                }
            }
        }
        Self(things)
    }

    /// What is there now and was not then, once it has had time to go.
    pub(super) fn wait_for_cleanup(&self) -> Vec<String> {
        let started = Instant::now();
        loop {
            let left: Vec<_> = Self::take().0.difference(&self.0).cloned().collect();
            if left.is_empty() || started.elapsed() > PATIENCE {
                return left;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The directory of every process in /proc.
fn processes() -> Vec<PathBuf> {
    let is_pid = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let pids = entries(Path::new("/proc"), "").into_iter().filter(is_pid);
    pids.map(|pid| Path::new("/proc").join(pid)).collect()
}

fn is_ours(process: &Path) -> bool {
    let mark = format!("{RUN}={}", run_id());
    fs::read(process.join("environ")).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|var| var == mark.as_bytes())
    })
}

/// The processes with a descriptor of a program, or of a link of it (see `bpf_prog_show_fdinfo`
/// and `bpf_link_show_fdinfo` in kernel/bpf/syscall.c).
fn holders(program: u32) -> BTreeSet<PathBuf> {
    let holds = |process: &PathBuf| {
        let fdinfo = process.join("fdinfo");
        entries(&fdinfo, "").iter().any(|descriptor| {
            fs::read_to_string(fdinfo.join(descriptor)).is_ok_and(|text| is_of(&text, program))
        })
    };
    processes().into_iter().filter(holds).collect()
}

fn is_of(fdinfo: &str, program: u32) -> bool {
    let ids = fdinfo
        .lines()
        .filter_map(|line| line.strip_prefix("prog_id:"));
    ids.map(str::trim).any(|id| id == program.to_string())
}

fn entries(directory: &Path, prefix: &str) -> Vec<String> {
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    listing
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_name_their_program() {
        let link = "pos:\t0\nlink_type:\tcgroup\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t208\n";
        assert!(is_of(link, 208));
        assert!(!is_of(link, 20));
        assert!(!is_of("pos:\t0\nmap_id:\t208\n", 208));
    }
}
