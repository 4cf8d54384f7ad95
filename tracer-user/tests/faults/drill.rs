//! The drill: something in a chain of three is made slow, and whoever follows the printed steps has to name it.
//!
//! `HOPTRACE_DRILL_ROUNDS` and `HOPTRACE_DRILL_SEED` say how many rounds, and which; `cargo xtask drill` sets
//! them.

use std::fmt;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{
    AgentProcess, Container, Detour, Pod, Prometheus, StarveGuard, Worker, free_port,
};

use crate::chain::{self, Bench};
use crate::mesh;
use crate::panels::Page;
use crate::place::Place;
use crate::steps::{Answer, Procedure};

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
const ROUNDS: u64 = 20;
/// Requests are complained about where they come in.
const SLOW: Pod = Pod::Client;
/// Of each round. Rates look back over the last five seconds, and requests are counted half a second late.
const SECONDS: f64 = 6.6;
const LOOK: Duration = Duration::from_millis(6_300);
const PER_SECOND: f64 = 60.0;
const CONNECTIONS: usize = 8;
/// Delays of what is held up: those that the sidecars know.
const DELAYS_MS: [u64; 2] = [5, 50];
/// In each period, as a CPU limit does it.
const PERIOD: Duration = Duration::from_millis(100);

/// Who is starved, and how much of a processor it gets: less than it needs for what is asked.
const STARVED: [(Pod, Container, f64); 4] = [
    (Pod::Client, Container::App, 0.02),
    (Pod::Client, Container::Sidecar, 0.05),
    (Pod::Info, Container::App, 0.02),
    (Pod::Info, Container::Sidecar, 0.05),
];

/// What is wrong in a round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Delay(Place, u64),
    Starve(Pod, Container, f64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(place, ms) => write!(f, "{} held up by {ms} ms", place.words()),
            Self::Starve(pod, container, quota) => {
                let what = match container {
                    Container::App => "app",
                    Container::Sidecar => "sidecar",
                };
                let percent = 100.0 * quota;
                write!(
                    f,
                    "{what} of {} with {percent} % of a processor",
                    pod.workload()
                )
            }
        }
    }
}

impl Fault {
    fn random(random: &mut Random) -> Self {
        if random.below(3) < 2 {
            let place = Place::FAULTY[random.below(Place::FAULTY.len())];
            Self::Delay(place, DELAYS_MS[random.below(DELAYS_MS.len())])
        } else {
            let (pod, container, quota) = STARVED[random.below(STARVED.len())];
            Self::Starve(pod, container, quota)
        }
    }

    /// Whether an answer names it. A starved sidecar is slow on both of its sides, so either is right.
    fn is_named_by(self, answer: &Answer, database: &str) -> bool {
        let (client, info) = (Pod::Client.workload(), Pod::Info.workload());
        let hop = |workload: &str, hop: &str| answer.workload == workload && answer.hop == hop;
        let works = answer.part == "processing";
        match self {
            Self::Delay(Place::Client, _) => hop(client, "app") && works,
            Self::Delay(Place::Outbound, _) => hop(info, "sidecar_outbound") && works,
            Self::Delay(Place::Network, _) => hop(info, "network"),
            Self::Delay(Place::Inbound, _) => hop(info, "sidecar_inbound") && works,
            Self::Delay(Place::Server, _) => hop(info, "app") && works,
            Self::Delay(Place::Database, _) => hop(database, "app") && works,
            Self::Delay(other, _) => panic!("{} is not held up", other.words()),
            Self::Starve(pod, Container::App, _) => hop(pod.workload(), "app"),
            Self::Starve(Pod::Client, Container::Sidecar, _) => {
                hop(client, "sidecar_inbound") || hop(info, "sidecar_outbound")
            }
            Self::Starve(_, Container::Sidecar, _) => {
                hop(info, "sidecar_inbound") || hop(database, "sidecar_outbound")
            }
        }
    }

    fn start(self, bench: &Bench, wire: &Detour) -> Started {
        let mut header = String::new();
        let mut schedule = Schedule::Rate {
            per_second: PER_SECOND,
            seconds: SECONDS,
        };
        let mut starved = None;
        match self {
            // Of each packet, so twice in a request.
            Self::Delay(Place::Network, ms) => wire.delay(Duration::from_micros(1000 * ms / 2)),
            Self::Delay(place, ms) => header = format!("{}-{ms}", place.as_str()),
            Self::Starve(pod, container, quota) => {
                starved = Some(bench.lab.starve(pod, container, quota, PERIOD).unwrap());
                // It takes what it can get.
                schedule = Schedule::Seconds(SECONDS);
            }
        }
        let mut headers = vec![("x-keep", "x-request-id")];
        if !header.is_empty() {
            headers.push(("x-fault", &header));
        }
        Started {
            load: bench.start(&headers, CONNECTIONS, schedule),
            _starved: starved,
        }
    }
}

struct Started {
    load: hoptrace_lab::LoadRun,
    _starved: Option<StarveGuard>,
}

/// SplitMix64: the same rounds for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The remainder prefers none by more than 1 in 10¹⁸.
        usize::try_from(mixed % limit as u64).unwrap()
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}: {error}")),
    )
}

/// What capitol-info asks has no name in the lab's file, so it has another.
fn database(prometheus: &Prometheus) -> String {
    let asked = "topk(1, sum by (destination_workload) (hoptrace_request_duration_seconds_count{\
                 source_workload=\"capitol-info\"}))";
    let found = prometheus.wait_for(asked, Duration::from_secs(20)).unwrap();
    found[0].0["destination_workload"].clone()
}

#[test]
fn the_printed_steps_name_the_slow_hop() {
    if hoptrace_lab::host::program("prometheus").is_err() {
        mesh::skip("drill", "prometheus is not installed");
        return;
    }
    let steps = Procedure::read();
    let Some(bench) = Bench::up("drill", Worker::Threads, true) else {
        return;
    };
    let wire = bench.lab.detour(Pod::Client, Pod::Info).unwrap();
    let agent = AgentProcess::start(&bench.lab.agent_options(AGENT, free_port().unwrap())).unwrap();
    let dir = &bench.lab.state().dir;
    let prometheus = Prometheus::start(dir, free_port().unwrap(), &[agent.address()]).unwrap();
    // Connections open before anything is slow.
    let warm = [("x-fault", "database-50"), ("x-keep", "x-request-id")];
    let warm = bench.start(&warm, 2 * CONNECTIONS, Schedule::Count(200));
    chain::all_succeeded(&warm.wait().unwrap());
    let database = database(&prometheus);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("HOPTRACE_DRILL_SEED").unwrap_or(now.as_secs() % 1_000_000);
    let rounds = number("HOPTRACE_DRILL_ROUNDS").unwrap_or(ROUNDS);
    println!("drill: {rounds} rounds, seed {seed}");
    let mut random = Random(seed);
    let mut wrong = Vec::new();
    for round in 1..=rounds {
        let fault = Fault::random(&mut random);
        let started = fault.start(&bench, &wire);
        thread::sleep(LOOK);
        let followed = steps.follow(|title| Page::open(title, &prometheus), SLOW.workload());
        chain::all_succeeded(&started.load.wait().unwrap());
        wire.delay(Duration::ZERO);
        let line = match followed {
            Ok((answer, seen)) => {
                let right = fault.is_named_by(&answer, &database);
                let verdict = if right { "right" } else { "WRONG" };
                let Answer {
                    workload,
                    hop,
                    part,
                } = answer;
                let seen = seen.trim_end_matches("; ");
                format!("{verdict}: {hop} of requests to {workload}, {part} ({seen})")
            }
            Err(stuck) => format!("WRONG: {stuck}"),
        };
        let line = format!("{round:>2}. {fault} → {line}");
        println!("{line}");
        if line.contains("WRONG") {
            wrong.push(line);
        }
    }
    let named = rounds - u64::try_from(wrong.len()).unwrap();
    println!("drill: {named} of {rounds} named, seed {seed}");
    assert!(
        rounds > 0 && wrong.is_empty(),
        "seed {seed}:\n{}",
        wrong.join("\n")
    );
}
