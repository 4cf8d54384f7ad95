//! Starving a container of CPU time, as a Kubernetes limit does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::topology::{Container, Pod, cgroup_name};
use crate::{cgroup, host};

/// While it stands, a container has only part of a CPU. Dropping it gives all back.
#[derive(Debug)]
pub struct StarveGuard {
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    /// Cgroup v1: move the processes back, remove the cgroup.
    Move { from: PathBuf, to: PathBuf },
    /// Cgroup v2: lift the limit.
    Lift(PathBuf),
}

/// The cgroups in v1's cpu hierarchy that a lab may make; none where there is no such hierarchy.
pub(crate) fn cgroup1_paths(lab: &str) -> Result<Vec<PathBuf>> {
    let Some(mount) = host::cgroup1_cpu()? else {
        return Ok(Vec::new());
    };
    let containers = Pod::ALL.into_iter().flat_map(|pod| {
        Container::ALL
            .into_iter()
            .map(move |container| (pod, container))
    });
    Ok(containers
        .map(|(pod, container)| cgroup1_path(&mount, lab, pod, container))
        .collect())
}

fn cgroup1_path(mount: &Path, lab: &str, pod: Pod, container: Container) -> PathBuf {
    mount.join(format!(
        "{}-{}-{}",
        cgroup_name(lab),
        pod.short(),
        container.name()
    ))
}

impl Lab {
    /// Gives a container's processes only `quota` of one CPU in each `period`, until the guard is
    /// dropped. 0.1 in 100 ms: after 10 ms of work, 90 ms of standstill.
    ///
    /// # Errors
    /// Nothing runs there, the values are out of the kernel's range (1 ms of quota at least, a
    /// period of 1 ms to 1 s), or the cpu controller is not to be had.
    pub fn starve(
        &self,
        pod: Pod,
        container: Container,
        quota: f64,
        period: Duration,
    ) -> Result<StarveGuard> {
        let period_us = period.as_micros();
        // Far from the limits of any of these types.
        let quota_us = (quota * period.as_secs_f64() * 1e6).round() as i64;
        if !(1_000..=1_000_000).contains(&period_us) || quota_us < 1_000 {
            bail!(
                "{quota_us} µs of CPU in {period_us} µs: the kernel takes at least 1000 µs in a \
                 period of 1000 to 1000000 µs"
            );
        }
        let group = self.container_cgroup(pod, container);
        let pids = cgroup::pids(&group);
        let Some(first) = pids.first() else {
            bail!("nothing runs in {} of {}", container.name(), pod.workload());
        };
        let Some(mount) = host::cgroup1_cpu()? else {
            enable_cpu(&self.state.cgroup_root, &group)?;
            write(&group.join("cpu.max"), &format!("{quota_us} {period_us}"))?;
            let undo = Undo::Lift(group);
            return Ok(StarveGuard { undo });
        };
        let to = home(&mount, *first);
        let from = cgroup1_path(&mount, &self.state.name, pod, container);
        fs::create_dir_all(&from).with_context(|| format!("cannot make {}", from.display()))?;
        let guard = StarveGuard {
            undo: Undo::Move {
                from: from.clone(),
                to,
            },
        };
        write(&from.join("cpu.cfs_period_us"), &period_us.to_string())?;
        write(&from.join("cpu.cfs_quota_us"), &quota_us.to_string())?;
        for pid in pids {
            write(&from.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(guard)
    }
}

impl Drop for StarveGuard {
    fn drop(&mut self) {
        let undone = match &self.undo {
            Undo::Lift(group) => {
                // Gone when the lab is.
                let there = group.join("cpu.max").exists();
                if there {
                    write(&group.join("cpu.max"), "max")
                } else {
                    Ok(())
                }
            }
            Undo::Move { from, to } => {
                for pid in cgroup::pids(from) {
                    // One that ended needs no moving.
                    let _ended = write(&to.join("cgroup.procs"), &pid.to_string());
                }
                cgroup::remove(from)
            }
        };
        if let Err(error) = undone {
            eprintln!("warning: {error:#}");
        }
    }
}

/// The v1 cgroup a process is in, else the hierarchy's root.
fn home(mount: &Path, pid: u32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let relative = cpu_path(&text).unwrap_or_default().trim_start_matches('/');
    let home = mount.join(relative);
    if home.join("cgroup.procs").exists() {
        home
    } else {
        mount.to_path_buf()
    }
}

/// `4:cpu,cpuacct:/path`
fn cpu_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers
            .split(',')
            .any(|name| name == "cpu")
            .then(|| fields.next())?
    })
}

/// In v2 a cgroup has a controller when all those above it pass it on.
fn enable_cpu(root: &Path, group: &Path) -> Result<()> {
    let mut above: Vec<_> = group
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(root))
        .collect();
    above.extend(root.parent());
    for path in above.into_iter().rev() {
        write(&path.join("cgroup.subtree_control"), "+cpu")
            .context("the cpu controller is not to be had in cgroup v2")?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{text}` to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_hierarchy_is_found_by_name() {
        let text = "7:cpuset:/a\n4:cpu,cpuacct:/user.slice\n0::/b\n";
        assert_eq!(cpu_path(text), Some("/user.slice"));
        assert_eq!(cpu_path("0::/b\n7:cpuset:/a"), None);
    }
}
