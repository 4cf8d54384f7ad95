//! One request as a value, and where it was when.

use crate::attribute::link;
use crate::decode::{Exchange, Side};
use crate::join::Chain;
use crate::model::{CallMethod, Hop, HopTime, Ktime, Leg, Part, RequestLabels, RequestTimes};

/// The six sockets, in the order in which a request passes them.
pub const SOCKETS: [&str; 6] = ["Uc", "Us", "N", "D", "Lc", "Ls"];

/// One request, as far as this node saw it. Times are nanoseconds since `began`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asked whom, how it went.
    pub labels: RequestLabels,
    /// Method of HTTP, empty when no plaintext leg told it.
    pub method: &'static str,
    /// Request's first byte at the outermost socket that was seen.
    pub began: Ktime,
    /// From there until the response's first byte at the same socket.
    pub duration_ns: u64,
    /// When the request passed each of [`SOCKETS`]; `None` where that was not seen.
    pub sockets: [Option<Stamps>; SOCKETS.len()],
    /// Self times. What was seen at all six sockets adds up to `duration_ns` less `calls_ns`.
    pub hops: Vec<HopTime>,
    /// Calls of the called app that are not in its self time.
    pub calls: u64,
    /// Time that is not in it because of them.
    pub calls_ns: u64,
    /// The same time once more, in its order: the stages follow each other from 0 to `duration_ns`.
    pub stages: Vec<Stage>,
}

/// One socket's stamps. A socket of another pod may be ahead of the first one by what its clock's reading
/// took, so they have signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// Request's first byte: t1 to t6.
    pub request_ns: i64,
    /// Response's first byte: t7 to t12.
    pub response_ns: i64,
    /// When the process read what arrived here: the request at a server's socket, the response at a
    /// client's.
    pub read_ns: Option<i64>,
}

/// A piece of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where; `None` for what is beyond the sockets that this node saw. That of `app` has its own calls in
    /// it.
    pub hop: Option<Hop>,
    /// Which way.
    pub leg: Leg,
    /// Its beginning.
    pub from_ns: u64,
    /// Until when bytes waited to be read: before it is `queue`, behind it `processing`.
    pub read_ns: Option<u64>,
    /// Its end.
    pub to_ns: u64,
}

impl Request {
    /// A value of what the attribution told.
    #[must_use]
    pub(super) fn of(chain: &Chain<'_>, times: &RequestTimes) -> Self {
        let (began, duration_ns) = span(chain).unwrap_or_default();
        let since = |at: Ktime| at.wrapping_sub(began).cast_signed();
        let stamps = |exchange: &Exchange| Stamps {
            request_ns: since(exchange.request_first),
            response_ns: since(exchange.response_first),
            read_ns: exchange.read.map(since),
        };
        let (calls, calls_ns) = calls(chain, times);
        Self {
            labels: times.labels.clone(),
            method: chain
                .sockets()
                .map(|exchange| exchange.http.method)
                .find(|method| !method.is_empty())
                .unwrap_or_default(),
            began,
            duration_ns,
            sockets: chain.places().map(|socket| socket.map(stamps)),
            hops: times.hops.clone(),
            calls,
            calls_ns,
            stages: stages(chain, began, duration_ns),
        }
    }

    /// When the response's first byte was there.
    #[must_use]
    pub const fn ended(&self) -> Ktime {
        self.began.saturating_add(self.duration_ns)
    }
}

/// How many calls of the app are not in its self time, and for how long they were under way.
fn calls(chain: &Chain<'_>, times: &RequestTimes) -> (u64, u64) {
    let by_method = CallMethod::ALL.into_iter().zip(times.calls);
    // Under none are those of others.
    let claimed = by_method.filter(|(method, _)| *method != CallMethod::None);
    let count = claimed.map(|(_, count)| count).sum();
    let of_app = || times.hops.iter().filter(|time| time.hop == Hop::App);
    let worked = of_app().any(|time| matches!(time.part, Part::Processing | Part::Whole));
    let Some(server) = chain.app_server.filter(|_| worked) else {
        return (count, 0);
    };
    let turn = server.response_first.saturating_sub(server.request_first);
    let own: u64 = of_app().map(|time| time.duration_ns).sum();
    (count, turn.saturating_sub(own))
}

/// When a request began at the outermost socket that was seen, and how long it took there.
pub(super) fn span(chain: &Chain<'_>) -> Option<(Ktime, u64)> {
    let outermost = chain.sockets().next()?;
    let took = outermost
        .response_first
        .saturating_sub(outermost.request_first);
    Some((outermost.request_first, took))
}

/// The way there, the turn at the innermost socket, and the way back.
fn stages(chain: &Chain<'_>, began: Ktime, duration_ns: u64) -> Vec<Stage> {
    let mut way = Way {
        began,
        duration_ns,
        at: 0,
        stages: Vec::with_capacity(11),
    };
    let sockets: Vec<_> = chain.sockets().collect();
    let links = || sockets.iter().zip(sockets.iter().skip(1));
    for (outer, inner) in links() {
        let (hop, read) = between(chain, outer, inner, outer);
        way.go(hop, Leg::Request, read, inner.request_first);
    }
    if let Some(innermost) = sockets.last() {
        let app = chain.app_server.is_some();
        let read = innermost.read.filter(|_| app);
        let hop = app.then_some(Hop::App);
        way.go(hop, Leg::Both, read, innermost.response_first);
    }
    for (outer, inner) in links().rev() {
        let (hop, read) = between(chain, outer, inner, inner);
        way.go(hop, Leg::Response, read, outer.response_first);
    }
    way.stages
}

/// Which hop lies between two neighbours, and when the one at which bytes arrive read them.
fn between(
    chain: &Chain<'_>,
    outer: &Exchange,
    inner: &Exchange,
    arrival: &Exchange,
) -> (Option<Hop>, Option<Ktime>) {
    let is = |place: Option<&Exchange>, found| place.is_some_and(|seen| std::ptr::eq(seen, found));
    match (outer.side, inner.side) {
        (Side::Client, Side::Server) => (Some(link(chain, outer, inner)), None),
        (Side::Server, Side::Client) => {
            let outbound = is(chain.outbound_server, outer) && is(chain.outbound_client, inner);
            let inbound = is(chain.inbound_server, outer) && is(chain.inbound_client, inner);
            let hop = match (outbound, inbound) {
                (true, _) => Some(Hop::SidecarOutbound),
                (_, true) => Some(Hop::SidecarInbound),
                _ => None,
            };
            (hop, arrival.read.filter(|_| hop.is_some()))
        }
        // What would be between them was not seen.
        _ => (None, None),
    }
}

/// Makes stages that follow each other, whatever the stamps.
struct Way {
    began: Ktime,
    duration_ns: u64,
    at: u64,
    stages: Vec<Stage>,
}

impl Way {
    fn go(&mut self, hop: Option<Hop>, leg: Leg, read: Option<Ktime>, to: Ktime) {
        let within = |at: Ktime| {
            let since = at.saturating_sub(self.began);
            since.clamp(self.at, self.duration_ns)
        };
        let to_ns = within(to);
        self.stages.push(Stage {
            hop,
            leg,
            from_ns: self.at,
            read_ns: read.map(|read| within(read).min(to_ns)),
            to_ns,
        });
        self.at = to_ns;
    }
}
