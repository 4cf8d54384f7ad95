//! From a chain of exchanges to hops: who spent which part of the request.

use crate::boundary::{Boundary, PassageError, Split, Verdict};
use crate::calls::Calls;
use crate::decode::{Exchange, Payload};
use crate::join::Chain;
use crate::model::{
    CallMethod, Dropped, GrpcStatus, Hop, HopTime, Identity, Ktime, Leg, Negative, Part, Protocol,
    Reporter, RequestLabels, RequestTimes, Workload,
};

/// Attributes chains. Remembers the calls that apps made, because a caller's own request ends
/// later than its calls.
#[derive(Debug, Default)]
pub struct Attribute {
    calls: Calls,
    /// Where the pods' veths are watched.
    boundary: Option<Boundary>,
    splits: Splits,
}

/// How often the time between two pods was split, by verdict.
pub type Splits = [u64; Verdict::ALL.len()];

impl Attribute {
    /// Notes that an app took a request, before the request's chain is complete.
    pub fn note_server(&mut self, exchange: &Exchange) {
        self.calls.note_server(exchange);
    }

    /// The pods' veths are watched; to be told before the first request.
    pub fn split_by(&mut self, boundary: Boundary) {
        self.boundary = Some(boundary);
    }

    /// Takes what passed a veth, a raw record.
    ///
    /// # Errors
    /// [`PassageError`]; the caller counts it.
    pub fn note_passage(&mut self, bytes: &[u8]) -> Result<(), PassageError> {
        let boundary = self.boundary.as_mut();
        boundary.map_or(Ok(()), |boundary| boundary.note(bytes))
    }

    /// Forgets what passed long before `now`.
    pub fn expire_passages(&mut self, now: Ktime) {
        if let Some(boundary) = &mut self.boundary {
            boundary.expire(now);
        }
    }

    /// How often the time between two pods was split so far.
    #[must_use]
    pub const fn splits(&self) -> Splits {
        self.splits
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
        let mut times = Times {
            hops: Vec::with_capacity(16),
            ..Times::default()
        };
        sidecars(chain, &mut times);
        let verdict = connections(chain, self.boundary.as_ref(), &mut times);
        if let Some(count) = verdict.and_then(|verdict| self.splits.get_mut(verdict as usize)) {
            *count += 1;
        }
        if let Some(server) = chain.app_server {
            let nested = self.calls.take_nested(server);
            times.calls = nested.found;
            app(server, nested.covered, &mut times);
        }
        let totals = totals(chain, &mut times);
        RequestTimes {
            labels: labels(chain, identity),
            hops: times.hops,
            totals,
            grpc: grpc_status(chain),
            tcp_rtt_ns: chain
                .outbound_client
                // An app's own socket is the wire only where it has no sidecar.
                .or(chain.app_client.filter(|_| chain.outbound_server.is_none()))
                .filter(|wire| wire.srtt_us > 0 && !wire.socket.remote.ip().is_loopback())
                .map(|wire| u64::from(wire.srtt_us) * 1000),
            dropped: times.dropped,
            calls: times.calls,
        }
    }
}

/// The self times of one request, and those that would have been negative.
#[derive(Debug, Default)]
struct Times {
    hops: Vec<HopTime>,
    dropped: Vec<Dropped>,
    calls: [u64; CallMethod::ALL.len()],
}

impl Times {
    fn push(&mut self, hop: Hop, leg: Leg, part: Part, duration: Result<u64, Negative>) {
        match duration {
            Ok(duration_ns) => self.hops.push(HopTime {
                hop,
                leg,
                part,
                duration_ns,
            }),
            Err(reason) => self.dropped.push(Dropped::of(Some(hop), reason)),
        }
    }
}

/// From one stamp to a later one.
fn between(from: Ktime, to: Ktime) -> Result<u64, Negative> {
    to.checked_sub(from).ok_or(Negative::Order)
}

/// Self times of both sidecars, each leg split at the read.
fn sidecars(chain: &Chain<'_>, times: &mut Times) {
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
        let connected = connected(server, client);
        let mut split = |leg, arrived, read, left| split(hop, leg, [arrived, left], read, times);
        split(
            Leg::Request,
            server.request_first,
            server.read,
            connected.unwrap_or(client.request_first),
        );
        split(
            Leg::Response,
            client.response_first,
            client.read,
            server.response_first,
        );
        if let Some(connected) = connected {
            let connect = between(connected, client.request_first);
            times.push(hop, Leg::Request, Part::Connect, connect);
        }
    }
}

/// When a sidecar began to open its upstream connection, if it did so for this request. What was
/// opened before the request was read was opened for another, or in advance.
fn connected(server: &Exchange, client: &Exchange) -> Option<Ktime> {
    let within = server.request_taken()..=client.request_first;
    client.opened.filter(|opened| within.contains(opened))
}

/// Splits `arrived → left` at `read`.
fn split(hop: Hop, leg: Leg, [arrived, left]: [Ktime; 2], read: Option<Ktime>, times: &mut Times) {
    match read {
        Some(read) => {
            times.push(hop, leg, Part::Queue, between(arrived, read));
            times.push(hop, leg, Part::Processing, between(read, left));
        }
        None => times.push(hop, leg, Part::Whole, between(arrived, left)),
    }
}

/// Time on each connection: loopback inside a pod, network between pods. Returns whether the latter
/// is split at the pods' boundaries, where they are watched.
fn connections(
    chain: &Chain<'_>,
    boundary: Option<&Boundary>,
    times: &mut Times,
) -> Option<Verdict> {
    let mut client: Option<&Exchange> = None;
    // With a gateway on the way there are two of them, and one figure.
    let mut network: Option<Result<u64, Negative>> = None;
    let mut parts = Ok(Split::default());
    for exchange in chain.sockets() {
        if exchange.side == crate::decode::Side::Client {
            client = Some(exchange);
            continue;
        }
        let Some(client) = client.take() else {
            continue;
        };
        if link(chain, client, exchange) == Hop::Loopback {
            let request = between(client.request_first, exchange.request_first);
            let response = between(exchange.response_first, client.response_first);
            times.push(Hop::Loopback, Leg::Request, Part::Whole, request);
            times.push(Hop::Loopback, Leg::Response, Part::Whole, response);
        } else {
            let outer = between(client.request_first, client.response_first);
            let inner = between(exchange.request_first, exchange.response_first);
            let both = outer.and_then(|outer| Ok((outer, inner?)));
            let both = both.and_then(|(o, i)| o.checked_sub(i).ok_or(Negative::Inside));
            let before = network.unwrap_or(Ok(0));
            network = Some(before.and_then(|before| Ok(before + both?)));
            if let Some(boundary) = boundary {
                parts =
                    parts.and_then(|parts: Split| Ok(parts.and(boundary.split(client, exchange)?)));
            }
        }
    }
    let network = network?;
    if boundary.is_some() && network.is_ok() {
        match parts {
            Ok(parts) => split_network(&parts, times),
            Err(_) => times.push(Hop::Network, Leg::Both, Part::Whole, network),
        }
        return Some(parts.err().unwrap_or(Verdict::Split));
    }
    times.push(Hop::Network, Leg::Both, Part::Whole, network);
    None
}

/// The parts of the network, each way where one clock tells it.
fn split_network(parts: &Split, times: &mut Times) {
    let mut push = |leg, part, ns| times.push(Hop::Network, leg, part, Ok(ns));
    for (part, [there, back]) in [
        (Part::SourcePod, parts.source_pod),
        (Part::DestinationPod, parts.destination_pod),
    ] {
        push(Leg::Request, part, there);
        push(Leg::Response, part, back);
    }
    push(Leg::Both, Part::Wire, parts.wire);
}

/// What the connection between two of a chain's sockets is: loopback inside a pod, or network.
pub(crate) fn link(chain: &Chain<'_>, client: &Exchange, server: &Exchange) -> Hop {
    // Whatever its address, a sidecar speaks to its app inside the pod.
    let to_app = chain
        .inbound_client
        .is_some_and(|inner| std::ptr::eq(inner, client));
    if to_app || is_loopback(client, server) {
        Hop::Loopback
    } else {
        Hop::Network
    }
}

/// A redirected connection ends at 127.0.0.1 or ::1; an inbound one may begin at 127.0.0.6.
fn is_loopback(client: &Exchange, server: &Exchange) -> bool {
    server.socket.local.ip().is_loopback()
        || server.socket.remote.ip().is_loopback()
        || client.socket.local.ip() == server.socket.local.ip()
}

/// The app's own time: turn-around less its own calls.
fn app(server: &Exchange, nested: u64, times: &mut Times) {
    let (arrived, left) = (server.request_first, server.response_first);
    let less_calls = |busy: u64| busy.checked_sub(nested).ok_or(Negative::Calls);
    let mut push = |part, duration| times.push(Hop::App, Leg::Both, part, duration);
    match server.read {
        Some(read) => {
            push(Part::Queue, between(arrived, read));
            push(Part::Processing, between(read, left).and_then(less_calls));
        }
        None => push(Part::Whole, between(arrived, left).and_then(less_calls)),
    }
}

fn totals(chain: &Chain<'_>, times: &mut Times) -> Vec<(Reporter, u64)> {
    // Behind a sidecar the pod's first socket is the sidecar's, whether or not it was found.
    let unmeshed = chain.app_server.filter(|_| chain.inbound_client.is_none());
    let ends = [
        (Reporter::Source, chain.app_client),
        (Reporter::Destination, chain.inbound_server.or(unmeshed)),
    ];
    let mut totals = Vec::with_capacity(ends.len());
    for (reporter, end) in ends {
        let Some(end) = end else { continue };
        match between(end.request_first, end.response_first) {
            Ok(total) => totals.push((reporter, total)),
            Err(reason) => times.dropped.push(Dropped::of(None, reason)),
        }
    }
    totals
}

/// How a call of gRPC ended, as far as a server's socket on the way saw it.
fn grpc_status(chain: &Chain<'_>) -> Option<GrpcStatus> {
    let told = chain
        .sockets()
        .filter_map(|exchange| exchange.stream.and_then(|stream| stream.grpc));
    told.reduce(|one, other| match one {
        GrpcStatus::Code(_) => one,
        GrpcStatus::Unknown => other,
    })
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
    // Only a server's socket knows that its connection was upgraded.
    let upgraded = chain.sockets().any(|exchange| exchange.upgraded);
    let http = !upgraded
        && chain
            .sockets()
            .any(|exchange| exchange.payload == Payload::Http);
    let protocol = match (grpc_status(chain), http) {
        (Some(_), _) => Protocol::Grpc,
        (None, true) => Protocol::Http,
        (None, false) => Protocol::Tcp,
    };
    let wire = chain.outbound_client.or(chain.inbound_server);
    RequestLabels {
        source,
        destination,
        service,
        protocol,
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

    /// All six places, in the order in which the request passes them.
    #[must_use]
    pub const fn places(&self) -> [Option<&'a Exchange>; 6] {
        [
            self.app_client,
            self.outbound_server,
            self.outbound_client,
            self.inbound_server,
            self.inbound_client,
            self.app_server,
        ]
    }

    /// The sockets that are there, in that order.
    pub fn sockets(&self) -> impl Iterator<Item = &'a Exchange> + use<'a> {
        self.places().into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Side;
    use crate::testing;

    /// Begins, was read, ended.
    type Stamps = (u64, u64, u64);

    fn exchange(side: Side, (begins, read, ended): Stamps) -> Exchange {
        // Two addresses of the network.
        let ends = match side {
            Side::Client => ["10.0.0.1:4000", "10.0.0.2:80"],
            Side::Server => ["10.0.0.2:80", "10.0.0.1:4000"],
        };
        Exchange {
            read: Some(read),
            ..testing::exchange(side, ends, (begins, ended))
        }
    }

    /// Hops and what was dropped, of a caller and a server that made calls for `nested`.
    fn check(client: Stamps, server: Stamps, nested: u64) -> (Vec<Hop>, Vec<Dropped>) {
        let (client, server) = (
            exchange(Side::Client, client),
            exchange(Side::Server, server),
        );
        let chain = Chain {
            app_client: Some(&client),
            app_server: Some(&server),
            ..Chain::default()
        };
        let mut times = Times::default();
        connections(&chain, None, &mut times);
        app(&server, nested, &mut times);
        let kept = totals(&chain, &mut times).len();
        let whole = times.dropped.iter().filter(|dropped| dropped.hop.is_none());
        assert_eq!(kept + whole.count(), 2);
        (
            times.hops.iter().map(|time| time.hop).collect(),
            times.dropped,
        )
    }

    #[test]
    fn a_connection_is_its_requests_only_if_that_was_read_before() {
        let server = exchange(Side::Server, (100, 110, 190));
        for (opened, parts) in [
            (None, vec![(Part::Queue, 10), (Part::Processing, 40)]),
            // In advance, or for another request.
            (Some(109), vec![(Part::Queue, 10), (Part::Processing, 40)]),
            (
                Some(115),
                vec![
                    (Part::Queue, 10),
                    (Part::Processing, 5),
                    (Part::Connect, 35),
                ],
            ),
            // After the request's first byte: another connection's.
            (Some(151), vec![(Part::Queue, 10), (Part::Processing, 40)]),
        ] {
            let client = Exchange {
                opened,
                ..exchange(Side::Client, (150, 180, 170))
            };
            let chain = Chain {
                outbound_server: Some(&server),
                outbound_client: Some(&client),
                ..Chain::default()
            };
            let mut times = Times::default();
            sidecars(&chain, &mut times);
            let request = times.hops.iter().filter(|time| time.leg == Leg::Request);
            let found: Vec<_> = request.map(|time| (time.part, time.duration_ns)).collect();
            assert_eq!(found, parts, "{opened:?}");
        }
    }

    #[test]
    fn every_time_is_told_or_dropped_for_a_reason() {
        let of = |hop, reason| Dropped::of(Some(hop), reason);
        let all = vec![Hop::Network, Hop::App, Hop::App];
        let client = (100, 200, 190);
        // The read is of the response on the client's side, of the request on the server's.
        for (name, client, server, nested, hops, dropped) in [
            ("well", client, (120, 130, 180), 50, all.clone(), vec![]),
            (
                "calls of another request",
                client,
                (120, 130, 180),
                51,
                vec![Hop::Network, Hop::App],
                vec![of(Hop::App, Negative::Calls)],
            ),
            (
                "a read before its arrival",
                client,
                (120, 110, 180),
                0,
                vec![Hop::Network, Hop::App],
                vec![of(Hop::App, Negative::Order)],
            ),
            (
                "a server that took longer than its client",
                client,
                (90, 130, 185),
                0,
                vec![Hop::App, Hop::App],
                vec![of(Hop::Network, Negative::Inside)],
            ),
            (
                "an end before its beginning",
                (100, 200, 90),
                (120, 130, 180),
                0,
                vec![Hop::App, Hop::App],
                vec![
                    of(Hop::Network, Negative::Order),
                    Dropped::of(None, Negative::Order),
                ],
            ),
        ] {
            let found = check(client, server, nested);
            assert_eq!(found, (hops, dropped), "{name}");
            assert!(found.1.iter().all(|dropped| Dropped::ALL.contains(dropped)));
        }
    }
}
