//! Which of the six sockets of a request is this?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;

use crate::decode::{Exchange, Side};

/// Istio's outbound listener: redirected connections of the app arrive here.
pub const OUTBOUND_PORT: u16 = 15001;
/// Istio's inbound listener.
pub const INBOUND_PORT: u16 = 15006;
/// Source address of an inbound sidecar towards its app, so that its packets are not redirected
/// again (Istio's `InboundPassthroughBindIpv4` and `…Ipv6`).
const INBOUND_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const INBOUND_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// The six sockets, in the order in which a request passes them, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `Uc`: the calling app.
    AppClient,
    /// `Us`: its sidecar, towards the app.
    OutboundServer,
    /// `N`: its sidecar, towards the network.
    OutboundClient,
    /// `D`: the called pod's sidecar, towards the network.
    InboundServer,
    /// `Lc`: the called pod's sidecar, towards the app.
    InboundClient,
    /// `Ls`: the called app.
    AppServer,
    /// A sidecar's own probes, statistics and administration.
    ProxyAdmin,
}

/// Direction of a sidecar's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// `Us` to `N`.
    Outbound,
    /// `D` to `Lc`.
    Inbound,
}

impl Role {
    /// The lane of a sidecar's socket.
    #[must_use]
    pub const fn lane(self) -> Option<Lane> {
        match self {
            Self::OutboundServer | Self::OutboundClient => Some(Lane::Outbound),
            Self::InboundServer | Self::InboundClient => Some(Lane::Inbound),
            Self::AppClient | Self::AppServer | Self::ProxyAdmin => None,
        }
    }
}

/// Containers known to be sidecars. Bounded by [`Roles::CAP`]; a full table forgets all and learns
/// again from the next redirected connection.
#[derive(Debug, Default)]
pub struct Roles {
    proxies: HashSet<u64>,
}

impl Roles {
    /// Containers remembered: more than a node can run.
    pub const CAP: usize = 16_384;

    /// Learns that a container is a sidecar, from the ports only a sidecar accepts on.
    pub fn learn(&mut self, exchange: &Exchange) {
        let port = exchange.socket.local.port();
        if exchange.side == Side::Server && (port == OUTBOUND_PORT || port == INBOUND_PORT) {
            self.mark_proxy(exchange.socket.cgroup_id);
        }
    }

    /// Notes a container as a sidecar.
    pub fn mark_proxy(&mut self, cgroup_id: u64) {
        if self.proxies.len() >= Self::CAP {
            self.proxies.clear();
        }
        self.proxies.insert(cgroup_id);
    }

    /// Whether the container is known to be a sidecar.
    #[must_use]
    pub fn is_proxy(&self, cgroup_id: u64) -> bool {
        self.proxies.contains(&cgroup_id)
    }

    /// The role of the exchange's socket.
    #[must_use]
    pub fn of(&self, exchange: &Exchange) -> Role {
        if !self.is_proxy(exchange.socket.cgroup_id) {
            return match exchange.side {
                Side::Server => Role::AppServer,
                Side::Client => Role::AppClient,
            };
        }
        match (exchange.side, exchange.socket.local.port()) {
            (Side::Server, OUTBOUND_PORT) => Role::OutboundServer,
            (Side::Server, INBOUND_PORT) => Role::InboundServer,
            (Side::Server, _) => Role::ProxyAdmin,
            (Side::Client, _) if is_inbound_source(exchange.socket.local.ip()) => {
                Role::InboundClient
            }
            (Side::Client, _) if exchange.socket.remote.ip().is_loopback() => Role::ProxyAdmin,
            (Side::Client, _) => Role::OutboundClient,
        }
    }
}

/// Whether an inbound sidecar speaks to its app from this address.
pub(crate) fn is_inbound_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip == INBOUND_SOURCE_V4,
        IpAddr::V6(ip) => ip == INBOUND_SOURCE_V6,
    }
}
