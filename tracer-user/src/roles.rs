//! Which of the six sockets of a request is this?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;

use crate::decode::{Exchange, Side, Socket};

/// What tells the sockets of a sidecar apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecars {
    /// It takes what comes for its app here.
    pub inbound_port: u16,
    /// It takes what its app sends here.
    pub outbound_port: u16,
    /// From where it reaches its app.
    pub app_source: AppSource,
}

impl Default for Sidecars {
    /// Istio's.
    fn default() -> Self {
        Self {
            inbound_port: 15006,
            outbound_port: 15001,
            app_source: AppSource::istio(),
        }
    }
}

/// The address from which a sidecar reaches its own app, so that this is not redirected again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppSource {
    /// Addresses that nobody else speaks from.
    Addresses(Vec<IpAddr>),
    /// The pod's, which is also where the app listens: what a sidecar sends to the address that it has
    /// itself. Linkerd's proxy connects to where the caller wanted to go (linkerd2, issue 6495).
    Own,
}

impl AppSource {
    /// Istio's `InboundPassthroughBindIpv4` and `…Ipv6`.
    #[must_use]
    pub fn istio() -> Self {
        Self::Addresses(vec![
            Ipv4Addr::new(127, 0, 0, 6).into(),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
        ])
    }

    /// Whether a sidecar's client socket leads to its app.
    fn leads_to_app(&self, socket: &Socket) -> bool {
        let (local, remote) = (socket.local.ip(), socket.remote.ip());
        match self {
            Self::Addresses(addresses) => addresses.contains(&local),
            Self::Own => local == remote && !remote.is_loopback(),
        }
    }

    /// Whether nobody but a sidecar has a client socket like this.
    fn is_sidecars(&self, socket: &Socket) -> bool {
        matches!(self, Self::Addresses(_)) && self.leads_to_app(socket)
    }
}

/// Whether a proxy's server socket is its administration: probes, statistics. Istio's are from 15000 to
/// 15099 ("Ports used by Istio" in its documentation), Linkerd's 4190 and 4191.
fn is_own(socket: &Socket) -> bool {
    let inside = socket.local.ip().is_loopback() || socket.remote.ip().is_loopback();
    inside || matches!(socket.local.port(), 15_000..=15_099 | 4_190..=4_191)
}

/// The six sockets, in the order in which a request passes them, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `Uc`: the calling app.
    AppClient,
    /// `Us`: its sidecar, towards the app; or a gateway, towards whoever asks it.
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

impl Role {
    /// Whether a request comes here after it was there: false where the next proxy's chain begins.
    #[must_use]
    pub const fn is_behind(self, other: Self) -> bool {
        self as u8 > other as u8
    }
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
    sidecars: Sidecars,
    proxies: HashSet<u64>,
}

impl Roles {
    /// Containers remembered: more than a node can run.
    pub const CAP: usize = 16_384;

    /// Nobody is known yet.
    #[must_use]
    pub fn new(sidecars: Sidecars) -> Self {
        Self {
            sidecars,
            proxies: HashSet::new(),
        }
    }

    /// Learns that a container is a sidecar: from the ports that only a sidecar accepts on, and from
    /// the address that only an inbound one speaks from. That one is told first: its record comes
    /// when the app's answer is read, the other's when the sidecar answers.
    pub fn learn(&mut self, exchange: &Exchange) {
        let Sidecars {
            inbound_port,
            outbound_port,
            app_source,
        } = &self.sidecars;
        let is_sidecars = match exchange.side {
            Side::Server => [outbound_port, inbound_port].contains(&&exchange.socket.local.port()),
            Side::Client => app_source.is_sidecars(&exchange.socket),
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
        let Sidecars {
            inbound_port,
            outbound_port,
            app_source,
        } = &self.sidecars;
        let socket = &exchange.socket;
        match exchange.side {
            Side::Server if socket.local.port() == *outbound_port => Role::OutboundServer,
            Side::Server if socket.local.port() == *inbound_port => Role::InboundServer,
            Side::Server if is_own(socket) => Role::ProxyAdmin,
            // A gateway has neither app nor redirection: what comes for it, it sends on.
            Side::Server => Role::OutboundServer,
            Side::Client if app_source.leads_to_app(socket) => Role::InboundClient,
            Side::Client if socket.remote.ip().is_loopback() => Role::ProxyAdmin,
            Side::Client => Role::OutboundClient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CGROUP, exchange};

    /// The role that a socket gets by what it shows itself, and the one it has in a known sidecar.
    fn check(sidecars: &Sidecars, side: Side, local: &str, remote: &str, roles: [Role; 2]) {
        let exchange = exchange(side, [local, remote], (1, 2));
        let [by_itself, known] = roles;
        let mut roles = Roles::new(sidecars.clone());
        roles.learn(&exchange);
        assert_eq!(roles.of(&exchange), by_itself, "{local} to {remote}");
        roles.mark_proxy(CGROUP);
        assert_eq!(roles.of(&exchange), known, "{local} to {remote}, known");
    }

    #[test]
    fn istios_sidecar_shows_itself_by_its_ports_and_its_address() {
        use Role::{
            AppClient, AppServer, InboundClient, InboundServer, OutboundClient, OutboundServer,
            ProxyAdmin,
        };
        let istio = Sidecars::default();
        let server = |local, roles| check(&istio, Side::Server, local, "10.0.0.2:4000", roles);
        server("10.0.0.1:15006", [InboundServer; 2]);
        server("10.0.0.9:15001", [OutboundServer; 2]);
        server("10.0.0.1:15021", [AppServer, ProxyAdmin]);
        server("10.0.0.1:8443", [AppServer, OutboundServer]);
        let client = |local, remote, roles| check(&istio, Side::Client, local, remote, roles);
        client("127.0.0.6:4000", "10.0.0.1:8080", [InboundClient; 2]);
        client("127.0.0.1:4000", "127.0.0.1:8080", [AppClient, ProxyAdmin]);
        client(
            "10.0.0.1:4000",
            "10.0.0.2:8080",
            [AppClient, OutboundClient],
        );
        client(
            "10.0.0.1:4000",
            "10.0.0.1:8080",
            [AppClient, OutboundClient],
        );
        let app = ("127.0.0.1:4000", [AppServer, ProxyAdmin]);
        check(&istio, Side::Server, "127.0.0.6:8080", app.0, app.1);
    }

    #[test]
    fn linkerds_sidecar_reaches_its_app_at_the_address_that_both_have() {
        use Role::{
            AppClient, AppServer, InboundClient, InboundServer, OutboundClient, OutboundServer,
            ProxyAdmin,
        };
        let linkerd = Sidecars {
            inbound_port: 4143,
            outbound_port: 4140,
            app_source: AppSource::Own,
        };
        let server = |local, roles| check(&linkerd, Side::Server, local, "10.0.0.2:4000", roles);
        server("10.0.0.1:4143", [InboundServer; 2]);
        server("127.0.0.1:4140", [OutboundServer; 2]);
        server("10.0.0.1:4191", [AppServer, ProxyAdmin]);
        server("10.0.0.1:15006", [AppServer, ProxyAdmin]);
        let client = |local, remote, roles| check(&linkerd, Side::Client, local, remote, roles);
        // An app may call itself by its pod's address, so this alone makes no sidecar.
        client("10.0.0.1:4000", "10.0.0.1:8080", [AppClient, InboundClient]);
        client(
            "10.0.0.1:4000",
            "10.0.0.2:8080",
            [AppClient, OutboundClient],
        );
        client("127.0.0.1:4000", "127.0.0.1:4191", [AppClient, ProxyAdmin]);
        client(
            "127.0.0.6:4000",
            "10.0.0.1:8080",
            [AppClient, OutboundClient],
        );
    }
}
