//! The options as a person gives them, by flag, variable or file: each may be absent.

use super::values::{
    AuthSpec, BpfLog, Buckets, Headers, Http2, IdentitySpec, Interval, LogFormat, Names, Peers,
    PodBoundary, ReadHook, RingSize, Ui,
};
use super::{Config, Mesh, ProxyAppSource, Source, Sources};
use crate::metrics::{LabelSet, ResponseCode};
use crate::windows::Windows;
use clap::Args;
use serde::Deserialize;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

/// The OpenTelemetry SDKs' Prometheus exporters listen on 9464; this is the port beside it.
pub(super) const DEFAULT_PORT: u16 = 9465;
/// A label set has about 16 histograms, 120 kB of exposition: 500 of them are 60 MB a scrape.
pub(super) const DEFAULT_MAX_SERIES: NonZeroUsize = NonZeroUsize::new(500).unwrap();
/// At 400 bytes each about 100 MB, far more than `hold` lets pile up below a million a second.
pub(super) const DEFAULT_MAX_PENDING: NonZeroUsize = NonZeroUsize::new(262_144).unwrap();

/// Arguments of the commands that need a configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct AgentArgs {
    /// TOML file with any of these options, keys as in `hoptrace config`
    #[arg(long, value_name = "FILE", env = "HOPTRACE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The options.
    #[command(flatten)]
    pub options: Options,
}

/// Every option, `None` when it was not given.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// cgroup v2 directory whose sockets are traced [default: the cgroup v2 mount]
    #[arg(
        long,
        value_name = "DIR",
        env = "HOPTRACE_CGROUP_ROOT",
        help_heading = "What to trace"
    )]
    pub cgroup_root: Option<PathBuf>,

    /// Who is who: `cgroup` (names from cgroup paths and processes), `static:FILE` (TOML) or
    /// `kubernetes` (the API) [default: cgroup]
    #[arg(
        long,
        value_name = "SOURCE",
        env = "HOPTRACE_IDENTITY",
        help_heading = "What to trace"
    )]
    pub identity: Option<IdentitySpec>,

    /// Whose sidecars there are: the defaults of the options below follow from it
    /// [default: istio]
    #[arg(
        long,
        value_name = "MESH",
        env = "HOPTRACE_MESH",
        help_heading = "Sidecars"
    )]
    pub mesh: Option<Mesh>,

    /// Processes with these names are sidecar proxies, separated by commas [default: the mesh's:
    /// envoy or linkerd2-proxy]
    #[arg(
        long,
        value_name = "NAMES",
        env = "HOPTRACE_PROXY_NAMES",
        help_heading = "Sidecars"
    )]
    pub proxy_names: Option<Names>,

    /// Port on which a sidecar takes what comes for its app [default: the mesh's: 15006 or 4143]
    #[arg(
        long,
        value_name = "PORT",
        env = "HOPTRACE_PROXY_INBOUND_PORT",
        help_heading = "Sidecars"
    )]
    pub proxy_inbound_port: Option<NonZeroU16>,

    /// Port on which a sidecar takes what its app sends [default: the mesh's: 15001 or 4140]
    #[arg(
        long,
        value_name = "PORT",
        env = "HOPTRACE_PROXY_OUTBOUND_PORT",
        help_heading = "Sidecars"
    )]
    pub proxy_outbound_port: Option<NonZeroU16>,

    /// From where a sidecar reaches its app: addresses, separated by commas, or `own-address`, the
    /// pod's [default: the mesh's: 127.0.0.6,::6 or own-address]
    #[arg(
        long,
        value_name = "SOURCE",
        env = "HOPTRACE_PROXY_APP_SOURCE",
        help_heading = "Sidecars"
    )]
    pub proxy_app_source: Option<ProxyAppSource>,

    /// User that sidecars run as, where neither container nor process has a name [default: the
    /// mesh's: 1337 or 2102]
    #[arg(
        long,
        value_name = "UID",
        env = "HOPTRACE_PROXY_UID",
        help_heading = "Sidecars"
    )]
    pub proxy_uid: Option<u32>,

    /// How to reach the Kubernetes API from outside the cluster [default: as a pod of it]
    #[arg(
        long,
        value_name = "FILE",
        env = "HOPTRACE_KUBECONFIG",
        help_heading = "Kubernetes"
    )]
    pub kubeconfig: Option<PathBuf>,

    /// Name of this node [default: the variable NODE_NAME]
    #[arg(
        long,
        value_name = "NAME",
        env = "HOPTRACE_NODE_NAME",
        help_heading = "Kubernetes"
    )]
    pub node_name: Option<String>,

    /// What is watched to name the pods of other nodes [default: pods]
    #[arg(
        long,
        value_name = "WHAT",
        env = "HOPTRACE_PEERS",
        help_heading = "Kubernetes"
    )]
    pub peers: Option<Peers>,

    /// Containers with these names are sidecar proxies, separated by commas
    /// [default: istio-proxy,linkerd-proxy]
    #[arg(
        long,
        value_name = "NAMES",
        env = "HOPTRACE_PROXY_CONTAINERS",
        help_heading = "Kubernetes"
    )]
    pub proxy_containers: Option<Names>,

    /// Forget the label sets of a workload this long after its last pod is gone: longer than two
    /// scrapes are apart [default: 2m]
    #[arg(
        long,
        value_name = "TIME",
        env = "HOPTRACE_SERIES_GRACE",
        help_heading = "Kubernetes"
    )]
    pub series_grace: Option<Interval>,

    /// Legs whose request heads are looked at: for the status,
    /// `x-request-id` and `traceparent` [default: app-legs]
    #[arg(
        long,
        value_name = "LEGS",
        env = "HOPTRACE_HEADERS",
        help_heading = "What to trace"
    )]
    pub headers: Option<Headers>,

    /// Trace in windows and rest between them, as LENGTH/PERIOD, such as 500ms/10s: costs the node
    /// that much less, and counts only requests that begin in a window [default: always]
    #[arg(
        long,
        value_name = "WINDOWS",
        env = "HOPTRACE_TRACE_WINDOWS",
        help_heading = "What to trace"
    )]
    pub trace_windows: Option<Windows>,

    /// Split `network` at the pods' veths into the pods' own stacks and what is between them: needs
    /// the network namespace of the host [default: off]
    #[arg(
        long,
        value_name = "WHETHER",
        env = "HOPTRACE_POD_BOUNDARY",
        help_heading = "What to trace"
    )]
    pub pod_boundary: Option<PodBoundary>,

    /// Follow HTTP/2 and gRPC on plaintext legs, stream by stream [default: off]
    #[arg(
        long,
        value_name = "WHETHER",
        env = "HOPTRACE_HTTP2",
        help_heading = "What to trace"
    )]
    pub http2: Option<Http2>,

    /// Address of /metrics, /healthz and /readyz, and of the page [default: 0.0.0.0:9465]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "HOPTRACE_LISTEN",
        help_heading = "Metrics"
    )]
    pub listen: Option<SocketAddr>,

    /// Certificate chain, PEM: the address above speaks TLS. Read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        env = "HOPTRACE_TLS_CERT",
        help_heading = "Metrics"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "HOPTRACE_TLS_KEY",
        help_heading = "Metrics"
    )]
    pub tls_key: Option<PathBuf>,

    /// Who may see /metrics, the page and single requests: `none` asks nobody, `basic:FILE` for a line of it (user:password),
    /// `token-review` for a bearer token that the Kubernetes API knows and allows [default: none]
    #[arg(
        long,
        value_name = "HOW",
        env = "HOPTRACE_AUTH",
        help_heading = "Metrics"
    )]
    pub auth: Option<AuthSpec>,

    /// Serve a page at / and single requests at /requests, to whoever may see /metrics
    /// [default: on]
    #[arg(
        long,
        value_name = "WHETHER",
        env = "HOPTRACE_UI",
        help_heading = "Metrics"
    )]
    pub ui: Option<Ui>,

    /// Upper bounds of the histograms in seconds, ascending, separated by commas
    /// [default: 10 µs to 10 s in steps of 1-2-5]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "HOPTRACE_BUCKETS",
        help_heading = "Metrics"
    )]
    pub buckets: Option<Buckets>,

    /// Common labels to export, separated by commas; the others are left out
    /// [default: all but the canonical ones]
    #[arg(
        long,
        value_name = "LABELS",
        env = "HOPTRACE_LABELS",
        help_heading = "Metrics"
    )]
    pub labels: Option<LabelSet>,

    /// Show the status as its class (2xx) or exactly (204) [default: class]
    #[arg(
        long,
        value_name = "HOW",
        env = "HOPTRACE_RESPONSE_CODE",
        help_heading = "Metrics"
    )]
    pub response_code: Option<ResponseCode>,

    /// Greatest number of label sets; further requests count under workloads named `other`
    /// [default: 500]
    #[arg(
        long,
        value_name = "N",
        env = "HOPTRACE_MAX_SERIES",
        help_heading = "Metrics"
    )]
    pub max_series: Option<NonZeroUsize>,

    /// Forget a label set that had no request for this long [default: 1h]
    #[arg(
        long,
        value_name = "TIME",
        env = "HOPTRACE_SERIES_TTL",
        help_heading = "Metrics"
    )]
    pub series_ttl: Option<Interval>,

    /// Ring between kernel and agent: a power of two, at least a page [default: 4MiB]
    #[arg(
        long,
        value_name = "BYTES",
        env = "HOPTRACE_RING_SIZE",
        help_heading = "Tuning"
    )]
    pub ring_size: Option<RingSize>,

    /// How often the ring is drained [default: 50ms]
    #[arg(
        long,
        value_name = "TIME",
        env = "HOPTRACE_POLL_INTERVAL",
        help_heading = "Tuning"
    )]
    pub poll_interval: Option<Interval>,

    /// How long exchanges wait for their neighbours [default: 200ms]
    #[arg(
        long,
        value_name = "TIME",
        env = "HOPTRACE_HOLD",
        help_heading = "Tuning"
    )]
    pub hold: Option<Interval>,

    /// Greatest number of exchanges that wait; more are counted as evicted [default: 262144]
    #[arg(
        long,
        value_name = "N",
        env = "HOPTRACE_MAX_PENDING",
        help_heading = "Tuning"
    )]
    pub max_pending: Option<NonZeroUsize>,

    /// Hook that sees a process read its socket: needed to split queue from processing
    /// [default: auto]
    #[arg(
        long,
        value_name = "HOOK",
        env = "HOPTRACE_READ_HOOK",
        help_heading = "Tuning"
    )]
    pub read_hook: Option<ReadHook>,

    /// Let the kernel account the run time of all eBPF programs of the node (costs about 20 ns a
    /// run, needs CAP_SYS_ADMIN) [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "HOPTRACE_BPF_STATS",
        help_heading = "Tuning",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub bpf_stats: Option<bool>,

    /// What the eBPF programs log [default: off]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "HOPTRACE_BPF_LOG",
        help_heading = "Finding faults"
    )]
    pub bpf_log: Option<BpfLog>,

    /// Record what comes from the kernel to this file as well, for `hoptrace replay`
    #[arg(
        long,
        value_name = "FILE",
        env = "HOPTRACE_RECORD",
        help_heading = "Finding faults"
    )]
    pub record: Option<PathBuf>,

    /// Leave the bytes of plaintext heads in the recording: only what they told stays otherwise
    /// [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "HOPTRACE_RECORD_HEADS",
        help_heading = "Finding faults",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub record_heads: Option<bool>,

    /// What to log: a level, or a filter such as `tracer_user=debug,warn` [default: info]
    #[arg(
        long,
        value_name = "FILTER",
        env = "HOPTRACE_LOG",
        help_heading = "Finding faults"
    )]
    pub log: Option<String>,

    /// Shape of the log [default: text]
    #[arg(
        long,
        value_name = "SHAPE",
        env = "HOPTRACE_LOG_FORMAT",
        help_heading = "Finding faults"
    )]
    pub log_format: Option<LogFormat>,

    /// Keep the capabilities after attaching; for tests.
    #[arg(
        long,
        hide = true,
        env = "HOPTRACE_KEEP_CAPS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub keep_caps: Option<bool>,
}

impl Config {
    /// The first of command line or environment (`given`), file and default that has a value.
    pub(super) fn join(
        given: Options,
        file: Options,
        told: impl Fn(&str) -> Source,
    ) -> super::Resolved {
        let mut sources = Sources::new();
        let mut config = Self::of_mesh(given.mesh.or(file.mesh).unwrap_or_default());
        // One arm for each option; a field left out here is never set, and the test
        // `every_option_can_be_set` says so.
        macro_rules! pick {
            ($($key:ident),* $(,)?) => {$(
                let source = if let Some(value) = given.$key {
                    config.$key = value.into();
                    told(stringify!($key))
                } else if let Some(value) = file.$key {
                    config.$key = value.into();
                    Source::File
                } else {
                    Source::Default
                };
                sources.insert(stringify!($key), source);
            )*};
        }
        pick!(
            cgroup_root,
            listen,
            tls_cert,
            tls_key,
            auth,
            ui,
            identity,
            mesh,
            proxy_names,
            proxy_inbound_port,
            proxy_outbound_port,
            proxy_app_source,
            proxy_uid,
            kubeconfig,
            node_name,
            peers,
            proxy_containers,
            buckets,
            labels,
            response_code,
            max_series,
            series_ttl,
            series_grace,
            ring_size,
            poll_interval,
            hold,
            max_pending,
            read_hook,
            trace_windows,
            pod_boundary,
            http2,
            headers,
            bpf_stats,
            bpf_log,
            record,
            record_heads,
            log,
            log_format,
            keep_caps,
        );
        super::Resolved { config, sources }
    }
}
