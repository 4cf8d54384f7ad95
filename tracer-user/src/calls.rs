//! Inside an app: which of its outgoing calls belong to which request that it serves.
//!
//! By `x-request-id` or the trace of `traceparent` where the app hands them on; else by thread: a call follows
//! from what its thread read last, be that a request or the answer to an earlier call; else by nesting, where
//! only one request was being served. The first two are known only for plaintext legs that the app itself
//! speaks.

mod thread;

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::decode::{Exchange, Http};
use crate::join::Chain;
use crate::model::{CallMethod, Ktime};
use thread::{Cause, Reads};

/// Calls, and likewise requests and reads, remembered for one container; beyond, the oldest go. A request is
/// looked for up to three hold times after it was read, so this is enough for 100,000 requests a second; at
/// 80 bytes a call, 48 a request and 48 for the read of either it is 14.7 MB, for a container that is so busy.
const PER_CONTAINER: usize = 65_536;
/// Containers remembered; beyond, those that come later wait until others have been silent.
const CONTAINERS: usize = 1024;
/// Requests that are looked at to see whether a call is nested in a single one; where there are more since
/// the call began, it is not known to be.
const NEIGHBOURS: usize = 256;

/// What tells one exchange of a container from every other: when it began there, socket, and ordinal.
type Key = (Ktime, u64, u32);

/// Hashes of `x-request-id` and of the trace, 0 unknown; in the order of [`METHODS`].
type Ids = [u64; 2];

const METHODS: [CallMethod; 2] = [CallMethod::RequestId, CallMethod::Traceparent];

const fn ids(http: &Http) -> Ids {
    [http.request_id, http.trace_id]
}

/// An outgoing call.
#[derive(Clone, Copy, Debug)]
struct Call {
    key: Key,
    ended: Ktime,
    /// Thread that wrote it, 0 unknown.
    tid: u32,
    /// Thread that read its answer, 0 unknown, and when.
    read: (u32, Ktime),
    ids: Ids,
    /// Whether these are what the app itself wrote: a sidecar on the way makes up what is not there.
    own: bool,
}

impl Call {
    const fn began(&self) -> Ktime {
        self.key.0
    }
}

/// A request that the app served.
#[derive(Clone, Copy, Debug)]
struct Request {
    key: Key,
    until: Ktime,
    ids: Ids,
}

impl Request {
    fn of(exchange: &Exchange) -> Self {
        Self {
            key: (
                exchange.request_taken(),
                exchange.socket.cookie,
                exchange.index,
            ),
            until: exchange.response_first,
            ids: ids(&exchange.http),
        }
    }

    fn contains(&self, call: &Call) -> bool {
        self.key.0 <= call.began() && call.ended <= self.until
    }
}

#[derive(Debug, Default)]
struct Container {
    /// In order of their beginning.
    calls: VecDeque<Call>,
    /// In the order in which they were read.
    requests: VecDeque<Request>,
    reads: Reads,
    /// How many of `requests` have an identifier.
    known: HashMap<u64, u32>,
    /// Whether a call had an identifier of its request, by method.
    hands_on: [bool; 2],
}

/// Calls and requests by container.
#[derive(Debug, Default)]
pub struct Calls {
    containers: HashMap<u64, Container>,
    /// Calls that were forgotten, and not told so far.
    unclaimed: u64,
}

/// The calls that were made for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nested {
    /// How long at least one of them was under way, nanoseconds.
    pub covered: u64,
    /// How many were found, by method; under [`CallMethod::None`] those that were given up meanwhile.
    pub found: [u64; CallMethod::ALL.len()],
}

impl Calls {
    /// Notes a request that an app took.
    pub fn note_server(&mut self, exchange: &Exchange) {
        let cgroup = exchange.socket.cgroup_id;
        if self.containers.len() >= CONTAINERS && !self.containers.contains_key(&cgroup) {
            return;
        }
        let container = self.containers.entry(cgroup).or_default();
        let request = Request::of(exchange);
        container.reads.note(
            exchange.tid(),
            request.key.0,
            Cause::Request(request.key, request.until),
        );
        let requests = &mut container.requests;
        let place = requests.partition_point(|other| other.key <= request.key);
        requests.insert(place, request);
        for id in request.ids.into_iter().filter(|id| *id != 0) {
            *container.known.entry(id).or_default() += 1;
        }
        if container.requests.len() > PER_CONTAINER {
            container.forget_request();
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
        let first = chain.outbound_server.or(chain.app_server);
        let own = chain.outbound_server.is_some() || chain.inbound_server.is_none();
        let call = Call {
            key: (client.request_first, client.socket.cookie, client.index),
            ended: client.response_first,
            tid: client.write_tid,
            read: (client.read_tid, client.response_taken()),
            ids: first.map_or([0; 2], |first| ids(&first.http)),
            own,
        };
        let (reader, read) = call.read;
        if reader != 0 {
            let answer = Cause::Answer(call.key);
            container.reads.note(reader, read, answer);
        }
        let place = container
            .calls
            .partition_point(|other| other.key <= call.key);
        container.calls.insert(place, call);
        if container.calls.len() > PER_CONTAINER && container.calls.pop_front().is_some() {
            self.unclaimed += 1;
        }
    }

    /// Takes the calls made for the request that `server` served.
    pub fn take_nested(&mut self, server: &Exchange) -> Nested {
        let mut nested = Nested::default();
        let Some(container) = self.containers.get_mut(&server.socket.cgroup_id) else {
            return nested;
        };
        nested.add(CallMethod::None, std::mem::take(&mut self.unclaimed));
        let request = Request::of(server);
        let (from, until) = (request.key.0, request.until);
        if until < from {
            // It answered before it read: no call can be for what it had not read.
            return nested;
        }
        let first = container.calls.partition_point(|call| call.began() < from);
        let last = container
            .calls
            .partition_point(|call| call.began() <= until);
        let mut end = 0;
        let mut mine = Vec::new();
        for at in first..last {
            let Some(call) = container.calls.get(at).copied() else {
                break;
            };
            if call.ended > until {
                // It answered without waiting for that.
                continue;
            }
            let Some(method) = container.judge(&call, &request) else {
                continue;
            };
            if let Some(which) = METHODS.iter().position(|by| *by == method)
                && let Some(hands_on) = container.hands_on.get_mut(which)
            {
                *hands_on = true;
            }
            // The calls come in order of their beginning: the union grows at its end only.
            nested.covered += call.ended.saturating_sub(call.began().max(end));
            end = end.max(call.ended);
            nested.add(method, 1);
            // What its thread does next follows from the answer.
            let (reader, read) = call.read;
            let cause = Cause::Request(request.key, until);
            container.reads.claim(reader, read, call.key, cause);
            mine.push(at);
        }
        for at in mine.into_iter().rev() {
            container.calls.remove(at);
        }
        nested
    }

    /// Forgets what ended before `before`.
    pub fn expire(&mut self, before: Ktime) {
        let unclaimed = &mut self.unclaimed;
        self.containers.retain(|_, container| {
            while container
                .calls
                .front()
                .is_some_and(|call| call.ended < before)
            {
                container.calls.pop_front();
                *unclaimed += 1;
            }
            while container
                .requests
                .front()
                .is_some_and(|request| request.key.0 < before)
            {
                container.forget_request();
            }
            container.reads.expire(before);
            !container.calls.is_empty() || !container.requests.is_empty()
        });
    }
}

impl Nested {
    fn add(&mut self, method: CallMethod, count: u64) {
        if let Some(found) = self.found.get_mut(method as usize) {
            *found += count;
        }
    }
}

impl Container {
    fn forget_request(&mut self) {
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        for id in request.ids.into_iter().filter(|id| *id != 0) {
            if let Some(count) = self.known.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.known.remove(&id);
                }
            }
        }
    }

    /// How a call is known to be for `request`, if it is. Calls that began earlier are already claimed.
    fn judge(&self, call: &Call, request: &Request) -> Option<CallMethod> {
        // The same identifier as that of several requests: one that called itself, or a whole trace of them.
        let mut one_of = None;
        let facts = METHODS.into_iter().zip(call.ids).zip(request.ids);
        for (((method, id), asked), hands_on) in facts.zip(self.hands_on) {
            let count = self.known.get(&id).copied().unwrap_or(0);
            if id == 0 || asked == 0 {
                continue;
            }
            if id != asked {
                if count > 0 || (call.own && hands_on) {
                    return None;
                }
                continue;
            }
            if count <= 1 {
                return Some(method);
            }
            one_of = Some(method);
            break;
        }
        match self.reads.before(call.tid, call.began()) {
            Some(Cause::Request(key, _)) if key == request.key => {
                return one_of.or(Some(CallMethod::Thread));
            }
            Some(Cause::Request(_, until)) if call.ended <= until => return None,
            _ => {}
        }
        one_of.or_else(|| self.is_alone(call).then_some(CallMethod::Nesting))
    }

    /// Whether a single request was served all the time while a call was under way.
    fn is_alone(&self, call: &Call) -> bool {
        let until = self
            .requests
            .partition_point(|request| request.key.0 <= call.began());
        let from = until.saturating_sub(NEIGHBOURS);
        let around = self
            .requests
            .range(from..until)
            .filter(|request| request.contains(call));
        around.take(2).count() == 1
    }
}

#[cfg(test)]
mod tests;
