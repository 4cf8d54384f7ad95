//! What the tests on a real mesh share: a lab, an in-process tracer, the truth of Envoy's log.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

pub(crate) mod truth;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_lab::{Lab, LabOptions, Mode, Pod, Target, envoy, netns};
use tracer_user::books::Books;
use tracer_user::config::{Config, IdentitySpec};
use tracer_user::decode::Exchange;
use tracer_user::identity::{self, IdentityOptions};
use tracer_user::join::{Chain, JoinConfig};
use tracer_user::load::boundary::{Attachment, PodBoundary};
use tracer_user::load::{Headers, LoadOptions, ReadHook};
use tracer_user::model::{Fate, Hop, Leg, Part, RequestTimes};
use tracer_user::roles::Sidecars;
use tracer_user::tracer::{Requests, Tracer, monotonic_now};
use tracer_user::windows::Windows;

/// The six sockets of a request, `Uc` to `Ls`, those that were seen.
pub(crate) type Sockets = [Option<Exchange>; 6];

/// One request as the stages told it.
pub(crate) struct Request {
    pub(crate) sockets: Sockets,
    pub(crate) times: RequestTimes,
}

impl Request {
    /// Sum of a hop's self times, nanoseconds.
    pub(crate) fn hop(&self, hop: Hop) -> u64 {
        self.sum(|time| time.0 == hop)
    }

    /// Sum over the times that `which` takes.
    pub(crate) fn sum(&self, which: impl Fn((Hop, Leg, Part)) -> bool) -> u64 {
        let times = self.times.hops.iter();
        times
            .filter(|time| which((time.hop, time.leg, time.part)))
            .map(|time| time.duration_ns)
            .sum()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.sockets.iter().all(Option::is_some)
    }
}

#[derive(Default)]
struct Collector(Vec<Request>);

impl Requests for Collector {
    fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes) {
        let sockets = [
            chain.app_client,
            chain.outbound_server,
            chain.outbound_client,
            chain.inbound_server,
            chain.inbound_client,
            chain.app_server,
        ];
        self.0.push(Request {
            sockets: sockets.map(Option::<&Exchange>::cloned),
            times: times.clone(),
        });
    }
}

/// What came out of a traced piece of work.
pub(crate) struct Traced<T> {
    pub(crate) requests: Vec<Request>,
    pub(crate) books: Books,
    pub(crate) result: T,
}

/// How to trace.
pub(crate) struct Tracing {
    pub(crate) ring_bytes: u32,
    pub(crate) hold: Duration,
    pub(crate) max_pending: usize,
    pub(crate) sidecars: Sidecars,
    /// What the kernel side takes for the sidecars' inbound port.
    pub(crate) wire_port: u16,
    /// Follow HTTP/2.
    pub(crate) http2: bool,
    /// Watch the pods' veths.
    pub(crate) pod_boundary: bool,
    /// When the hooks look.
    pub(crate) windows: Windows,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            hold: Duration::from_millis(200),
            max_pending: 1 << 18,
            sidecars: Sidecars::default(),
            wire_port: Sidecars::default().inbound_port,
            http2: false,
            pod_boundary: false,
            windows: Windows::Always,
        }
    }
}

impl<T> Traced<T> {
    /// Balanced, nothing lost, and six exchanges for each of the requests `sent`.
    pub(crate) fn assert_all_counted(&self, sent: usize) {
        let books = &self.books;
        assert!(books.balance(), "{books}");
        assert_eq!((books.lost(), books.missed), (0, 0), "{books}");
        let handshakes = usize::try_from(books.fate(Fate::Handshake)).unwrap();
        let completed = usize::try_from(books.completed()).unwrap();
        assert_eq!(
            completed,
            6 * sent + handshakes,
            "six exchanges a request: {books}"
        );
    }

    /// Requests seen on all six sockets.
    pub(crate) fn whole(&self) -> usize {
        let requests = self.requests.iter();
        requests.filter(|request| request.is_whole()).count()
    }
}

/// Runs `work` while a tracer watches the lab. The last records are given time to arrive.
pub(crate) fn trace<T>(lab: &Lab, tracing: &Tracing, work: impl FnOnce() -> T) -> Traced<T> {
    let mut tracer = start(lab, tracing);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut collector = Collector::default();
            while !done.load(Ordering::Acquire) {
                let now = monotonic_now();
                while tracer.drain(&mut collector).unwrap() {}
                tracer.advance(now, &mut collector).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
            let books = tracer.finish(&mut collector).unwrap();
            (collector.0, books)
        });
        // The hooks are attached; sockets in the middle of an exchange are left to finish it.
        thread::sleep(Duration::from_millis(100));
        let result = {
            // Also when the work panics: the reader must end for the test to end.
            let _done = SetOnDrop(&done);
            let result = work();
            thread::sleep(Duration::from_millis(200));
            result
        };
        let (requests, books) = reader.join().unwrap();
        Traced {
            requests,
            books,
            result,
        }
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub(crate) fn start(lab: &Lab, tracing: &Tracing) -> Tracer {
    let config = Config::default();
    let spec = IdentitySpec::Static(lab.identity_file().to_path_buf());
    let options = IdentityOptions::new(&config).unwrap();
    let identity = identity::from_spec(&spec, &options).unwrap();
    let join = JoinConfig {
        hold_ns: u64::try_from(tracing.hold.as_nanos()).unwrap(),
        max_pending: tracing.max_pending,
    };
    let mut tracer = Tracer::start(&load_options(lab, tracing), join, identity).unwrap();
    tracer.expect(tracing.sidecars.clone());
    if tracing.pod_boundary {
        tracer.watch(boundary(lab, Attachment::Tcx));
    }
    tracer
}

/// The boundary's programs at the veths of the lab's node.
pub(crate) fn boundary(lab: &Lab, attachment: Attachment) -> PodBoundary {
    let attach = || Ok(PodBoundary::attach(attachment)?);
    netns::within(&lab.node_netns(), attach).unwrap()
}

fn load_options(lab: &Lab, tracing: &Tracing) -> LoadOptions {
    LoadOptions {
        cgroup_root: lab.cgroup_root().to_path_buf(),
        ring_bytes: tracing.ring_bytes,
        read_hook: ReadHook::Required,
        headers: Headers::AppLegs,
        sidecar_inbound_port: tracing.wire_port,
        http2: tracing.http2,
        windows: tracing.windows,
        log_level: 0,
    }
}

/// A lab, or `None` with a line that says why this test is skipped.
pub(crate) fn lab(name: &str, mode: Mode, change: impl FnOnce(&mut LabOptions)) -> Option<Lab> {
    if !rustix::process::geteuid().is_root() {
        skip(name, "it needs root");
        return None;
    }
    let mut options = LabOptions::new(name, envoy::find().unwrap(), lab_binaries());
    options.mode = mode;
    options.load_meshed = mode != Mode::None;
    change(&mut options);
    Some(Lab::up(&options).unwrap())
}

/// Where `cargo xtask test` built the lab's programs, else where cargo puts them.
pub(crate) fn lab_binaries() -> PathBuf {
    std::env::var_os("HOPTRACE_LAB_BIN").map_or_else(
        || {
            let agent = PathBuf::from(env!("CARGO_BIN_EXE_hoptrace"));
            agent.parent().unwrap().to_path_buf()
        },
        PathBuf::from,
    )
}

/// Says that a test does not run here, in a way that `cargo xtask test` counts.
pub(crate) fn skip(name: &str, reason: &str) {
    use std::io::Write;
    println!("SKIP {name}: {reason}");
    if let Some(path) = std::env::var_os("HOPTRACE_SKIP_FILE") {
        let file = std::fs::File::options().append(true).open(path);
        writeln!(file.unwrap(), "SKIP {name}: {reason}").unwrap();
    }
}

/// Requests to capitol-info from the load pod.
pub(crate) fn spec(lab: &Lab, connections: usize, schedule: Schedule) -> LoadSpec {
    LoadSpec {
        url: format!(
            "{}/capitols/1",
            lab.url(Pod::Load, Target::Info).trim_end_matches('/')
        ),
        method: "GET".into(),
        headers: Vec::new(),
        body: String::new(),
        connections,
        schedule,
        request_ids: true,
    }
}

/// Runs load that must succeed whole.
pub(crate) fn load(lab: &Lab, spec: &LoadSpec) -> LoadReport {
    let report = lab.load(Pod::Load, spec).unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    report
}
