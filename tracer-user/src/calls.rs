//! Inside an app: which of its outgoing calls belong to which request that it serves.
//!
//! By `x-request-id` when the app forwards it, else by thread: a call belongs to the request that
//! its thread read last before. Both are known only for plaintext legs that the app itself speaks.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::decode::Exchange;
use crate::join::Chain;
use crate::model::Ktime;

/// Calls, and likewise requests, remembered for one container; beyond, the oldest of the same thread
/// go. A request is looked for up to three hold times after it was read, so this is enough for
/// 100,000 requests a second; at 32 bytes a call and 8 a request it is 2.6 MB.
const PER_CONTAINER: usize = 65_536;
/// Threads remembered for one container; beyond, all are forgotten and learnt again.
const THREADS: usize = 512;
/// Containers remembered; beyond, those that come later wait until others have been silent.
const CONTAINERS: usize = 1024;

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

#[derive(Debug, Default)]
struct Container {
    /// In order of their beginning.
    calls: VecDeque<Call>,
    /// When each thread took requests, in order.
    taken: HashMap<u32, VecDeque<Ktime>>,
    /// Requests in all of `taken`.
    held: usize,
}

/// Calls and requests by container.
#[derive(Debug, Default)]
pub struct Calls {
    containers: HashMap<u64, Container>,
}

impl Calls {
    /// Notes a request that an app took.
    pub fn note_server(&mut self, exchange: &Exchange) {
        let cgroup = exchange.socket.cgroup_id;
        if self.containers.len() >= CONTAINERS && !self.containers.contains_key(&cgroup) {
            return;
        }
        let container = self.containers.entry(cgroup).or_default();
        if container.taken.len() >= THREADS && !container.taken.contains_key(&exchange.tid()) {
            container.taken.clear();
            container.held = 0;
        }
        let taken = container.taken.entry(exchange.tid()).or_default();
        let at = exchange.request_taken();
        let place = taken.partition_point(|other| *other <= at);
        taken.insert(place, at);
        container.held += 1;
        if container.held > PER_CONTAINER && taken.pop_front().is_some() {
            container.held -= 1;
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
        if until < from {
            // It answered before it read: no call can be for what it had not read.
            return 0;
        }
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
            container.taken.retain(|_, taken| {
                while taken.front().is_some_and(|at| *at < before) {
                    taken.pop_front();
                    container.held -= 1;
                }
                !taken.is_empty()
            });
            !container.calls.is_empty() || !container.taken.is_empty()
        });
    }
}

fn belongs(call: &Call, server: &Exchange, taken: &HashMap<u32, VecDeque<Ktime>>) -> bool {
    if call.request_id != 0 && server.http.request_id != 0 {
        return call.request_id == server.http.request_id;
    }
    if call.tid == 0 {
        return false;
    }
    // The thread's last request before the call.
    let Some(taken) = taken.get(&call.tid) else {
        return false;
    };
    let before = taken.partition_point(|at| *at <= call.began);
    before
        .checked_sub(1)
        .and_then(|last| taken.get(last))
        .is_some_and(|at| *at == server.request_taken())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Side;
    use crate::testing;

    fn exchange(side: Side, from: Ktime, read: Option<Ktime>, until: Ktime) -> Exchange {
        let ends = ["127.0.0.1:1", "127.0.0.1:2"];
        Exchange {
            read,
            ..testing::exchange(side, ends, (from, until))
        }
    }

    /// What is nested in a request that was answered at 20, with a call from 12 to 14.
    fn nested(read: Ktime) -> u64 {
        let server = exchange(Side::Server, 10, Some(read), 20);
        let call = exchange(Side::Client, 12, None, 14);
        let later = exchange(Side::Client, 22, None, 24);
        let mut calls = Calls::default();
        calls.note_server(&server);
        for client in [&call, &later] {
            calls.note_client(&Chain {
                app_client: Some(client),
                ..Chain::default()
            });
        }
        calls.take_nested(&server)
    }

    #[test]
    fn calls_are_for_what_was_read_before_them() {
        assert_eq!(nested(11), 2);
        assert_eq!(nested(13), 0);
        // Answered before it was read, with a call in between.
        assert_eq!(nested(23), 0);
    }
}
