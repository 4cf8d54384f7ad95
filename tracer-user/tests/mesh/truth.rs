//! Who was paired with whom, told by Envoy's access log.
//!
//! An HTTP/1.1 connection carries one exchange after the other, and the log has them in the order
//! of their end. So the n-th entry of a connection is the n-th exchange of its socket: no clock is
//! compared.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hoptrace_lab::{AccessDirection, AccessEntry, Lab, Pod};
use tracer_user::decode::Exchange;

use super::Request;

/// Which of the six sockets are the two sides of a sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sidecar {
    Outbound,
    Inbound,
}

impl Sidecar {
    pub(crate) const fn sides(self) -> (usize, usize) {
        match self {
            Self::Outbound => (1, 2),
            Self::Inbound => (3, 4),
        }
    }

    fn direction(self) -> AccessDirection {
        match self {
            Self::Outbound => AccessDirection::Out,
            Self::Inbound => AccessDirection::In,
        }
    }
}

type Key = (u64, u32);

fn key(exchange: &Exchange) -> Key {
    (exchange.socket.cookie, exchange.index)
}

/// The two legs of one request through a sidecar, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Legs {
    pub(crate) request: u64,
    pub(crate) response: u64,
}

impl Legs {
    pub(crate) fn of(server: &Exchange, client: &Exchange) -> Option<Self> {
        let request = client.request_first.checked_sub(server.request_first);
        let response = server.response_first.checked_sub(client.response_first);
        Some(Self {
            request: request?,
            response: response?,
        })
    }
}

/// The truth beside what the tracer told.
pub(crate) struct Comparison {
    /// Entries of the log.
    pub(crate) entries: usize,
    /// Entries whose exchange is missing on one side.
    pub(crate) missing: usize,
    /// Pairs that are the log's.
    pub(crate) identical: usize,
    /// Legs by the log's pairs.
    pub(crate) truth: Vec<Legs>,
    /// Legs by ours.
    pub(crate) ours: Vec<Legs>,
    /// The log's pairs.
    pub(crate) pairs: Vec<(Exchange, Exchange)>,
}

/// Both sidecars on the way from the load pod to capitol-info, whose logs must have exactly the
/// requests `sent`, each with its exchanges on both sides.
pub(crate) fn both(lab: &Lab, requests: &[Request], sent: usize) -> [(Sidecar, Comparison); 2] {
    [
        (Sidecar::Outbound, Pod::Load),
        (Sidecar::Inbound, Pod::Info),
    ]
    .map(|(sidecar, pod)| {
        let limit = Duration::from_secs(5);
        let log = lab.wait_access_log(pod, sent, limit).unwrap();
        let requests: Vec<_> = requests.iter().collect();
        let found = compare(sidecar, &requests, &log);
        assert_eq!(
            found.entries, sent,
            "{sidecar:?}: the log has other requests too"
        );
        assert_eq!(
            found.missing, 0,
            "{sidecar:?}: exchanges of the log that nobody counted"
        );
        (sidecar, found)
    })
}

/// Ours and the log's pairs of one sidecar. What it answered by itself has no pair.
pub(crate) fn compare(sidecar: Sidecar, requests: &[&Request], log: &[AccessEntry]) -> Comparison {
    let (server, client) = sidecar.sides();
    let servers = by_connection(requests, server, |exchange| exchange.socket.remote);
    let clients = by_connection(requests, client, |exchange| exchange.socket.local);
    let paired: HashMap<Key, Key> = requests
        .iter()
        .filter_map(|request| {
            let (server, client) = (
                request.sockets[server].as_ref()?,
                request.sockets[client].as_ref()?,
            );
            Some((key(server), key(client)))
        })
        .collect();
    let mut next: HashMap<(bool, SocketAddr), usize> = HashMap::new();
    let mut nth = |upstream, address| {
        let count = next.entry((upstream, address)).or_default();
        *count += 1;
        *count - 1
    };
    let mut found = Comparison {
        entries: 0,
        missing: 0,
        identical: 0,
        truth: Vec::new(),
        ours: Vec::new(),
        pairs: Vec::new(),
    };
    for entry in log
        .iter()
        .filter(|entry| entry.direction == sidecar.direction())
    {
        found.entries += 1;
        if entry.upstream_local.is_empty() {
            nth(false, entry.downstream_remote.parse().unwrap());
            continue;
        }
        let downstream: SocketAddr = entry.downstream_remote.parse().unwrap();
        let upstream: SocketAddr = entry.upstream_local.parse().unwrap();
        let at = (nth(false, downstream), nth(true, upstream));
        let server = servers.get(&downstream).and_then(|all| all.get(at.0));
        let client = clients.get(&upstream).and_then(|all| all.get(at.1));
        let (Some(server), Some(client)) = (server, client) else {
            found.missing += 1;
            continue;
        };
        // Exchanges that are none of the log's shift all behind them: they do not fit then.
        let Some(legs) = Legs::of(server, client) else {
            found.missing += 1;
            continue;
        };
        found.truth.push(legs);
        found
            .pairs
            .push((Exchange::clone(server), Exchange::clone(client)));
        if paired.get(&key(server)) == Some(&key(client)) {
            found.identical += 1;
        }
    }
    found.ours = requests
        .iter()
        .filter_map(|request| {
            let (server, client) = (
                request.sockets[server].as_ref()?,
                request.sockets[client].as_ref()?,
            );
            Legs::of(server, client)
        })
        .collect();
    found
}

/// Exchanges of one side by the peer's address, each connection's in order.
fn by_connection<'a>(
    requests: &[&'a Request],
    side: usize,
    address: impl Fn(&Exchange) -> SocketAddr,
) -> HashMap<SocketAddr, Vec<&'a Exchange>> {
    let mut connections: HashMap<SocketAddr, Vec<&Exchange>> = HashMap::new();
    for exchange in requests
        .iter()
        .filter_map(|request| request.sockets[side].as_ref())
    {
        connections
            .entry(address(exchange))
            .or_default()
            .push(exchange);
    }
    for exchanges in connections.values_mut() {
        exchanges.sort_by_key(|exchange| exchange.request_first);
    }
    connections
}
