//! What is on the node at one moment: everything that an agent could leave behind. Programs, maps and
//! links are the machine's, which others may trace too: of these it is what the agent's process holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hoptrace_cluster::NODE_NETNS;
use hoptrace_lab::ProcessId;

use super::bed::Bed;

/// Directories whose files are compared, by their names: those of the kubelet, of the runtime's
/// state, of the network plugins, and of pinned programs. Not compared is what the runtime keeps of
/// images, and etcd's data.
const DIRECTORIES: [&str; 6] = [
    "/run",
    "/sys/fs/bpf",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/etc",
];
/// Written anew all the time, under names of the moment.
const PASSING: [&str; 2] = ["/run/hoptrace/prometheus", "/run/hoptrace/import.tar"];

/// Things in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// # Errors
    /// The node cannot be looked at.
    pub(super) fn take(bed: &Bed) -> Result<Self> {
        let mut things = BTreeSet::new();
        let holder = bed.cluster.holder()?;
        let process = Path::new("/proc").join(holder.to_string());
        let mounts =
            fs::read_to_string(process.join("mountinfo")).context("reading the node's mounts")?;
        for mount in mounts.lines() {
            // Point, type and source; the numbers before them are the moment's.
            let words: Vec<_> = mount.split(' ').skip(3).collect();
            things.insert(format!("mount {}", words.join(" ")));
        }
        for directory in DIRECTORIES {
            walk(&process.join("root"), Path::new(directory), &mut things);
        }
        for link in links()? {
            things.insert(format!("network interface {link}"));
        }
        for root in bed.cluster.cgroups()? {
            walk_groups(&root, &mut things);
        }
        Ok(Self(things))
    }

    /// What is there now and was not, and what was and is no more.
    pub(super) fn difference(&self, now: &Self) -> Vec<String> {
        let new = now
            .0
            .difference(&self.0)
            .map(|thing| format!("new: {thing}"));
        let gone = self
            .0
            .difference(&now.0)
            .map(|thing| format!("gone: {thing}"));
        new.chain(gone).collect()
    }

    /// How many files are directly in a directory.
    pub(super) fn children(&self, directory: &str) -> usize {
        let start = format!("file {directory}/");
        let inside = self.0.iter().filter_map(|thing| thing.strip_prefix(&start));
        inside.filter(|rest| !rest.contains('/')).count()
    }

    pub(super) fn count(&self, kind: &str) -> usize {
        self.0
            .iter()
            .filter(|thing| thing.starts_with(kind))
            .count()
    }
}

/// What a process has in the kernel, by ids, which are never given again.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) programs: BTreeSet<u32>,
    pub(super) maps: BTreeSet<u32>,
    pub(super) links: BTreeSet<u32>,
}

impl Held {
    /// # Errors
    /// The process has ended, or the kernel does not tell.
    pub(super) fn by(process: ProcessId) -> Result<Self> {
        let directory = Path::new("/proc")
            .join(process.pid.to_string())
            .join("fdinfo");
        let entries =
            fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let mut held = Self::default();
        for entry in entries.flatten() {
            // It may be closed again by now.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            for (name, ids) in [
                ("prog_id:", &mut held.programs),
                ("map_id:", &mut held.maps),
                ("link_id:", &mut held.links),
            ] {
                let found = text.lines().filter_map(|line| line.strip_prefix(name));
                ids.extend(found.filter_map(|id| id.trim().parse::<u32>().ok()));
            }
        }
        // Some maps are held by the programs alone.
        for program in aya::programs::loaded_programs() {
            let program = program.context("listing eBPF programs")?;
            if held.programs.contains(&program.id()) {
                let maps = program.map_ids().context("listing a program's maps")?;
                held.maps.extend(maps.into_iter().flatten());
            }
        }
        Ok(held)
    }

    /// What of it is still there, in words.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for program in aya::programs::loaded_programs() {
            let program = program.context("listing eBPF programs")?;
            if self.programs.contains(&program.id()) {
                left.push(format!("eBPF program {}", program.id()));
            }
        }
        for map in aya::maps::loaded_maps() {
            let map = map.context("listing eBPF maps")?;
            if self.maps.contains(&map.id()) {
                left.push(format!("eBPF map {}", map.id()));
            }
        }
        for link in aya::programs::loaded_links() {
            let link = link.context("listing eBPF links")?;
            if self.links.contains(&link.id()) {
                left.push(format!("eBPF link {}", link.id()));
            }
        }
        Ok(left)
    }
}

fn walk(root: &Path, directory: &Path, things: &mut BTreeSet<String>) {
    let here = root.join(directory.strip_prefix("/").unwrap_or(directory));
    // It may go while it is looked at, or not be there at all.
    for entry in fs::read_dir(here).into_iter().flatten().flatten() {
        let path = directory.join(entry.file_name());
        if PASSING.iter().any(|passing| path.starts_with(passing)) {
            continue;
        }
        things.insert(format!("file {}", path.display()));
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // The file systems of containers are the images'.
        if is_directory && !path.ends_with("rootfs") {
            walk(root, &path, things);
        }
    }
}

/// Names of the node's network interfaces.
fn links() -> Result<Vec<String>> {
    let output = Command::new("ip")
        .args(["-netns", NODE_NETNS, "-brief", "link"])
        .output()
        .context("cannot start ip")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// The node's cgroups, in every hierarchy, but for those of pods that have no container any more: in
/// version 2 beside version 1, the runtime makes them and the kubelet does not know of them.
fn walk_groups(directory: &Path, found: &mut BTreeSet<String>) -> bool {
    let mut has_children = false;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            let is_pod = entry.file_name().to_string_lossy().starts_with("pod");
            let is_used = walk_groups(&path, found);
            if is_used || !is_pod {
                found.insert(format!("control group {}", path.display()));
            }
            has_children = true;
        }
    }
    has_children
}
