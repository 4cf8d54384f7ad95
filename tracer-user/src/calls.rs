//! Inside an app: which of its outgoing calls belong to which request that it serves.
//!
//! By `x-request-id` when the app forwards it, else by thread: a call belongs to the request that
//! its thread read last before. Both are known only for plaintext legs that the app itself speaks.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::decode::Exchange;
use crate::join::Chain;
use crate::model::Ktime;

/// Calls and requests remembered for one container; beyond, the oldest go.
const PER_CONTAINER: usize = 8192;

/// An outgoing call.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Ktime,
    ended: Ktime,
    /// Thread that wrote it, 0 unknown.
    tid: u32,
    /// Hash of `x-request-id`, 0 unknown.
    request_id: u64,
}

/// A request that the app took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Ktime,
    tid: u32,
}

#[derive(Debug, Default)]
struct Container {
    calls: VecDeque<Call>,
    taken: VecDeque<Taken>,
}

/// Calls and requests by container.
#[derive(Debug, Default)]
pub struct Calls {
    containers: HashMap<u64, Container>,
}

impl Calls {
    /// Notes a request that an app took.
    pub fn note_server(&mut self, exchange: &Exchange) {
        let container = self
            .containers
            .entry(exchange.socket.cgroup_id)
            .or_default();
        let taken = Taken {
            at: exchange.request_taken(),
            tid: exchange.tid(),
        };
        let place = container
            .taken
            .partition_point(|other| other.at <= taken.at);
        container.taken.insert(place, taken);
        if container.taken.len() > PER_CONTAINER {
            container.taken.pop_front();
        }
    }

    /// Notes the call at the head of a chain.
    pub fn note_client(&mut self, chain: &Chain<'_>) {
        let Some(client) = chain.app_client else {
            return;
        };
        // Only a container that serves has somebody to bill the call to.
        let Some(container) = self.containers.get_mut(&client.socket.cgroup_id) else {
            return;
        };
        let request_id = chain
            .sockets()
            .map(|exchange| exchange.http.request_id)
            .find(|id| *id != 0);
        let call = Call {
            began: client.request_first,
            ended: client.response_first,
            tid: client.write_tid,
            request_id: request_id.unwrap_or(0),
        };
        let place = container
            .calls
            .partition_point(|other| other.began <= call.began);
        container.calls.insert(place, call);
        if container.calls.len() > PER_CONTAINER {
            container.calls.pop_front();
        }
    }

    /// Takes the calls made for the request that `server` served; returns how long at least one of
    /// them was under way, nanoseconds.
    pub fn take_nested(&mut self, server: &Exchange) -> u64 {
        let Some(container) = self.containers.get_mut(&server.socket.cgroup_id) else {
            return 0;
        };
        let (from, until) = (server.request_taken(), server.response_first);
        let first = container.calls.partition_point(|call| call.began < from);
        let last = container.calls.partition_point(|call| call.began <= until);
        let mut covered = 0;
        let mut end = 0;
        let mut mine = Vec::new();
        for (at, call) in container.calls.range(first..last).enumerate() {
            if call.ended > until || !belongs(call, server, &container.taken) {
                continue;
            }
            // The calls come in order of their beginning: the union grows at its end only.
            covered += call.ended.saturating_sub(call.began.max(end));
            end = end.max(call.ended);
            mine.push(first + at);
        }
        for at in mine.into_iter().rev() {
            container.calls.remove(at);
        }
        covered
    }

    /// Forgets what ended before `before`.
    pub fn expire(&mut self, before: Ktime) {
        self.containers.retain(|_, container| {
            while container
                .calls
                .front()
                .is_some_and(|call| call.ended < before)
            {
                container.calls.pop_front();
            }
            while container
                .taken
                .front()
                .is_some_and(|taken| taken.at < before)
            {
                container.taken.pop_front();
            }
            !container.calls.is_empty() || !container.taken.is_empty()
        });
    }
}

fn belongs(call: &Call, server: &Exchange, taken: &VecDeque<Taken>) -> bool {
    if call.request_id != 0 && server.http.request_id != 0 {
        return call.request_id == server.http.request_id;
    }
    if call.tid == 0 {
        return false;
    }
    let before = taken.partition_point(|other| other.at <= call.began);
    taken
        .range(..before)
        .rev()
        .find(|other| other.tid == call.tid)
        .is_some_and(|last| last.at == server.request_taken())
}
