//! The agent as a process: started late, stopped, killed, terminated, under load.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AgentProcess, Lab, Mode, Pod, free_port, promtool_check_metrics};
use mesh::{load, spec};

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");

fn agent(lab: &Lab, args: &[&str]) -> AgentProcess {
    let mut options = lab.agent_options(AGENT, free_port().unwrap());
    options.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    AgentProcess::start(&options).unwrap()
}

/// Sums of an exposition's samples by family and the labels asked for.
struct Scrape(String);

impl Scrape {
    fn of(agent: &AgentProcess) -> Self {
        Self(agent.metrics().unwrap())
    }

    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter(|line| {
                let family = line.split(['{', ' ']).next().unwrap();
                family == name && labels.iter().all(|label| line.contains(label))
            })
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Requests and mean milliseconds of each hop since an earlier scrape.
    fn hops_since(&self, earlier: &Self) -> BTreeMap<&'static str, (f64, f64)> {
        let hops = [
            "app",
            "sidecar_inbound",
            "sidecar_outbound",
            "network",
            "loopback",
        ];
        let requests = |scrape: &Self| {
            let labels = ["reporter=\"source\""];
            scrape.sum("hoptrace_request_duration_seconds_count", &labels)
        };
        let count = requests(self) - requests(earlier);
        hops.into_iter()
            .map(|hop| {
                let label = format!("hop=\"{hop}\"");
                let sum =
                    |scrape: &Self| scrape.sum("hoptrace_hop_duration_seconds_sum", &[&label]);
                (hop, (count, 1e3 * (sum(self) - sum(earlier)) / count))
            })
            .collect()
    }

    fn books(&self) -> (f64, f64) {
        let lost = ["ring_full", "parse_error", "unknown_socket"];
        let lost: f64 = lost
            .iter()
            .map(|reason| {
                let label = format!("reason=\"{reason}\"");
                self.sum("hoptrace_records_lost_total", &[&label])
            })
            .sum();
        let settled = self.sum("hoptrace_exchanges_total", &[]);
        let pending = self.sum("hoptrace_exchanges_pending", &[]);
        (
            self.sum("hoptrace_records_total", &[]),
            lost + settled + pending,
        )
    }
}

/// The programs that a process holds by its links (`bpf_link_show_fdinfo` in
/// kernel/bpf/syscall.c).
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = descriptors.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let ids = texts.filter_map(|text| {
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        id.trim().parse().ok()
    });
    ids.collect()
}

/// Whether the kernel still has any of these; it frees programs a moment after their last user.
fn are_gone(programs: &BTreeSet<u32>) -> bool {
    let gone = || {
        let loaded = aya::programs::loaded_programs().flatten();
        loaded
            .map(|program| program.id())
            .all(|id| !programs.contains(&id))
    };
    (0..20).any(|_| {
        thread::sleep(Duration::from_millis(50));
        gone()
    })
}

#[test]
fn killed_and_started_again_under_load() {
    let Some(lab) = mesh::lab("life", Mode::Mtls, |_| {}) else {
        return;
    };
    // The connections are older than either agent.
    let rate = |seconds| Schedule::Rate {
        per_second: 300.0,
        seconds,
    };
    load(&lab, &spec(&lab, 8, Schedule::Count(100)));
    let running = lab
        .start_load(Pod::Load, &spec(&lab, 8, rate(9.0)))
        .unwrap();
    let first = agent(&lab, &[]);
    let start = Scrape::of(&first);
    thread::sleep(Duration::from_secs(3));
    let steady = Scrape::of(&first).hops_since(&start);
    let programs = programs_of(first.pid());
    assert_eq!(programs.len(), 4, "{programs:?}");
    first.kill9();
    assert!(are_gone(&programs), "{programs:?} outlive kill -9");

    let restarted = Instant::now();
    let second = agent(&lab, &[]);
    let empty = Scrape::of(&second);
    thread::sleep(Duration::from_secs(2).saturating_sub(restarted.elapsed()));
    let resumed = Scrape::of(&second).hops_since(&empty);
    println!("before {steady:?}\nafter {resumed:?}");
    for (hop, (count, mean)) in &resumed {
        // Two hold times of the two seconds are still to be told.
        assert!(*count > 300.0, "{hop}: {count} requests");
        let (_, steady) = steady[hop];
        let (low, high) = (steady / 2.0, steady * 2.0);
        assert!(
            (low..=high).contains(mean),
            "{hop}: {mean} ms after, {steady} ms before"
        );
    }
    let report = running.wait().unwrap();
    assert_eq!(
        (report.failed, report.reconnects),
        (0, 0),
        "{:?}",
        report.failures
    );
    thread::sleep(Duration::from_secs(1));
    let scrape = Scrape::of(&second);
    let (seen, told) = scrape.books();
    assert_eq!(seen, told);
    let paired = scrape.sum("hoptrace_exchanges_total", &["result=\"paired\""]);
    assert!(paired >= 0.995 * seen, "paired {paired} of {seen}");
    promtool_check_metrics(&scrape.0).unwrap();
    let programs = programs_of(second.pid());
    assert!(second.terminate().unwrap().success());
    assert!(are_gone(&programs), "{programs:?} outlive SIGTERM");
}

#[test]
fn books_balance_after_five_seconds_of_standstill() {
    let Some(lab) = mesh::lab("still", Mode::Mtls, |_| {}) else {
        return;
    };
    let agent = agent(&lab, &["--ring-size", "256KiB"]);
    let load_run = lab
        .start_load(
            Pod::Load,
            &spec(
                &lab,
                8,
                Schedule::Rate {
                    per_second: 800.0,
                    seconds: 7.0,
                },
            ),
        )
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    agent.stop();
    thread::sleep(Duration::from_secs(5));
    agent.cont();
    let report = load_run.wait().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    thread::sleep(Duration::from_secs(1));
    let scrape = Scrape::of(&agent);
    let lost = scrape.sum("hoptrace_records_lost_total", &["reason=\"ring_full\""]);
    let (seen, told) = scrape.books();
    println!("seen {seen}, told {told}, of these {lost} lost in the full ring");
    assert!(lost > 1_000.0, "the ring was full");
    assert_eq!(seen, told);
    // Six exchanges a request, and the handshakes of the connections that the load opened.
    let requests = 6.0 * report.succeeded as f64;
    assert!(
        (requests..requests + 200.0).contains(&seen),
        "{seen} seen, {requests} made"
    );
    assert!(agent.terminate().unwrap().success());
}

#[test]
fn what_is_asked_for_is_served() {
    let Some(lab) = mesh::lab("serve", Mode::None, |_| {}) else {
        return;
    };
    let agent = agent(&lab, &[]);
    for (path, code) in [
        ("/metrics", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/x", 404),
    ] {
        assert_eq!(agent.get(path).unwrap().code, code, "{path}");
    }
    let log = agent.log().to_path_buf();
    assert!(agent.terminate().unwrap().success());
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("balanced=true"), "{text}");
}
