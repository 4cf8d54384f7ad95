//! Processor time, wake-ups and memory: of a process, of control groups, of the whole machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The unit of /proc/stat. It belongs to the ABI of every architecture with eBPF.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all its threads at one moment. A thread that ends takes its share with it, so this
/// is for processes that keep theirs, as the agent does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUsage {
    pub(crate) cpu_seconds: f64,
    /// Context switches, voluntary or not: each is followed by a wake-up.
    pub(crate) switches: f64,
}

impl ProcessUsage {
    /// # Errors
    /// It has ended.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let tasks = format!("/proc/{pid}/task");
        let listing =
            fs::read_dir(&tasks).with_context(|| format!("process {pid} has ended: {tasks}"))?;
        let mut usage = Self::default();
        for task in listing.flatten() {
            // A thread may end between the listing and the look; so little is lost with it.
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            usage.cpu_seconds += cpu_of_schedstat(&read("schedstat")).unwrap_or(0.0);
            let status = read("status");
            usage.switches += ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
                .iter()
                .filter_map(|name| field(&status, name))
                .sum::<f64>();
        }
        Ok(usage)
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            switches: self.switches - earlier.switches,
        }
    }
}

/// Resident memory of a process, MiB: now, and the most it ever was.
///
/// # Errors
/// It has ended.
pub(crate) fn resident_mib(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mib = |name| {
        let kib = field(&status, name).with_context(|| format!("{path} has no {name}"))?;
        Ok::<_, anyhow::Error>(kib / 1024.0)
    };
    Ok((mib("VmRSS:")?, mib("VmHWM:")?))
}

/// Processor time of a cgroup v2 and all below it, seconds. Accounted by the scheduler, with no
/// controller enabled, to the microsecond; work in softirq counts for whom it interrupted.
///
/// # Errors
/// There is no such cgroup.
pub(crate) fn cgroup_cpu(cgroup: &Path) -> Result<f64> {
    let path = cgroup.join("cpu.stat");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let micros = field(&text, "usage_usec")
        .with_context(|| format!("{} has no usage_usec", path.display()))?;
    Ok(micros / 1e6)
}

/// Time that the machine's processors were not idle, seconds.
///
/// # Errors
/// /proc is not mounted.
pub(crate) fn machine_cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy(&text).context("/proc/stat does not begin with the processors' times")
}

/// user, nice, system, (idle, iowait,) irq and softirq of the first line. What the hypervisor stole
/// is nobody's work here, and guests are counted in user already.
fn busy(stat: &str) -> Option<f64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = times
        .split_whitespace()
        .map_while(|time| time.parse().ok())
        .collect();
    let [user, nice, system, _, _, irq, softirq, ..] = ticks.as_slice() else {
        return None;
    };
    Some((user + nice + system + irq + softirq) / TICKS_PER_SECOND)
}

/// The first field of a thread's schedstat is its time on a processor, in nanoseconds: exact where
/// the ticks of /proc/PID/stat are too coarse for a process that hardly runs.
fn cpu_of_schedstat(text: &str) -> Option<f64> {
    let nanos: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanos / 1e9)
}

/// The number behind the name that begins a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let mut fields = text.lines().map(str::split_whitespace);
    fields.find_map(|mut line| (line.next()? == name).then(|| line.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        let stat = "cpu  100 20 30 5000 600 7 8 900 50 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(stat), Some(1.65));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let status = "VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n\
                      voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(field(status, "VmRSS:"), Some(1024.0));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(7.0));
        assert_eq!(field(status, "Vm"), None);
        assert_eq!(cpu_of_schedstat("1500000000 7 3\n"), Some(1.5));
        assert_eq!(cpu_of_schedstat(""), None);
    }

    #[test]
    fn this_process_and_machine_use_something() {
        let (now, most) = resident_mib(std::process::id()).unwrap();
        assert!(0.0 < now && now <= most);
        assert!(machine_cpu().unwrap() > 0.0);
    }

    #[test]
    fn a_busy_process_takes_time() {
        // Not this one: threads of other tests end, and take their times with them.
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let before = ProcessUsage::of(busy.id()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let spent = ProcessUsage::of(busy.id()).unwrap().since(before);
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(spent.cpu_seconds > 0.001, "{spent:?}");
        assert!(ProcessUsage::of(busy.id()).is_err());
    }
}
