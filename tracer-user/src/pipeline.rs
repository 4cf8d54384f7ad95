//! The pure stages in a row: raw records in, requests and fates out.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::attribute::{Attribute, Splits};
use crate::boundary::{Boundary, PassageError};
use crate::decode::{
    DecodeError, Decoded, Exchange, Http, Payload, RequestHead, Side, decode, decode_headless,
};
use crate::http2::{Counts, Event, FrameError, Http2};
use crate::join::{Chain, Join, JoinConfig, Sink};
use crate::message::Messages;
use crate::model::{Fate, Gone, Identity, Ktime, Method, RequestTimes};
use crate::roles::{Role, Roles, Sidecars};
use crate::sockets::Sockets;

/// How long an app's calls wait for the request that caused them, in hold times.
const CALLS_HOLDS: u64 = 256;

/// Receives what the stages find out.
pub trait Output {
    /// One request, attributed; `chain` is what it was made of.
    fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes);
    /// The fate of one exchange.
    fn fate(&mut self, fate: Fate, method: Method);
    /// A stream of HTTP/2 ended: an exchange that no record stands for.
    fn stream(&mut self);
}

/// Decode → roles → join → attribute.
pub struct Pipeline {
    sockets: Sockets,
    /// Where HTTP/2 is followed.
    http2: Option<Http2>,
    messages: Messages,
    roles: Roles,
    /// Whether reads are seen on this node.
    reads: bool,
    /// Containers whose process was already looked at.
    looked_at: HashSet<u64>,
    join: Join,
    attribute: Attribute,
    identity: Box<dyn Identity>,
    hold_ns: u64,
    max_pending: usize,
}

impl Pipeline {
    /// Stages with nothing in them.
    #[must_use]
    pub fn new(config: JoinConfig, identity: Box<dyn Identity>) -> Self {
        Self {
            sockets: Sockets::default(),
            http2: None,
            messages: Messages::default(),
            roles: Roles::default(),
            reads: false,
            looked_at: HashSet::new(),
            join: Join::new(config),
            attribute: Attribute::default(),
            identity,
            hold_ns: config.hold_ns,
            max_pending: config.max_pending,
        }
    }

    /// For sidecars other than Istio's; to be told before the first record.
    pub fn expect(&mut self, sidecars: Sidecars) {
        self.roles = Roles::new(sidecars);
        self.looked_at.clear();
    }

    /// Notes when the last hook was attached, or began to look again: requests that had begun by then are not told.
    pub fn begin(&mut self, attached: Ktime) {
        self.join.begin(attached);
    }

    /// Requests that begin from `at` on are not told, until [`Pipeline::begin`] is called again.
    pub fn end(&mut self, at: Ktime) {
        self.join.end(at);
    }

    /// The pods' veths are watched; to be told before the first record.
    pub fn watch_boundary(&mut self) {
        let boundary = Boundary::new(self.hold_ns, self.max_pending);
        self.attribute.split_by(boundary);
    }

    /// Takes one raw record of what passed a veth.
    ///
    /// # Errors
    /// [`PassageError`]; the caller counts it, nothing else happens.
    pub fn note_passage(&mut self, bytes: &[u8]) -> Result<(), PassageError> {
        self.attribute.note_passage(bytes)
    }

    /// How often the time between two pods was split at their boundaries, by verdict.
    #[must_use]
    pub const fn splits(&self) -> Splits {
        self.attribute.splits()
    }

    /// HTTP/2 is followed; to be told before the first record.
    pub fn follow_http2(&mut self) {
        self.http2 = Some(Http2::new(self.max_pending));
    }

    /// What became of HTTP/2, where it is followed.
    #[must_use]
    pub fn http2(&self) -> Option<Counts> {
        self.http2.as_ref().map(Http2::counts)
    }

    /// Takes one raw record of HTTP/2; `record` hears what it made known.
    ///
    /// # Errors
    /// [`FrameError`]; it is counted here too, nothing else happens.
    pub fn take_http2(
        &mut self,
        bytes: &[u8],
        output: &mut impl Output,
        mut record: impl FnMut(&Event),
    ) -> Result<(), FrameError> {
        let Some(mut http2) = self.http2.take() else {
            return Ok(());
        };
        let taken = http2.take(bytes, |event| {
            if let Event::Ended(exchange) = &event {
                self.settle_stream(exchange.clone(), output);
            }
            // Behind the names that it made the stages ask for.
            record(&event);
        });
        self.http2 = Some(http2);
        taken
    }

    /// The streams of a socket are followed, as a recording tells.
    pub fn note_http2(&mut self, cookie: u64) {
        if let Some(http2) = &mut self.http2 {
            http2.note(cookie);
        }
    }

    /// Takes a stream of HTTP/2 that is over.
    pub fn settle_stream(&mut self, mut exchange: Exchange, output: &mut impl Output) {
        output.stream();
        // The records of its turns tell whose process it is.
        if let Some(socket) = self.sockets.peek(exchange.socket.cookie) {
            exchange.socket = Arc::clone(socket);
            exchange.opened = None;
        }
        self.learn(&exchange);
        if let Some(fate) = settled(&exchange) {
            output.fate(fate, Method::None);
            return;
        }
        self.push(exchange, output);
    }

    /// Takes one raw record.
    ///
    /// # Errors
    /// [`DecodeError`]; the caller counts it, nothing else happens.
    pub fn take(&mut self, bytes: &[u8], output: &mut impl Output) -> Result<(), DecodeError> {
        let decoded = decode(bytes, &mut self.sockets)?;
        self.settle(decoded, output);
        Ok(())
    }

    /// Takes one raw record without its heads, and what they told.
    ///
    /// # Errors
    /// As [`Pipeline::take`].
    pub fn take_headless(
        &mut self,
        bytes: &[u8],
        told: Http,
        output: &mut impl Output,
    ) -> Result<(), DecodeError> {
        let decoded = decode_headless(bytes, told, &mut self.sockets)?;
        self.settle(decoded, output);
        Ok(())
    }

    fn settle(&mut self, decoded: Decoded, output: &mut impl Output) {
        let exchange = match decoded {
            Decoded::Exchange(exchange) => exchange,
            Decoded::Handshake => {
                output.fate(Fate::Handshake, Method::None);
                return;
            }
        };
        // First: also what is no request shows whose socket it is.
        self.learn(&exchange);
        if let Some(fate) = multiplexed(self.http2.as_ref(), &exchange) {
            output.fate(fate, Method::None);
            return;
        }
        if let Some(fate) = settled(&exchange) {
            output.fate(fate, Method::None);
            return;
        }
        let read = exchange.read.is_some();
        self.reads |= read;
        if exchange.side == Side::Client && !read && self.reads && self.is_proxys(&exchange) {
            // What came was not read before the socket closed: the end of TLS, or an answer too late.
            output.fate(Fate::NoResponse, Method::None);
            return;
        }
        let Some(exchange) = self.messages.take(exchange) else {
            output.fate(Fate::Continuation, Method::None);
            return;
        };
        let role = self.roles.of(&exchange);
        if exchange.after_handshake && role.lane().is_none() {
            // Only of a sidecar's TLS it is known that the handshake is not answered apart.
            output.fate(Fate::Handshake, Method::None);
            return;
        }
        self.push(exchange, output);
    }

    /// Hands a request to the join.
    fn push(&mut self, exchange: Exchange, output: &mut impl Output) {
        let role = self.roles.of(&exchange);
        if role == Role::AppServer {
            self.attribute.note_server(&exchange);
        }
        let mut stage = Stage {
            http2: self.http2.as_ref(),
            attribute: &mut self.attribute,
            identity: &mut *self.identity,
            output,
        };
        self.join.push(exchange, role, &mut stage);
    }

    /// Tells everything that is old enough at `now`; `Ktime::MAX` tells all.
    pub fn advance(&mut self, now: Ktime, output: &mut impl Output) {
        let mut stage = Stage {
            http2: self.http2.as_ref(),
            attribute: &mut self.attribute,
            identity: &mut *self.identity,
            output,
        };
        self.join.advance(now, &mut stage);
        self.attribute.expire_passages(now);
        self.attribute
            .expire(now.saturating_sub(self.hold_ns.saturating_mul(CALLS_HOLDS)));
    }

    /// Takes what became known of names at `now`; returns workloads that are gone.
    pub fn refresh(&mut self, now: Ktime) -> Vec<Gone> {
        self.identity.refresh(now)
    }

    /// Exchanges that the numbering of the others shows to be lost.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.sockets.missed()
    }

    /// Exchanges that wait for their partners.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.join.len()
    }

    fn is_proxys(&self, exchange: &Exchange) -> bool {
        self.roles.is_proxy(exchange.socket.cgroup_id)
    }

    fn learn(&mut self, exchange: &Exchange) {
        self.roles.learn(exchange);
        let cgroup = exchange.socket.cgroup_id;
        if self.roles.is_proxy(cgroup) || self.looked_at.contains(&cgroup) {
            return;
        }
        match self.identity.is_proxy(cgroup, exchange.socket.tgid) {
            Some(true) => self.roles.mark_proxy(cgroup),
            Some(false) => {
                if self.looked_at.len() >= Roles::CAP {
                    self.looked_at.clear();
                }
                self.looked_at.insert(cgroup);
            }
            None => {}
        }
    }
}

/// The fate of exchanges that no join can help.
fn settled(exchange: &Exchange) -> Option<Fate> {
    if exchange.no_response {
        return Some(Fate::NoResponse);
    }
    // What is no request at all is refused by the join: the other end of its connection does not know.
    (exchange.http.request == RequestHead::Http2).then_some(Fate::Unsupported)
}

/// The fate of turns on a connection whose streams are told. A connection older than the agent is
/// recognised late, and began like something else.
fn multiplexed(http2: Option<&Http2>, exchange: &Exchange) -> Option<Fate> {
    let is_other = exchange.payload == Payload::Other && exchange.stream.is_none();
    let follows = http2.is_some_and(|http2| http2.follows(exchange.socket.cookie));
    (is_other && follows).then_some(Fate::Multiplexed)
}

/// Hands what the join tells to the attribution.
struct Stage<'a, O> {
    http2: Option<&'a Http2>,
    attribute: &'a mut Attribute,
    identity: &'a mut dyn Identity,
    output: &'a mut O,
}

impl<O: Output> Sink for Stage<'_, O> {
    fn chain(&mut self, chain: &Chain<'_>) {
        if !chain.has_local_end() {
            // The wire between two sidecars alone: HTTP/2 perhaps, whose turns are no requests.
            // The fates of its exchanges say that it was seen.
            return;
        }
        let times = self.attribute.attribute(chain, self.identity);
        self.output.request(chain, &times);
    }

    fn untold(&mut self, chain: &Chain<'_>) {
        // Only as what it may be to others: a call of theirs.
        if chain.has_local_end() {
            self.attribute.attribute(chain, self.identity);
        }
    }

    fn fate(&mut self, fate: Fate, method: Method) {
        self.output.fate(fate, method);
    }

    fn disowns(&self, exchange: &Exchange) -> Option<Fate> {
        multiplexed(self.http2, exchange)
    }
}
