//! Joins exchanges of different sockets into chains: the path of one request through a node.
//!
//! Both ends of a connection by the client's address and the TCP sequence number of the request:
//! exact. The two sides of a sidecar by [`crate::pair`]. A chain is told once its leftmost exchange,
//! which ends last, is older than two hold times: everything that belongs to it is then here.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hashbrown::HashMap;
use slotmap::{DefaultKey, SlotMap};

use crate::decode::{Exchange, RequestHead, Side};
use crate::model::{Fate, Ktime, Method};
use crate::pair::{Downstream, Upstream, Worker};
use crate::roles::{Lane, Role};
use crate::underway::Underway;

type Id = DefaultKey;

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
    /// The fate of one exchange; called once for each that was pushed.
    fn fate(&mut self, fate: Fate, method: Method);
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

/// The table of exchanges that wait.
#[derive(Debug)]
pub struct Join {
    config: JoinConfig,
    nodes: SlotMap<Id, Node>,
    ends: HashMap<(SocketAddr, u32), Id>,
    workers: HashMap<(u32, Lane), Worker<Id>>,
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
            queue: VecDeque::new(),
            underway: Underway::default(),
        }
    }

    /// Notes when the last hook was attached: requests that had begun by then are not told.
    pub fn begin(&mut self, attached: Ktime) {
        self.underway.begin(attached);
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
        let key = (exchange.client(), exchange.request_seq);
        let side = exchange.side;
        let underway = self.underway.is(&exchange, self.config.max_pending);
        let refused = refusal(&exchange, role).or(underway.then_some(Fate::Underway));
        let id = self.nodes.insert(Node {
            exchange,
            role,
            peer: None,
            through: None,
            refused,
        });
        match self.ends.get(&key).copied() {
            // The same end twice is a reused port and sequence number: the older one is done.
            Some(other)
                if self
                    .nodes
                    .get(other)
                    .is_some_and(|n| n.exchange.side != side) =>
            {
                self.ends.remove(&key);
                if let Some(node) = self.nodes.get_mut(other) {
                    node.peer = Some(id);
                }
                if let Some(node) = self.nodes.get_mut(id) {
                    node.peer = Some(other);
                }
            }
            _ => {
                self.ends.insert(key, id);
            }
        }
        self.enlist(id);
        self.queue.push_back(id);
    }

    /// Puts a sidecar's exchange to its worker.
    fn enlist(&mut self, id: Id) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let Some(lane) = node.role.lane() else { return };
        let exchange = &node.exchange;
        let worker = self.workers.entry((exchange.tid(), lane)).or_default();
        match node.role {
            Role::OutboundServer | Role::InboundServer => worker.add_downstream(Downstream {
                id,
                read: exchange.request_taken(),
                wrote: exchange.response_first,
            }),
            _ => worker.add_upstream(Upstream {
                id,
                wrote: exchange.request_first,
                read: exchange.response_taken(),
                opened: exchange.opened,
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
        for worker in self.workers.values_mut() {
            worker.pair(tell_until, pair_until, |downstream, upstream| {
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
        for worker in self.workers.values_mut() {
            worker.expire(tell_until);
        }
        self.workers.retain(|_, worker| !worker.is_empty());
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

    /// The exchanges of the chain that begins at `root`, up to the six of a [`Chain`]. There are
    /// more where a sidecar's upstream is another one's outbound listener.
    fn members(&self, root: Id) -> impl Iterator<Item = Id> + Clone + use<> {
        let mut ids = [None; LONGEST_CHAIN];
        let mut at = Some(root);
        for slot in &mut ids {
            let Some(id) = at else { break };
            *slot = Some(id);
            at = self.right(id);
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
            .find_map(|node| node.refused)
            .or_else(|| self.underway(root, ids()));
        if refused.is_none() {
            let mut chain = Chain::default();
            for node in ids().filter_map(|id| self.nodes.get(id)) {
                chain.set(node.role, &node.exchange);
            }
            sink.chain(&chain);
        }
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
        let key = (node.exchange.client(), node.exchange.request_seq);
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
        // An interim answer (RFC 9110, section 15.2) and what the client sends upon it.
        (RequestHead::Continuation, _) | (_, 100..200) => Some(Fate::Continuation),
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
