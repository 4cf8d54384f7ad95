//! Joins exchanges of different sockets into chains: the path of one request through a node.
//!
//! Both ends of a connection by the client's address and the TCP sequence number of the request:
//! exact. The two sides of a sidecar by [`crate::pair`]. A chain is told once its leftmost exchange,
//! which ends last, is older than two hold times: everything that belongs to it is then here.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;
use slotmap::{DefaultKey, SlotMap};

use crate::decode::{Exchange, RequestHead, Side};
use crate::model::{Fate, Ktime, Method};
use crate::pair::{Downstream, Sizes, Upstream, Worker};
use crate::roles::{Lane, Role};
use crate::underway::Underway;

type Id = DefaultKey;

/// Lanes of sidecars whose additions are known; beyond, all are forgotten and learnt again.
const MOST_SIDECARS: usize = 512;
/// Sockets of a [`Chain`].
const LONGEST_CHAIN: usize = 6;

/// The exchanges of one request, from the calling app to the called one. Unmeshed pods have only
/// `app_client` and `app_server`; what is on another node is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain<'a> {
    /// `Uc`.
    pub app_client: Option<&'a Exchange>,
    /// `Us`.
    pub outbound_server: Option<&'a Exchange>,
    /// `N`.
    pub outbound_client: Option<&'a Exchange>,
    /// `D`.
    pub inbound_server: Option<&'a Exchange>,
    /// `Lc`.
    pub inbound_client: Option<&'a Exchange>,
    /// `Ls`.
    pub app_server: Option<&'a Exchange>,
}

/// What comes out of the join.
pub trait Sink {
    /// One request's chain, in the order in which requests ended.
    fn chain(&mut self, chain: &Chain<'_>);
    /// The same of a request that is not told: it may be the call of one that is.
    fn untold(&mut self, chain: &Chain<'_>);
    /// The fate of one exchange; called once for each that was pushed.
    fn fate(&mut self, fate: Fate, method: Method);
    /// Whether an exchange turned out to be something else, which nobody knew when it was pushed.
    fn disowns(&self, _exchange: &Exchange) -> Option<Fate> {
        None
    }
}

/// Sizes and times of the join.
#[derive(Clone, Copy, Debug)]
pub struct JoinConfig {
    /// How long an exchange waits for its partners, nanoseconds.
    pub hold_ns: u64,
    /// Exchanges kept at most; beyond, the oldest is told without its partners.
    pub max_pending: usize,
}

#[derive(Debug)]
struct Node {
    exchange: Exchange,
    role: Role,
    /// Other end of the connection.
    peer: Option<Id>,
    /// Other side of the sidecar.
    through: Option<Id>,
    /// Why the chain with this exchange is no request to tell.
    refused: Option<Fate>,
}

/// Client's address, number of the request's first byte, and whether it is a stream's: the same at both
/// ends of a connection.
type End = (IpAddr, u32, bool);

fn end(exchange: &Exchange) -> End {
    let is_stream = exchange.stream.is_some();
    (exchange.client().ip(), exchange.request_seq, is_stream)
}

/// The table of exchanges that wait.
#[derive(Debug)]
pub struct Join {
    config: JoinConfig,
    nodes: SlotMap<Id, Node>,
    /// Ends whose other one has not come.
    ends: HashMap<End, Id>,
    /// Those of turns and of streams apart: what is under TLS shows turns, whatever is in it. With the
    /// container that they run in.
    workers: HashMap<(u32, Lane, bool), (u64, Worker<Id>)>,
    /// What the sidecars' containers add to messages.
    sizes: HashMap<(u64, Lane), Sizes>,
    /// In order of arrival, which is almost the order of completion.
    queue: VecDeque<Id>,
    underway: Underway,
}

impl Join {
    /// An empty table.
    #[must_use]
    pub fn new(config: JoinConfig) -> Self {
        Self {
            config,
            nodes: SlotMap::new(),
            ends: HashMap::new(),
            workers: HashMap::new(),
            sizes: HashMap::new(),
            queue: VecDeque::new(),
            underway: Underway::default(),
        }
    }

    /// Notes when the last hook was attached: requests that had begun by then are not told.
    pub fn begin(&mut self, attached: Ktime) {
        self.underway.begin(attached);
    }

    /// Notes that requests which begin from `at` on are not told.
    pub fn end(&mut self, at: Ktime) {
        self.underway.end(at);
    }

    /// Exchanges that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Takes an exchange whose role is known.
    pub fn push(&mut self, exchange: Exchange, role: Role, sink: &mut impl Sink) {
        while self.nodes.len() >= self.config.max_pending {
            // What left with an older chain is still in the queue, and makes no room.
            let Some(oldest) = self.queue.pop_front() else {
                break;
            };
            self.evict(oldest, sink);
        }
        let key = end(&exchange);
        let other = self.ends.get(&key).copied();
        let other = other.filter(|other| self.is_other_end(*other, &exchange));
        let underway = self.underway.is(&exchange, self.config.max_pending);
        let refused = refusal(&exchange, role).or(underway.then_some(Fate::Underway));
        let id = self.nodes.insert(Node {
            exchange,
            role,
            peer: None,
            through: None,
            refused,
        });
        match other {
            Some(other) => {
                self.ends.remove(&key);
                if let Some(node) = self.nodes.get_mut(other) {
                    node.peer = Some(id);
                }
                if let Some(node) = self.nodes.get_mut(id) {
                    node.peer = Some(other);
                }
            }
            // Whoever has the key already is no end of this connection: a number used again.
            None => {
                self.ends.insert(key, id);
            }
        }
        self.enlist(id);
        self.queue.push_back(id);
    }

    /// Whether an exchange is the other end's of one that waits, of the same client's address and number.
    ///
    /// The port is the same at both ends, but for one case: when two connections from one port to
    /// different places are redirected to the same listener, the kernel has to change the port of one
    /// (`nf_nat_l4proto_unique_tuple` in net/netfilter/nf_nat_core.c). The end that serves is then known by
    /// lying within the other in time.
    fn is_other_end(&self, waiting: Id, exchange: &Exchange) -> bool {
        let Some(node) = self.nodes.get(waiting) else {
            return false;
        };
        let other = &node.exchange;
        if other.side == exchange.side {
            return false;
        }
        let (server, client) = match exchange.side {
            Side::Server => (exchange, other),
            Side::Client => (other, exchange),
        };
        other.client().port() == exchange.client().port()
            || (client.request_first <= server.request_first
                && server.response_first <= client.response_first)
    }

    /// Puts a sidecar's exchange to its worker.
    fn enlist(&mut self, id: Id) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let Some(lane) = node.role.lane() else { return };
        let exchange = &node.exchange;
        if let RequestHead::Continuation | RequestHead::Malformed = exchange.http.request {
            // No request came through here: it must not take the partner of one that did.
            return;
        }
        let (_, worker) = self
            .workers
            .entry((exchange.tid(), lane, exchange.stream.is_some()))
            .or_insert_with(|| (exchange.socket.cgroup_id, Worker::default()));
        match node.role {
            Role::OutboundServer | Role::InboundServer => worker.add_downstream(Downstream {
                id,
                read: exchange.request_taken(),
                wrote: exchange.response_first,
                size: exchange.size,
            }),
            _ => worker.add_upstream(Upstream {
                id,
                wrote: exchange.request_first,
                read: exchange.response_taken(),
                opened: exchange.opened,
                size: exchange.size,
            }),
        }
    }

    /// Pairs and tells everything that is old enough at `now`; `Ktime::MAX` tells all.
    pub fn advance(&mut self, now: Ktime, sink: &mut impl Sink) {
        let pair_until = if now == Ktime::MAX {
            now
        } else {
            now.saturating_sub(self.config.hold_ns)
        };
        let tell_until = if now == Ktime::MAX {
            now
        } else {
            now.saturating_sub(2 * self.config.hold_ns)
        };
        let nodes = &mut self.nodes;
        if self.sizes.len() >= MOST_SIDECARS {
            self.sizes.clear();
        }
        for ((_, lane, of_streams), (container, worker)) in &mut self.workers {
            // The lengths of streams are not known.
            let mut none = Sizes::default();
            let sizes = if *of_streams {
                &mut none
            } else {
                self.sizes.entry((*container, *lane)).or_default()
            };
            worker.pair(tell_until, pair_until, sizes, |downstream, upstream| {
                if let Some(node) = nodes.get_mut(downstream) {
                    node.through = Some(upstream);
                }
                if let Some(node) = nodes.get_mut(upstream) {
                    node.through = Some(downstream);
                }
            });
        }
        while let Some(id) = self.queue.front().copied() {
            let Some(node) = self.nodes.get(id) else {
                self.queue.pop_front();
                continue;
            };
            if node.exchange.completed() > tell_until {
                break;
            }
            self.queue.pop_front();
            if self.left(id).is_none() {
                self.tell(id, sink);
            }
        }
        self.workers.retain(|_, (_, worker)| {
            worker.expire(tell_until);
            !worker.is_empty()
        });
        // The other end is told when it was read, which is one hold time later at most.
        self.underway
            .expire(tell_until.saturating_sub(self.config.hold_ns));
    }

    /// The neighbour one step nearer to the calling app.
    fn left(&self, id: Id) -> Option<Id> {
        let node = self.nodes.get(id)?;
        match node.role {
            Role::AppClient => None,
            Role::OutboundServer | Role::InboundServer | Role::AppServer => node.peer,
            Role::ProxyAdmin if node.exchange.side == Side::Server => node.peer,
            Role::ProxyAdmin => None,
            Role::OutboundClient | Role::InboundClient => node.through,
        }
        .filter(|left| self.nodes.contains_key(*left))
    }

    /// The neighbour one step nearer to the called app.
    fn right(&self, id: Id) -> Option<Id> {
        let node = self.nodes.get(id)?;
        match node.role {
            Role::AppClient | Role::OutboundClient | Role::InboundClient => node.peer,
            Role::OutboundServer | Role::InboundServer => node.through,
            Role::ProxyAdmin if node.exchange.side == Side::Client => node.peer,
            Role::AppServer | Role::ProxyAdmin => None,
        }
        .filter(|right| self.nodes.contains_key(*right))
    }

    fn is_behind(&self, next: Id, id: Id) -> bool {
        let roles = (self.nodes.get(next), self.nodes.get(id));
        matches!(roles, (Some(next), Some(node)) if next.role.is_behind(node.role))
    }

    /// The exchanges of the chain that begins at `root`, up to the six of a [`Chain`]. There are
    /// more where a sidecar's upstream is a gateway.
    fn members(&self, root: Id) -> impl Iterator<Item = Id> + Clone + use<> {
        let mut ids = [None; LONGEST_CHAIN];
        let mut at = Some(root);
        for slot in &mut ids {
            let Some(id) = at else { break };
            *slot = Some(id);
            at = self.right(id).filter(|next| self.is_behind(*next, id));
        }
        ids.into_iter().flatten()
    }

    /// Gives up the chain of an exchange: told in part it would be wrong.
    fn evict(&mut self, id: Id, sink: &mut impl Sink) {
        let mut root = id;
        while let Some(left) = self.left(root) {
            root = left;
        }
        for id in self.members(root) {
            if self.nodes.contains_key(id) {
                sink.fate(Fate::Evicted, Method::None);
                self.forget(id);
            }
        }
    }

    /// Tells the chain that begins at `root` and forgets its exchanges.
    fn tell(&mut self, root: Id, sink: &mut impl Sink) {
        let members = self.members(root);
        let ids = || members.clone();
        let refused = ids()
            .filter_map(|id| self.nodes.get(id))
            .find_map(|node| node.refused.or_else(|| sink.disowns(&node.exchange)))
            .or_else(|| self.underway(root, ids()));
        let too_late = self.is_too_late(root);
        if refused.is_none() {
            let mut chain = Chain::default();
            for node in ids().filter_map(|id| self.nodes.get(id)) {
                chain.set(node.role, &node.exchange);
            }
            if too_late {
                sink.untold(&chain);
            } else {
                sink.chain(&chain);
            }
        }
        let refused = refused.or(too_late.then_some(Fate::Underway));
        // What is longer still is told in pieces.
        let rest = ids().last().and_then(|last| self.right(last));
        for id in ids() {
            let (fate, method) = self.fate(id, refused);
            sink.fate(fate, method);
            self.forget(id);
        }
        if let Some(rest) = rest {
            self.tell(rest, sink);
        }
    }

    /// Whether a chain is a part of what was under way when the hooks were attached.
    fn underway(&self, root: Id, mut members: impl Iterator<Item = Id>) -> Option<Fate> {
        let first = self.nodes.get(root)?;
        let is_rest = self
            .underway
            .is_rest(first.role, &first.exchange, self.config.hold_ns);
        let mut is_other_end = || {
            members.any(|id| {
                let node = self.nodes.get(id);
                node.is_some_and(|node| self.underway.is_other_end(&node.exchange))
            })
        };
        (is_rest || is_other_end()).then_some(Fate::Underway)
    }

    fn is_too_late(&self, root: Id) -> bool {
        let first = self.nodes.get(root);
        first.is_some_and(|node| self.underway.is_too_late(&node.exchange))
    }

    fn fate(&self, id: Id, refused: Option<Fate>) -> (Fate, Method) {
        let Some(node) = self.nodes.get(id) else {
            return (Fate::Unpaired, Method::None);
        };
        if let Some(fate) = refused {
            return (fate, Method::None);
        }
        match (node.role.lane(), node.through, node.peer) {
            (Some(_), Some(_), _) => (Fate::Paired, Method::WorkerOrder),
            (None, _, Some(_)) => (Fate::Paired, Method::Tuple),
            _ => (Fate::Unpaired, Method::None),
        }
    }

    fn forget(&mut self, id: Id) {
        let Some(node) = self.nodes.remove(id) else {
            return;
        };
        let key = end(&node.exchange);
        if self.ends.get(&key) == Some(&id) {
            self.ends.remove(&key);
        }
    }
}

/// Why an exchange makes its chain none that is told. Only a server socket keeps heads, so the
/// other sockets of the same message learn it by being joined.
fn refusal(exchange: &Exchange, role: Role) -> Option<Fate> {
    if exchange.http.probe || role == Role::ProxyAdmin {
        return Some(Fate::Probe);
    }
    match (exchange.http.request, exchange.http.status) {
        (RequestHead::Malformed, _) => Some(Fate::Malformed),
        // An interim answer (RFC 9110, section 15.2); 101 is a final one.
        (RequestHead::Continuation, _) | (_, 100 | 102..200) => Some(Fate::Continuation),
        _ => None,
    }
}

impl<'a> Chain<'a> {
    fn set(&mut self, role: Role, exchange: &'a Exchange) {
        let slot = match role {
            Role::AppClient => &mut self.app_client,
            Role::OutboundServer => &mut self.outbound_server,
            Role::OutboundClient => &mut self.outbound_client,
            Role::InboundServer => &mut self.inbound_server,
            Role::InboundClient => &mut self.inbound_client,
            Role::AppServer => &mut self.app_server,
            Role::ProxyAdmin => return,
        };
        *slot = Some(exchange);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn exchange(side: Side, client: &str, times: (Ktime, Ktime)) -> Exchange {
        let server = "10.0.0.2:15001";
        let ends = match side {
            Side::Server => [server, client],
            Side::Client => [client, server],
        };
        testing::exchange(side, ends, times)
    }

    #[derive(Default)]
    struct Chains(Vec<usize>);

    impl Sink for Chains {
        fn chain(&mut self, chain: &Chain<'_>) {
            self.0.push(chain.sockets().count());
        }

        fn untold(&mut self, _chain: &Chain<'_>) {}

        fn fate(&mut self, _fate: Fate, _method: Method) {}
    }

    #[test]
    fn ends_belong_together_by_port_or_by_lying_within_each_other() {
        let cases = [
            ("10.0.0.1:4000", "10.0.0.1:4000", (20, 30), vec![2]),
            // A redirection changed the port.
            ("10.0.0.1:4000", "10.0.0.1:61000", (20, 30), vec![2]),
            // The number alone is chance.
            ("10.0.0.1:4000", "10.0.0.1:61000", (20, 50), vec![1, 1]),
            ("10.0.0.1:4000", "10.0.0.9:4000", (20, 30), vec![1, 1]),
        ];
        for (client, as_served, times, sockets) in cases {
            let mut join = Join::new(JoinConfig {
                hold_ns: 1,
                max_pending: 10,
            });
            let mut chains = Chains::default();
            let server = exchange(Side::Server, as_served, times);
            let client = exchange(Side::Client, client, (10, 40));
            join.push(server, Role::OutboundServer, &mut chains);
            join.push(client, Role::AppClient, &mut chains);
            join.advance(Ktime::MAX, &mut chains);
            assert_eq!(chains.0, sockets, "{as_served} {times:?}");
        }
    }

    #[test]
    fn behind_a_gateway_another_chain_begins() {
        let mut join = Join::new(JoinConfig {
            hold_ns: 1,
            max_pending: 10,
        });
        let mut chains = Chains::default();
        // A sidecar's upstream is a gateway: what that accepts is like what a sidecar's app sends.
        let server = exchange(Side::Server, "10.0.0.1:4000", (20, 30));
        let client = exchange(Side::Client, "10.0.0.1:4000", (10, 40));
        join.push(server, Role::OutboundServer, &mut chains);
        join.push(client, Role::OutboundClient, &mut chains);
        join.advance(Ktime::MAX, &mut chains);
        assert_eq!(chains.0, [1, 1]);
    }
}
