//! From a chain of exchanges to hops: who spent which part of the request.

use crate::calls::Calls;
use crate::decode::{Exchange, Payload};
use crate::join::Chain;
use crate::model::{
    Hop, HopTime, Identity, Ktime, Leg, Part, Protocol, Reporter, RequestLabels, RequestTimes,
    Workload,
};
use crate::roles::is_inbound_source;

/// Attributes chains. Remembers the calls that apps made, because a caller's own request ends
/// later than its calls.
#[derive(Debug, Default)]
pub struct Attribute {
    calls: Calls,
}

impl Attribute {
    /// Notes that an app took a request, before the request's chain is complete.
    pub fn note_server(&mut self, exchange: &Exchange) {
        self.calls.note_server(exchange);
    }

    /// Forgets calls that ended before `before`.
    pub fn expire(&mut self, before: Ktime) {
        self.calls.expire(before);
    }

    /// The request's labels, hops and totals.
    pub fn attribute(
        &mut self,
        chain: &Chain<'_>,
        identity: &mut (impl Identity + ?Sized),
    ) -> RequestTimes {
        self.calls.note_client(chain);
        let mut hops = Vec::with_capacity(16);
        sidecars(chain, &mut hops);
        connections(chain, &mut hops);
        if let Some(server) = chain.app_server {
            let nested = self.calls.take_nested(server);
            app(server, nested, &mut hops);
        }
        RequestTimes {
            labels: labels(chain, identity),
            hops,
            totals: totals(chain),
            tcp_rtt_ns: chain
                .outbound_client
                // An app's own socket is the wire only where it has no sidecar.
                .or(chain.app_client.filter(|_| chain.outbound_server.is_none()))
                .filter(|wire| wire.srtt_us > 0 && !wire.socket.remote.ip().is_loopback())
                .map(|wire| u64::from(wire.srtt_us) * 1000),
        }
    }
}

/// Self times of both sidecars, each leg split at the read.
fn sidecars(chain: &Chain<'_>, hops: &mut Vec<HopTime>) {
    let sides = [
        (
            Hop::SidecarOutbound,
            chain.outbound_server,
            chain.outbound_client,
        ),
        (
            Hop::SidecarInbound,
            chain.inbound_server,
            chain.inbound_client,
        ),
    ];
    for (hop, server, client) in sides {
        let (Some(server), Some(client)) = (server, client) else {
            continue;
        };
        split(
            hop,
            Leg::Request,
            server.request_first,
            server.read,
            client.request_first,
            hops,
        );
        split(
            hop,
            Leg::Response,
            client.response_first,
            client.read,
            server.response_first,
            hops,
        );
    }
}

/// Splits `arrived → left` at `read`.
fn split(
    hop: Hop,
    leg: Leg,
    arrived: Ktime,
    read: Option<Ktime>,
    left: Ktime,
    hops: &mut Vec<HopTime>,
) {
    match read {
        Some(read) => {
            push(hop, leg, Part::Queue, read.checked_sub(arrived), hops);
            push(hop, leg, Part::Processing, left.checked_sub(read), hops);
        }
        None => push(hop, leg, Part::Whole, left.checked_sub(arrived), hops),
    }
}

/// Time on each connection: loopback inside a pod, network between pods.
fn connections(chain: &Chain<'_>, hops: &mut Vec<HopTime>) {
    let mut client: Option<&Exchange> = None;
    for exchange in chain.sockets() {
        if exchange.side == crate::decode::Side::Client {
            client = Some(exchange);
            continue;
        }
        let Some(client) = client.take() else {
            continue;
        };
        if is_loopback(client, exchange) {
            let request = exchange.request_first.checked_sub(client.request_first);
            let response = client.response_first.checked_sub(exchange.response_first);
            push(Hop::Loopback, Leg::Request, Part::Whole, request, hops);
            push(Hop::Loopback, Leg::Response, Part::Whole, response, hops);
        } else {
            let outer = client.response_first.checked_sub(client.request_first);
            let inner = exchange.response_first.checked_sub(exchange.request_first);
            let both = outer
                .zip(inner)
                .and_then(|(outer, inner)| outer.checked_sub(inner));
            push(Hop::Network, Leg::Both, Part::Whole, both, hops);
        }
    }
}

/// A redirected connection ends at 127.0.0.1 or ::1, an inbound one begins at 127.0.0.6 or ::6.
fn is_loopback(client: &Exchange, server: &Exchange) -> bool {
    server.socket.local.ip().is_loopback()
        || server.socket.remote.ip().is_loopback()
        || is_inbound_source(server.socket.remote.ip())
        || client.socket.local.ip() == server.socket.local.ip()
}

/// The app's own time: turn-around less its own calls.
fn app(server: &Exchange, nested: u64, hops: &mut Vec<HopTime>) {
    let (arrived, left) = (server.request_first, server.response_first);
    match server.read {
        Some(read) => {
            let busy = left
                .checked_sub(read)
                .and_then(|busy| busy.checked_sub(nested));
            push(
                Hop::App,
                Leg::Both,
                Part::Queue,
                read.checked_sub(arrived),
                hops,
            );
            push(Hop::App, Leg::Both, Part::Processing, busy, hops);
        }
        None => {
            let whole = left
                .checked_sub(arrived)
                .and_then(|whole| whole.checked_sub(nested));
            push(Hop::App, Leg::Both, Part::Whole, whole, hops);
        }
    }
}

fn push(hop: Hop, leg: Leg, part: Part, duration: Option<u64>, hops: &mut Vec<HopTime>) {
    if let Some(duration_ns) = duration {
        hops.push(HopTime {
            hop,
            leg,
            part,
            duration_ns,
        });
    }
}

fn totals(chain: &Chain<'_>) -> Vec<(Reporter, u64)> {
    let whole = |exchange: &Exchange| exchange.response_first.checked_sub(exchange.request_first);
    let source = chain
        .app_client
        .and_then(whole)
        .map(|total| (Reporter::Source, total));
    // Behind a sidecar the pod's first socket is the sidecar's, whether or not it was found.
    let unmeshed = chain.app_server.filter(|_| chain.inbound_client.is_none());
    let destination = chain.inbound_server.or(unmeshed).and_then(whole);
    let destination = destination.map(|total| (Reporter::Destination, total));
    source.into_iter().chain(destination).collect()
}

fn labels(chain: &Chain<'_>, identity: &mut (impl Identity + ?Sized)) -> RequestLabels {
    let mut at = |exchange: Option<&Exchange>| {
        exchange.and_then(|exchange| {
            identity.by_cgroup(exchange.socket.cgroup_id, exchange.socket.tgid)
        })
    };
    let source = at(chain.app_client)
        .or_else(|| at(chain.outbound_server))
        .or_else(|| at(chain.outbound_client));
    let destination = at(chain.app_server)
        .or_else(|| at(chain.inbound_client))
        .or_else(|| at(chain.inbound_server));
    // The end of an exchange is what is nearest to the news of who had the address.
    let mut by_ip = |end: Option<&Exchange>| {
        end.and_then(|end| identity.by_ip(end.socket.remote.ip(), end.response_first))
    };
    let caller = chain.inbound_server.or(chain.app_server);
    let called = chain.outbound_client.or(chain.app_client);
    let source = source
        .or_else(|| by_ip(caller))
        .unwrap_or_else(Workload::unknown);
    let destination = destination
        .or_else(|| by_ip(called))
        .unwrap_or_else(Workload::unknown);
    // Where the client is on another node, the called pod's own address leads to its service.
    let asked = chain
        .app_client
        .or(chain.outbound_client)
        .map(|client| (client.socket.remote, client.response_first));
    let answered = chain
        .app_server
        .map(|server| (server.socket.local, server.response_first));
    let service = asked
        .or(answered)
        .and_then(|(address, at)| identity.service(address, at))
        .unwrap_or_else(|| destination.name.clone());
    let response_code = chain
        .sockets()
        .map(|exchange| exchange.http.status)
        .find(|code| *code != 0)
        .unwrap_or(0);
    let http = chain
        .sockets()
        .any(|exchange| exchange.payload == Payload::Http);
    let wire = chain.outbound_client.or(chain.inbound_server);
    RequestLabels {
        source,
        destination,
        service,
        protocol: if http { Protocol::Http } else { Protocol::Tcp },
        response_code,
        mutual_tls: wire.is_some_and(|wire| wire.payload == Payload::Tls),
    }
}

impl<'a> Chain<'a> {
    /// Whether an app, or a sidecar's socket towards its app, is among them: only those are known
    /// to carry one request after the other.
    #[must_use]
    pub const fn has_local_end(&self) -> bool {
        self.app_client.is_some()
            || self.outbound_server.is_some()
            || self.inbound_client.is_some()
            || self.app_server.is_some()
    }

    /// The sockets that are there, in the order in which the request passes them.
    pub fn sockets(&self) -> impl Iterator<Item = &'a Exchange> + use<'a> {
        [
            self.app_client,
            self.outbound_server,
            self.outbound_client,
            self.inbound_server,
            self.inbound_client,
            self.app_server,
        ]
        .into_iter()
        .flatten()
    }
}
