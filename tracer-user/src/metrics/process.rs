//! The agent's own `process_*` metrics: those of the prometheus crate, with the processor time as
//! exact as the kernel has it. The crate counts it in whole seconds, more than the agent takes in a
//! minute of most nodes.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Opts};
use rustix::time::{ClockId, clock_gettime};

use super::raise_seconds;

/// The metric whose name and help are the crate's and whose value is ours.
const CPU: &str = "process_cpu_seconds_total";
const CPU_HELP: &str = "Total user and system CPU time spent in seconds.";

/// What the crate collects but for the processor time, and that.
pub(super) struct Process {
    others: ProcessCollector,
    cpu: Counter,
}

impl Process {
    /// Of the calling process.
    pub(super) fn of_this() -> Result<Self, prometheus::Error> {
        Ok(Self {
            others: ProcessCollector::for_self(),
            cpu: Counter::with_opts(Opts::new(CPU, CPU_HELP))?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let others = self.others.desc().into_iter();
        let others = others.filter(|desc| desc.fq_name != CPU);
        others.chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        raise_seconds(&self.cpu, cpu_seconds());
        let others = self.others.collect().into_iter();
        let others = others.filter(|family| family.name() != CPU);
        others.chain(self.cpu.collect()).collect()
    }
}

/// Time on processors of all threads, those that have ended included, in seconds to the nanosecond
/// (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID).
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;
    use prometheus::Registry;
    use std::time::{Duration, Instant};

    /// Names, and the processor time.
    fn shown(registry: &Registry) -> (Vec<String>, f64) {
        let families = registry.gather();
        let names = families.iter().map(|family| family.name().to_owned());
        let cpu = families.iter().find(|family| family.name() == CPU).unwrap();
        let cpu = cpu.get_metric()[0].get_counter().get_value();
        (names.collect(), cpu)
    }

    #[test]
    fn the_time_of_a_moment_is_seen_and_every_name_once() {
        let registry = Registry::new();
        registry
            .register(Box::new(Process::of_this().unwrap()))
            .unwrap();
        let (names, before) = shown(&registry);
        let crates = ProcessCollector::for_self();
        let mut expected: Vec<_> = crates.desc().iter().map(|d| d.fq_name.clone()).collect();
        expected.sort();
        assert_eq!(names, expected);

        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (_, after) = shown(&registry);
        assert!(before < after, "{before} and then {after}");
        assert!(after.fract() > 0.0, "{after} is a whole number of seconds");
    }
}
