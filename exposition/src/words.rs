//! Values of labels: where and how a request spends time.

use serde::{Deserialize, Serialize};

/// Where a request spends time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// The application, less the calls it made itself.
    App,
    /// The server pod's Envoy.
    SidecarInbound,
    /// The client pod's Envoy.
    SidecarOutbound,
    /// Between the two pods, both directions.
    Network,
    /// Between an application and its Envoy, inside the pod.
    Loopback,
}

impl Hop {
    /// Every hop in the order of the label table.
    pub const ALL: [Self; 5] = [
        Self::App,
        Self::SidecarInbound,
        Self::SidecarOutbound,
        Self::Network,
        Self::Loopback,
    ];

    /// Value of the `hop` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::SidecarInbound => "sidecar_inbound",
            Self::SidecarOutbound => "sidecar_outbound",
            Self::Network => "network",
            Self::Loopback => "loopback",
        }
    }
}

/// Direction of the payload whose way through the hop is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// Client to server.
    Request,
    /// Server to client.
    Response,
    /// The turn-around (`app`) or the round trip (`network`): one figure for both directions.
    Both,
}

impl Leg {
    /// Every leg.
    pub const ALL: [Self; 3] = [Self::Request, Self::Response, Self::Both];

    /// Value of the `leg` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Both => "both",
        }
    }
}

/// The parts of a hop; the sum over the parts is the hop, so `sum()` never counts twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Arrival in the socket until the process read it.
    Queue,
    /// Read until the first byte was written on, less `Connect`.
    Processing,
    /// Of a request for which a sidecar opened its upstream connection: from `connect` until the
    /// first byte was written on, so with the handshakes of TCP and TLS.
    Connect,
    /// The whole hop: it has no parts, or the read was not seen.
    Whole,
    /// Of `network`: between the client's socket and the veth of its pod.
    SourcePod,
    /// Of `network`: between the two pods' veths.
    Wire,
    /// Of `network`: between the veth of the server's pod and its socket.
    DestinationPod,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 7] = [
        Self::Queue,
        Self::Processing,
        Self::Connect,
        Self::Whole,
        Self::SourcePod,
        Self::Wire,
        Self::DestinationPod,
    ];

    /// Value of the `part` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Processing => "processing",
            Self::Connect => "connect",
            Self::Whole => "whole",
            Self::SourcePod => "source_pod",
            Self::Wire => "wire",
            Self::DestinationPod => "destination_pod",
        }
    }
}

/// Which end told the duration of a whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// The client application's socket.
    Source,
    /// The server pod's first socket.
    Destination,
}

impl Reporter {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Source, Self::Destination];

    /// Value of the `reporter` label (Istio's words).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}
