//! A chain of three in the lab, and requests followed through all of it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use hoptrace_lab::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_lab::spawn::{self, APP_USER, Place as Where};
use hoptrace_lab::wire::Done;
use hoptrace_lab::{
    DATABASE_PORT, Flavour, Lab, LoadRun, Mode, Pod, Target, Worker, cgroup, netns, wait,
};
use tracer_user::model::{Hop, Ktime, Protocol, Reporter};

use crate::mesh::{self, Request};
use crate::place::Place;

/// Sockets of a [`Request`].
const UC: usize = 0;
const N: usize = 2;
const LS: usize = 5;

/// Load → capitol-client → capitol-info → a database on the node.
pub(crate) struct Bench {
    // In the order in which they go.
    _database: Database,
    pub(crate) lab: Lab,
}

struct Database(Child);

impl Drop for Database {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Bench {
    /// `None` where this cannot run.
    pub(crate) fn up(name: &str, worker: Worker, faults: bool) -> Option<Self> {
        let lab = mesh::lab(name, Mode::Mtls, |options| {
            options.flavour = Flavour::Chain(worker);
            options.load_meshed = false;
            options.access_log = false;
            options.patch = faults.then_some(crate::envoy::patch);
        })?;
        let node = format!("ht-{name}-node");
        let group = lab.cgroup_root().join("database");
        let _created = cgroup::create(&group).unwrap();
        let program = mesh::lab_binaries().join("hoptrace-chain");
        let mut command = spawn::from_own_directory(&program).unwrap();
        command.arg("database").arg("--listen");
        command
            .arg(format!("0.0.0.0:{DATABASE_PORT}"))
            .stdin(Stdio::null());
        let place = Where {
            netns: &node,
            cgroup: Some(&group),
            user: APP_USER,
        };
        let database = Database(spawn::spawn(&mut command, place).unwrap());
        netns::within(&node, || {
            wait::until("the database", Duration::from_secs(20), || {
                let there = std::net::TcpStream::connect(("127.0.0.1", DATABASE_PORT)).is_ok();
                Ok(there.then_some(()))
            })
        })
        .unwrap();
        Some(Self {
            _database: database,
            lab,
        })
    }

    fn log(&self, pod: Pod) -> PathBuf {
        let own = self.lab.state().dir.join(pod.short());
        own.join("chain.log")
    }

    /// How much there is of what a service wrote down.
    pub(crate) fn done_so_far(&self, pod: Pod) -> usize {
        std::fs::read(self.log(pod)).map_or(0, |bytes| bytes.len())
    }

    /// What it wrote down since.
    pub(crate) fn done_since(&self, pod: Pod, start: usize) -> Vec<Done> {
        let bytes = std::fs::read(self.log(pod)).unwrap();
        let lines = bytes[start..].split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// Starts requests to capitol-client.
    pub(crate) fn start(
        &self,
        headers: &[(&str, &str)],
        connections: usize,
        schedule: Schedule,
    ) -> LoadRun {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let spec = LoadSpec {
            url: self.lab.url(Pod::Load, Target::Page),
            headers: headers.collect(),
            ..mesh::spec(&self.lab, connections, schedule)
        };
        self.lab.start_load(Pod::Load, &spec).unwrap()
    }
}

pub(crate) fn all_succeeded(report: &LoadReport) {
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

/// Milliseconds of one request, or of many in the mean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// As whoever asked capitol-client saw it.
    pub(crate) total: f64,
    /// By [`Place`].
    pub(crate) of: [f64; Place::ALL.len()],
}

/// A request with the call and the query that it led to.
pub(crate) struct Whole {
    /// Process of whoever asked capitol-client.
    pub(crate) asked_by: u32,
    /// While it was under way between the two sidecars.
    pub(crate) on_wire: Range<Ktime>,
    pub(crate) times: Times,
}

fn id(request: &Request) -> Option<u64> {
    let sockets = request.sockets.iter().flatten();
    let mut ids = sockets.map(|exchange| exchange.http.request_id);
    ids.find(|id| *id != 0)
}

/// Follows requests through the chain: by their identifier to capitol-info, whose threads have one request at
/// a time, and by the thread from there on.
pub(crate) fn whole(requests: &[Request]) -> Vec<Whole> {
    let to = |pod: Pod| {
        requests
            .iter()
            .filter(move |request| &*request.times.labels.destination.name == pod.workload())
    };
    let calls: HashMap<u64, &Request> = to(Pod::Info)
        .filter(|call| call.is_whole())
        .filter_map(|call| Some((id(call)?, call)))
        .collect();
    let mut queries: HashMap<u32, Vec<&Request>> = HashMap::new();
    let tcp = |request: &&Request| request.times.labels.protocol == Protocol::Tcp;
    for query in requests.iter().filter(tcp) {
        if let (Some(asked), true) = (&query.sockets[UC], query.sockets[LS].is_some()) {
            queries.entry(asked.write_tid).or_default().push(query);
        }
    }
    let follow = |entry: &Request| {
        let asked = entry.sockets[UC].as_ref()?;
        let call = calls.get(&id(entry)?)?;
        let served = call.sockets[LS].as_ref()?;
        let sent = call.sockets[N].as_ref()?;
        let query = queries.get(&served.read_tid)?.iter().find(|query| {
            let at = query.sockets[UC]
                .as_ref()
                .map_or(0, |query| query.request_first);
            (served.request_taken()..served.response_first).contains(&at)
        })?;
        let (_, total) = *entry
            .times
            .totals
            .iter()
            .find(|(reporter, _)| *reporter == Reporter::Source)?;
        let ms = |ns: u64| ns as f64 / 1e6;
        let all = |request: &Request| ms(request.sum(|_| true));
        let mut of = [0.0; Place::ALL.len()];
        for (place, request, hop) in [
            (Place::Client, entry, Hop::App),
            (Place::Outbound, call, Hop::SidecarOutbound),
            (Place::Network, call, Hop::Network),
            (Place::Inbound, call, Hop::SidecarInbound),
            (Place::Server, call, Hop::App),
            (Place::Loopback, call, Hop::Loopback),
            (Place::Database, query, Hop::App),
        ] {
            of[place as usize] = ms(request.hop(hop));
        }
        of[Place::WayIn as usize] = all(entry) - of[Place::Client as usize];
        of[Place::WayOn as usize] = all(query) - of[Place::Database as usize];
        let times = Times {
            total: ms(total),
            of,
        };
        let sum: f64 = of.iter().sum();
        assert!(
            (sum - times.total).abs() < 0.002,
            "{sum} ms in all places, {} ms seen from outside",
            times.total
        );
        Some(Whole {
            asked_by: asked.socket.tgid,
            on_wire: sent.request_first..sent.response_first,
            times,
        })
    };
    to(Pod::Client).filter_map(follow).collect()
}

/// Means of the half that was faster elsewhere than in `place`. A machine that does other work holds up some
/// requests for milliseconds; chosen by their whole time, those without the fault would be the ones that were
/// held up least, and those with it the ones whose fault happened to be short.
pub(crate) fn means(mut all: Vec<Times>, place: Place) -> Times {
    let elsewhere = |times: &Times| times.total - times.of[place as usize];
    all.sort_by(|one, other| elsewhere(one).total_cmp(&elsewhere(other)));
    all.truncate(all.len().div_ceil(2));
    let count = all.len().max(1) as f64;
    let mean = |of: &dyn Fn(&Times) -> f64| all.iter().map(of).sum::<f64>() / count;
    Times {
        total: mean(&|times| times.total),
        of: std::array::from_fn(|at| mean(&|times| times.of[at])),
    }
}
