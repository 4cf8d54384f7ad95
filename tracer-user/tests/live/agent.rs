//! An agent without a kernel side: requests made up, and attribution, metrics, tap and HTTP side as they are.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tracer_user::attribute::Attribute;
use tracer_user::config::Config;
use tracer_user::decode::{Exchange, Http, Payload, Side, Size, Socket};
use tracer_user::http::{Exposition, Live};
use tracer_user::join::Chain;
use tracer_user::metrics::Metrics;
use tracer_user::metrics::figures::Pairs;
use tracer_user::model::{Identity, Ktime, Workload};
use tracer_user::tap::{Filter, Listener, Request, Tap, TooMany};
use tracer_user::tracer::monotonic_now;

/// Container of the calling app; that of the called one is the next.
const CALLER: u64 = 1;
/// Microseconds of the eleven steps of a request, from t1 to t12.
pub(crate) type Steps = [u64; 11];

pub(crate) struct LiveAgent {
    pub(crate) tap: Mutex<Tap>,
    metrics: Mutex<Metrics>,
    /// Whether it shows single requests.
    pub(crate) shown: bool,
}

/// Names of the two ends of one request.
struct Ends([Workload; 2]);

impl Identity for Ends {
    fn by_cgroup(&mut self, cgroup_id: u64, _tgid: u32) -> Option<Workload> {
        let Self([caller, called]) = self;
        Some(if cgroup_id == CALLER { caller } else { called }.clone())
    }

    fn by_ip(&mut self, _ip: IpAddr, _at: Ktime) -> Option<Workload> {
        None
    }

    fn service(&mut self, _address: SocketAddr, _at: Ktime) -> Option<Arc<str>> {
        None
    }

    fn is_proxy(&mut self, _cgroup_id: u64, _tgid: u32) -> Option<bool> {
        None
    }
}

impl LiveAgent {
    pub(crate) fn new(shown: bool) -> Arc<Self> {
        let mut config = Config::default().metrics();
        config.max_series = 2_000;
        Arc::new(Self {
            tap: Mutex::new(Tap::keeping_slowest()),
            metrics: Mutex::new(Metrics::new(&config).unwrap()),
            shown,
        })
    }

    /// A request that took so many nanoseconds, of an unmeshed pair, from `web` to `to`.
    pub(crate) fn tell(&self, to: &str, duration_ns: u64) {
        let began = monotonic_now() - duration_ns;
        let client = exchange(0, (began, began + duration_ns), None);
        let inside = (began + duration_ns / 10, began + duration_ns / 10 * 9);
        let server = Exchange {
            // Not of a sidecar.
            read: None,
            ..exchange(5, inside, None)
        };
        let chain = Chain {
            app_client: Some(&client),
            app_server: Some(&server),
            ..Chain::default()
        };
        self.take("web", to, &chain);
    }

    /// One that passed all six sockets. A third of what a process takes is queue.
    pub(crate) fn tell_meshed(&self, from: &str, to: &str, steps: Steps) {
        let took: u64 = steps.iter().sum::<u64>() * 1_000;
        let mut at = monotonic_now() - took;
        let mut stamps = vec![at];
        for step in steps {
            at += step * 1_000;
            stamps.push(at);
        }
        let read = |step: usize| Some(stamps[step] + (stamps[step + 1] - stamps[step]) / 3);
        // The request arrives at servers' sockets, the response at clients'.
        let reads = [None, read(1), read(9), read(3), read(7), read(5)];
        let sockets: Vec<_> = (0..6)
            .map(|place| exchange(place, (stamps[place], stamps[11 - place]), reads[place]))
            .collect();
        let chain = Chain {
            app_client: Some(&sockets[0]),
            outbound_server: Some(&sockets[1]),
            outbound_client: Some(&sockets[2]),
            inbound_server: Some(&sockets[3]),
            inbound_client: Some(&sockets[4]),
            app_server: Some(&sockets[5]),
        };
        self.take(from, to, &chain);
    }

    fn take(&self, from: &str, to: &str, chain: &Chain<'_>) {
        let name = |name: &str| Workload::new(name.into(), "shop".into());
        let mut ends = Ends([name(from), name(to)]);
        let times = Attribute::default().attribute(chain, &mut ends);
        self.metrics.lock().unwrap().observe(&times);
        self.tap.lock().unwrap().request(chain, &times);
    }
}

/// One of the six sockets, `Uc` to `Ls`.
fn exchange(
    place: usize,
    (request_first, response_first): (Ktime, Ktime),
    read: Option<Ktime>,
) -> Exchange {
    let (side, local, remote) = [
        (Side::Client, "10.0.0.1:4000", "10.1.0.9:80"),
        (Side::Server, "127.0.0.1:15001", "10.0.0.1:4000"),
        (Side::Client, "10.0.0.1:5000", "10.0.0.2:80"),
        (Side::Server, "10.0.0.2:15006", "10.0.0.1:5000"),
        (Side::Client, "127.0.0.6:6000", "10.0.0.2:80"),
        (Side::Server, "10.0.0.2:80", "10.0.0.1:6000"),
    ][place];
    Exchange {
        socket: Arc::new(Socket {
            cookie: place as u64,
            cgroup_id: CALLER + place as u64 / 3,
            opened: None,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            tgid: 1,
        }),
        side,
        payload: Payload::Http,
        opened: None,
        request_first,
        response_first,
        read,
        request_seq: 0,
        read_tid: 1,
        write_tid: 1,
        srtt_us: 0,
        index: 0,
        after_handshake: false,
        no_response: false,
        upgraded: false,
        http: Http {
            status: 200,
            ..Http::default()
        },
        size: Size::default(),
        stream: None,
    }
}

impl Exposition for LiveAgent {
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let shown = self.metrics.lock().unwrap().shown();
        shown.write(out)
    }

    fn ready(&self) -> Result<String, String> {
        Ok(String::new())
    }

    fn live(&self) -> Option<&dyn Live> {
        self.shown.then_some(self)
    }
}

impl Live for LiveAgent {
    fn listen(&self, filter: Filter) -> Result<Listener, TooMany> {
        self.tap.lock().unwrap().listen(filter)
    }

    fn slowest(&self) -> Vec<Arc<Request>> {
        self.tap.lock().unwrap().slowest(monotonic_now())
    }

    fn pairs(&self) -> Pairs {
        self.metrics.lock().unwrap().pairs()
    }
}
