//! Exchanges that were under way when the hooks were attached: one end is known and never the other.
//!
//! The hooks are attached one after the other. A server socket whose request came before all of them
//! were there may have answered unseen: its next request then looks like the rest of the first one,
//! and the two ends of that next request do not meet. So such a socket's first exchange says nothing,
//! nor does what its other end tells of the same time.

use std::net::{Ipv6Addr, SocketAddr};

use hashbrown::HashMap;

use crate::decode::{Exchange, Side};
use crate::model::Ktime;
use crate::roles::Role;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests;

/// What was under way at the beginning.
#[derive(Debug, Default)]
pub(crate) struct Underway {
    /// When the last hook was attached; 0 when everything was seen from its beginning.
    attached: Ktime,
    /// Since when requests that begin are not told; `None` while they are.
    ended: Option<Ktime>,
    /// Ends that were, by the address of the connection's client: which, and until when.
    ends: HashMap<SocketAddr, (Side, Ktime)>,
}

impl Underway {
    /// Notes when the last hook was attached, or began to look again.
    pub(crate) fn begin(&mut self, attached: Ktime) {
        self.attached = attached;
        self.ended = None;
    }

    /// Notes that requests which begin from `at` on are not told.
    pub(crate) fn end(&mut self, at: Ktime) {
        self.ended = Some(at);
    }

    /// Whether a chain that begins with this exchange began after the end.
    pub(crate) fn is_too_late(&self, first: &Exchange) -> bool {
        self.ended.is_some_and(|at| first.request_first >= at)
    }

    /// Whether an exchange was under way then. Notes its socket, unless `most` are known.
    pub(crate) fn is(&mut self, exchange: &Exchange, most: usize) -> bool {
        let is = exchange.request_first < self.attached;
        if is && self.ends.len() < most {
            let end = (exchange.side, exchange.completed());
            self.ends.insert(exchange.client(), end);
        }
        is
    }

    /// Whether the other end of the exchange was under way.
    pub(crate) fn is_other_end(&self, exchange: &Exchange) -> bool {
        let end = self.ends.get(&exchange.client());
        end.is_some_and(|(side, until)| *side != exchange.side && exchange.request_first <= *until)
    }

    /// Whether a chain that begins with this exchange is the rest of one that had begun: nobody but
    /// a sidecar sends from inside the pod, and what it sent for was `hold` before at most.
    pub(crate) fn is_rest(&self, role: Role, first: &Exchange, hold: u64) -> bool {
        let [local, remote] = [&first.socket.local, &first.socket.remote].map(SocketAddr::ip);
        let inside = match role {
            Role::InboundClient => true,
            // Istio's with IPv6 sends from ::6, which is no loopback address.
            Role::AppServer => {
                remote.is_loopback() || remote == local || remote == Ipv6Addr::from_bits(6)
            }
            _ => false,
        };
        inside && first.request_first < self.attached.saturating_add(hold)
    }

    /// Forgets ends that were over before `before`.
    pub(crate) fn expire(&mut self, before: Ktime) {
        self.ends.retain(|_, (_, until)| *until >= before);
    }
}
