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

    /// Learns that a container is a sidecar: from the ports that only a sidecar accepts on, and from
    /// the address that only an inbound one speaks from. That one is told first: its record comes
    /// when the app's answer is read, the other's when the sidecar answers.
    pub fn learn(&mut self, exchange: &Exchange) {
        let local = exchange.socket.local;
        let is_sidecars = match exchange.side {
            Side::Server => [OUTBOUND_PORT, INBOUND_PORT].contains(&local.port()),
            Side::Client => is_inbound_source(local.ip()),
        };
        if is_sidecars {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
    use tracer_common::{ExchangeRecord, SocketInfo};
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::decode::{Decoded, decode};
    use crate::sockets::Sockets;

    const CGROUP: u64 = 7;

    fn exchange(side: u8, local: &str, remote: &str) -> Exchange {
        let (local, remote): (SocketAddrV4, SocketAddrV4) =
            (local.parse().unwrap(), remote.parse().unwrap());
        let octets = |address: SocketAddrV4| address.ip().to_ipv6_mapped().octets();
        let mut record = ExchangeRecord::new_zeroed();
        record.side = side;
        record.request_first_ktime_ns = 1;
        record.response_first_ktime_ns = 2;
        let info = SocketInfo {
            cgroup_id: CGROUP,
            open_ktime_ns: 0,
            saddr: octets(local),
            daddr: octets(remote),
            sport: local.port(),
            dport: remote.port(),
            tgid: 0,
        };
        let bytes = [record.as_bytes(), info.as_bytes()].concat();
        match decode(&bytes, &mut Sockets::default()).unwrap() {
            Decoded::Exchange(exchange) => exchange,
            Decoded::Handshake => panic!("no handshake was made"),
        }
    }

    #[test]
    fn a_sidecar_shows_itself_by_its_ports_and_its_address() {
        for (side, local, remote, role) in [
            (
                SIDE_SERVER,
                "10.0.0.1:15006",
                "10.0.0.2:4000",
                Role::InboundServer,
            ),
            (
                SIDE_SERVER,
                "10.0.0.9:15001",
                "10.0.0.1:4000",
                Role::OutboundServer,
            ),
            (
                SIDE_CLIENT,
                "127.0.0.6:4000",
                "10.0.0.1:8080",
                Role::InboundClient,
            ),
            (
                SIDE_CLIENT,
                "127.0.0.1:4000",
                "127.0.0.1:8080",
                Role::AppClient,
            ),
            (
                SIDE_SERVER,
                "127.0.0.6:8080",
                "127.0.0.1:4000",
                Role::AppServer,
            ),
        ] {
            let mut roles = Roles::default();
            let exchange = exchange(side, local, remote);
            roles.learn(&exchange);
            assert_eq!(roles.of(&exchange), role, "{local}");
        }
    }
}
