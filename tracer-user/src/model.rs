//! The words of the field as types: what the pure stages hand to the metrics.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use hoptrace_exposition::{Hop, Leg, Part, Reporter};

/// Nanoseconds of CLOCK_MONOTONIC, the clock of every stamp.
pub type Ktime = u64;

/// A deployed application, as Istio's `source_workload` and `destination_workload` name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Deployment, StatefulSet, systemd unit or process name; `unknown` when nothing names it.
    pub name: Arc<str>,
    /// Namespace; empty outside Kubernetes.
    pub namespace: Arc<str>,
    /// Which application and version Istio takes it for; `None` when no pod's labels tell.
    pub canonical: Option<Arc<Canonical>>,
}

/// Istio's canonical service and revision: what belongs together over several workloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canonical {
    /// Application.
    pub service: Arc<str>,
    /// Version.
    pub revision: Arc<str>,
}

impl Workload {
    /// A workload without labels.
    #[must_use]
    pub const fn new(name: Arc<str>, namespace: Arc<str>) -> Self {
        Self {
            name,
            namespace,
            canonical: None,
        }
    }

    /// What Istio writes when it cannot tell.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new("unknown".into(), "unknown".into())
    }

    /// Canonical service; the workload's name when no label tells.
    #[must_use]
    pub fn service(&self) -> &str {
        let canonical = self.canonical.as_ref();
        canonical.map_or(&self.name, |canonical| &canonical.service)
    }

    /// Canonical revision.
    #[must_use]
    pub fn revision(&self) -> &str {
        let canonical = self.canonical.as_ref();
        canonical.map_or("unknown", |canonical| &canonical.revision)
    }
}

/// A workload that has had no pod for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Which.
    pub workload: Arc<Workload>,
    /// Whether no other revision of it is left under this name.
    pub last: bool,
}

/// Who a socket belongs to. Kubernetes, a static file or bare cgroup paths stand behind it.
pub trait Identity: Send {
    /// The workload whose container has this cgroup v2 id; `tgid` is 0 when unknown.
    fn by_cgroup(&mut self, cgroup_id: u64, tgid: u32) -> Option<Workload>;
    /// The workload that owned a pod address at `at`: addresses go from one pod to the next.
    fn by_ip(&mut self, ip: IpAddr, at: Ktime) -> Option<Workload>;
    /// The service behind a virtual address, or behind that of a pod at `at`, as
    /// `destination_service_name`.
    fn service(&mut self, address: SocketAddr, at: Ktime) -> Option<Arc<str>>;
    /// Whether the process is a sidecar proxy, `None` when it cannot be told.
    fn is_proxy(&mut self, cgroup_id: u64, tgid: u32) -> Option<bool>;
    /// Takes what became known since, at `now`; returns workloads whose last pod has been gone for
    /// long enough that nothing will be told of it any more.
    fn refresh(&mut self, now: Ktime) -> Vec<Gone> {
        let _no_news = now;
        Vec::new()
    }
}

/// Application protocol of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// gRPC, on HTTP/2.
    Grpc,
    /// Anything else that takes turns.
    Tcp,
}

impl Protocol {
    /// Value of the `request_protocol` label (Istio's words).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// How a call of gRPC ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// The server's `grpc-status`, up to 16.
    Code(u8),
    /// It was not seen: the table of header fields has a hole, or none came.
    Unknown,
}

/// Common labels of one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// Client workload.
    pub source: Workload,
    /// Server workload.
    pub destination: Workload,
    /// Service asked for; the destination workload's name when no service is known.
    pub service: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// HTTP status code, 0 when unknown. The exporter shows the class unless told otherwise.
    pub response_code: u16,
    /// Whether the pod to pod leg was TLS.
    pub mutual_tls: bool,
}

/// One hop's self time in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopTime {
    /// Where.
    pub hop: Hop,
    /// Which direction.
    pub leg: Leg,
    /// Which part.
    pub part: Part,
    /// Self time, nanoseconds.
    pub duration_ns: u64,
}

/// What is known of one request: the input of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTimes {
    /// Who asked whom, how it went.
    pub labels: RequestLabels,
    /// Self times, each hop, leg and part at most once but `loopback`, which passes twice.
    pub hops: Vec<HopTime>,
    /// Whole durations, nanoseconds, by reporter.
    pub totals: Vec<(Reporter, u64)>,
    /// How it ended, if it is a call of gRPC.
    pub grpc: Option<GrpcStatus>,
    /// Smoothed TCP round trip of the pod to pod leg, nanoseconds.
    pub tcp_rtt_ns: Option<u64>,
    /// What is missing above because it would have been negative.
    pub dropped: Vec<Dropped>,
    /// Calls that the app made meanwhile, by how they were found to be for this request; under
    /// [`CallMethod::None`] those of whichever app that found no request and were given up since.
    pub calls: [u64; CallMethod::ALL.len()],
}

/// How a call of an app was found to be for a request that it served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallMethod {
    /// Both have the same `x-request-id`.
    RequestId,
    /// Both are of the trace that `traceparent` names.
    Traceparent,
    /// Its thread had read the request last, or the answer to another call for it.
    Thread,
    /// No other request was served all the time while it was under way.
    Nesting,
    /// It was not: its time is the app's.
    None,
}

impl CallMethod {
    /// Every method.
    pub const ALL: [Self; 5] = [
        Self::RequestId,
        Self::Traceparent,
        Self::Thread,
        Self::Nesting,
        Self::None,
    ];

    /// Value of the `method` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestId => "request_id",
            Self::Traceparent => "traceparent",
            Self::Thread => "thread",
            Self::Nesting => "nesting",
            Self::None => "none",
        }
    }
}

/// A time that would have been negative, and is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dropped {
    /// The hop it belongs to; `None` for the whole request.
    pub hop: Option<Hop>,
    /// Why.
    pub reason: Negative,
}

impl Dropped {
    /// Everything that can happen.
    pub const ALL: [Self; 8] = [
        Self::of(Some(Hop::App), Negative::Order),
        Self::of(Some(Hop::App), Negative::Calls),
        Self::of(Some(Hop::SidecarInbound), Negative::Order),
        Self::of(Some(Hop::SidecarOutbound), Negative::Order),
        Self::of(Some(Hop::Network), Negative::Inside),
        Self::of(Some(Hop::Network), Negative::Order),
        Self::of(Some(Hop::Loopback), Negative::Order),
        Self::of(None, Negative::Order),
    ];

    /// One of them.
    #[must_use]
    pub const fn of(hop: Option<Hop>, reason: Negative) -> Self {
        Self { hop, reason }
    }

    /// Value of the `time` label.
    #[must_use]
    pub const fn time(self) -> &'static str {
        match self.hop {
            Some(hop) => hop.as_str(),
            None => "request",
        }
    }
}

/// Why a time would have been negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Negative {
    /// Its end is stamped before its beginning.
    Order,
    /// The server's side of a connection took longer than the client's.
    Inside,
    /// The app's own calls took longer than it worked for the request: they are another's.
    Calls,
}

impl Negative {
    /// Value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inside => "inside",
            Self::Calls => "calls",
        }
    }
}

/// Fate of one exchange on one socket; every decoded record has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Joined with its neighbour; the method says how.
    Paired,
    /// No neighbour came within the hold time.
    Unpaired,
    /// HTTP/2 or a protocol that does not take turns.
    Unsupported,
    /// A TLS handshake's turns.
    Handshake,
    /// The socket closed before a response.
    NoResponse,
    /// Health probe or metrics scrape.
    Probe,
    /// Continuation of a message already counted (100-continue, body after an early response).
    Continuation,
    /// Plaintext that began like HTTP and is not.
    Malformed,
    /// A table was full.
    Evicted,
    /// Of a request that had begun when the hooks were attached.
    Underway,
    /// Turns of an HTTP/2 connection whose streams are exchanges of their own.
    Multiplexed,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 11] = [
        Self::Paired,
        Self::Unpaired,
        Self::Unsupported,
        Self::Handshake,
        Self::NoResponse,
        Self::Probe,
        Self::Continuation,
        Self::Malformed,
        Self::Evicted,
        Self::Underway,
        Self::Multiplexed,
    ];

    /// Value of the `result` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paired => "paired",
            Self::Unpaired => "unpaired",
            Self::Unsupported => "unsupported",
            Self::Handshake => "handshake",
            Self::NoResponse => "no_response",
            Self::Probe => "probe",
            Self::Continuation => "continuation",
            Self::Malformed => "malformed",
            Self::Evicted => "evicted",
            Self::Underway => "underway",
            Self::Multiplexed => "multiplexed",
        }
    }
}

/// How an exchange found its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Both ends of one connection: client address and TCP sequence number. Exact.
    Tuple,
    /// Through Envoy: order of reads and writes on one worker, nested in time.
    WorkerOrder,
    /// None.
    None,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::Tuple, Self::WorkerOrder, Self::None];

    /// Value of the `method` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tuple => "tuple",
            Self::WorkerOrder => "worker_order",
            Self::None => "none",
        }
    }
}
