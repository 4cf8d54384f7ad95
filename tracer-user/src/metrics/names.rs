//! Every exported name: metrics, help texts and labels. Dashboards and rules are written against
//! this file; what is not here is not exported (`process_*` comes from the `prometheus` crate).

/// Self time of one hop of one request.
pub const HOP_DURATION: Family = Family {
    name: "hoptrace_hop_duration_seconds",
    help: "Self time of one hop of one request; the sum over hops, legs and parts counts no time twice.",
    labels: &["hop", "leg", "part"],
};
/// Whole request as one end saw it.
pub const REQUEST_DURATION: Family = Family {
    name: "hoptrace_request_duration_seconds",
    help: "Whole request, first byte of the request to first byte of the response, as the client application (source) or the server pod (destination) saw it.",
    labels: &["reporter"],
};
/// Smoothed round trip time of the pod to pod connection.
pub const TCP_RTT: Family = Family {
    name: "hoptrace_tcp_rtt_seconds",
    help: "The kernel's smoothed TCP round trip time of the pod to pod connection, of a sample no older than 16 requests, once a request.",
    labels: &[],
};
/// How calls of gRPC ended.
pub const GRPC_RESPONSES: Family = Family {
    name: "hoptrace_grpc_responses_total",
    help: "Calls of gRPC by the status with which they ended (absent without --http2 on), as the client application (source) or the server pod (destination) saw it.",
    labels: &["reporter", "grpc_response_status"],
};
/// Fate of every decoded exchange record.
pub const EXCHANGES: Family = Family {
    name: "hoptrace_exchanges_total",
    help: "Exchanges (request and response on one socket) by what became of them and how they found their neighbour.",
    labels: &["result", "method"],
};
/// How calls of apps found the requests for which they were made.
pub const APP_CALLS: Family = Family {
    name: "hoptrace_app_calls_total",
    help: "Calls that apps made while they served requests, by how the request was found for which each was made; those of none stay in the time of app.",
    labels: &["method"],
};
/// Exchanges the kernel side completed.
pub const RECORDS: Family = Family {
    name: "hoptrace_records_total",
    help: "Exchange records completed by the kernel side, delivered or not: the other side of the books.",
    labels: &[],
};
/// Exchanges between the two.
pub const PENDING: Family = Family {
    name: "hoptrace_exchanges_pending",
    help: "Exchanges that wait for their neighbours: records minus lost minus exchanges.",
    labels: &[],
};
/// How much of the time is in the histograms.
pub const TRACED_SECONDS: Family = Family {
    name: "hoptrace_traced_seconds_total",
    help: "Seconds in which requests had to begin to be counted: all since the start, or those of the windows of --trace-windows.",
    labels: &[],
};
/// What was lost, by reason.
pub const RECORDS_LOST: Family = Family {
    name: "hoptrace_records_lost_total",
    help: "Records, segments and header prefixes lost or refused, by reason.",
    labels: &["reason"],
};
/// Requests observed under the overflow label set.
pub const LABEL_SETS_CAPPED: Family = Family {
    name: "hoptrace_label_sets_capped_total",
    help: "Requests observed with workload labels set to other, because max_series label sets exist already.",
    labels: &[],
};
/// Whether the time between pods is split.
pub const NETWORK_SPLITS: Family = Family {
    name: "hoptrace_network_splits_total",
    help: "Requests by whether their network time is split at the pods' boundaries (absent without --pod-boundary on).",
    labels: &["result"],
};
/// The boundaries that are watched.
pub const POD_INTERFACES: Family = Family {
    name: "hoptrace_pod_interfaces",
    help: "Pods' veths that the boundary programs are attached to (absent without --pod-boundary on).",
    labels: &[],
};
/// Those that are not.
pub const POD_INTERFACE_ERRORS: Family = Family {
    name: "hoptrace_pod_interface_errors_total",
    help: "Pods' veths that could not be attached to (refused), and times when the kernel's news of interfaces overran and all were asked for again (overrun).",
    labels: &["reason"],
};
/// Times that cannot be.
pub const TIMES_DROPPED: Family = Family {
    name: "hoptrace_times_dropped_total",
    help: "Times that would have been negative and are in no histogram, by hop (or request, for a whole one) and reason.",
    labels: &["time", "reason"],
};
/// Single requests that somebody asked for.
pub const TAP_REQUESTS: Family = Family {
    name: "hoptrace_tap_requests_total",
    help: "Single requests that a listener (/requests) asked for, by whether they were handed over (delivered) or its queue was full (dropped).",
    labels: &["result"],
};
/// Who asks for them.
pub const TAP_LISTENERS: Family = Family {
    name: "hoptrace_tap_listeners",
    help: "Listeners to single requests at this moment.",
    labels: &[],
};
/// Run time of our programs, from the kernel's accounting.
pub const BPF_RUN_SECONDS: Family = Family {
    name: "hoptrace_bpf_run_seconds_total",
    help: "Time spent in each eBPF program of this agent, from the kernel's accounting (absent unless bpf_stats is on).",
    labels: &["program"],
};
/// Runs of our programs, from the kernel's accounting.
pub const BPF_RUNS: Family = Family {
    name: "hoptrace_bpf_runs_total",
    help: "Runs of each eBPF program of this agent, from the kernel's accounting (absent unless bpf_stats is on).",
    labels: &["program"],
};
/// Whether names are up to date.
pub const IDENTITY_SYNCED: Family = Family {
    name: "hoptrace_identity_synced",
    help: "1 while everything of this resource is known and kept up to date by the Kubernetes API, 0 while it is not (absent without --identity kubernetes).",
    labels: &["resource"],
};
/// What the names come from.
pub const IDENTITY_OBJECTS: Family = Family {
    name: "hoptrace_identity_objects",
    help: "Objects known of this resource.",
    labels: &["resource"],
};
/// What went wrong with that.
pub const IDENTITY_ERRORS: Family = Family {
    name: "hoptrace_identity_errors_total",
    help: "Requests to the Kubernetes API that failed, by reason.",
    labels: &["resource", "reason"],
};
/// How often everything was asked again.
pub const IDENTITY_RESTARTS: Family = Family {
    name: "hoptrace_identity_restarts_total",
    help: "Lists of this resource after the first: the watch could not be taken up where it broke off.",
    labels: &["resource"],
};
/// Which build is running.
pub const BUILD_INFO: Family = Family {
    name: "hoptrace_build_info",
    help: "Always 1; the labels tell which build is running.",
    labels: &["version", "arch"],
};

/// Losses counted by the agent itself, beside the kernel side's `tracer_common::Loss`.
pub const AGENT_LOSS_REASONS: &[&str] = &["parse_error", "unknown_socket"];
/// Losses at the pods' boundaries, beside `tracer_common::BoundaryLoss`.
pub const PASSAGE_LOSS_REASONS: &[&str] = &["boundary_parse_error", "boundary_evicted"];

/// Losses of HTTP/2 counted by the agent itself, beside `tracer_common::Http2Loss`.
pub const HTTP2_LOSS_REASONS: &[&str] = &[
    "http2_parse_error",
    "http2_unknown_socket",
    "http2_streams_full",
    "http2_request_unseen",
];

/// Value of every workload label once the cap on label sets is reached.
pub const OTHER: &str = "other";
/// Value of `response_code` when no HTTP status was seen.
pub const UNKNOWN_CODE: &str = "unknown";
/// Values of `connection_security_policy`, Istio's words.
pub const SECURITY_POLICIES: [&str; 2] = ["none", "mutual_tls"];

/// Name, help text and own labels of a metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Metric name with its unit.
    pub name: &'static str,
    /// `# HELP` text.
    pub help: &'static str,
    /// Labels of this family before the common ones.
    pub labels: &'static [&'static str],
}

/// Labels shared by the histograms, named as in Istio's standard metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommonLabel {
    /// Client workload.
    SourceWorkload,
    /// Namespace of the client workload.
    SourceWorkloadNamespace,
    /// Server workload.
    DestinationWorkload,
    /// Namespace of the server workload.
    DestinationWorkloadNamespace,
    /// Service the client asked for.
    DestinationServiceName,
    /// `http`, `grpc` or `tcp`.
    RequestProtocol,
    /// Status class or code.
    ResponseCode,
    /// `mutual_tls` or `none`.
    ConnectionSecurityPolicy,
    /// Istio's canonical service of the client.
    SourceCanonicalService,
    /// Its version.
    SourceCanonicalRevision,
    /// Istio's canonical service of the server.
    DestinationCanonicalService,
    /// Its version.
    DestinationCanonicalRevision,
}

impl CommonLabel {
    /// Every common label in the order of exposition.
    pub const ALL: [Self; 12] = [
        Self::SourceWorkload,
        Self::SourceWorkloadNamespace,
        Self::DestinationWorkload,
        Self::DestinationWorkloadNamespace,
        Self::DestinationServiceName,
        Self::RequestProtocol,
        Self::ResponseCode,
        Self::ConnectionSecurityPolicy,
        Self::SourceCanonicalService,
        Self::SourceCanonicalRevision,
        Self::DestinationCanonicalService,
        Self::DestinationCanonicalRevision,
    ];

    /// Whether it is one of Istio's canonical labels, which are exported on demand.
    #[must_use]
    pub const fn is_canonical(self) -> bool {
        matches!(
            self,
            Self::SourceCanonicalService
                | Self::SourceCanonicalRevision
                | Self::DestinationCanonicalService
                | Self::DestinationCanonicalRevision
        )
    }

    /// Name of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceWorkload => "source_workload",
            Self::SourceWorkloadNamespace => "source_workload_namespace",
            Self::DestinationWorkload => "destination_workload",
            Self::DestinationWorkloadNamespace => "destination_workload_namespace",
            Self::DestinationServiceName => "destination_service_name",
            Self::RequestProtocol => "request_protocol",
            Self::ResponseCode => "response_code",
            Self::ConnectionSecurityPolicy => "connection_security_policy",
            Self::SourceCanonicalService => "source_canonical_service",
            Self::SourceCanonicalRevision => "source_canonical_revision",
            Self::DestinationCanonicalService => "destination_canonical_service",
            Self::DestinationCanonicalRevision => "destination_canonical_revision",
        }
    }
}
