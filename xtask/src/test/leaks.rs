//! What tests may leave behind in the kernel: namespaces, control groups, loaded programs.
//!
//! Only what appeared during the tests counts; an agent that runs beside them is not their fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Programs and cgroups are freed a moment after their last user went.
const PATIENCE: Duration = Duration::from_secs(5);
const NAMESPACES: &str = "/run/netns";
const NAMESPACE_PREFIX: &str = "ht-";
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP_PREFIX: &str = "hoptrace-lab-";
const PROGRAM_PREFIX: &str = "hoptrace_";

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
        // Without the right to list programs there is none of ours either.
        for program in aya::programs::loaded_programs().flatten() {
            let name = program.name_as_str().unwrap_or_default();
            if name.starts_with(PROGRAM_PREFIX) {
                things.insert(format!("eBPF program {name} (id {})", program.id()));
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
