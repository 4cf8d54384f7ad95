use super::*;
use crate::decode::Side;
use crate::testing;

/// An app's exchanges: who did it, from when to when, and under which identifiers.
#[derive(Clone, Copy)]
struct Did {
    from: Ktime,
    until: Ktime,
    tid: u32,
    request_id: u64,
    trace_id: u64,
}

const fn did(tid: u32, from: Ktime, until: Ktime) -> Did {
    Did {
        from,
        until,
        tid,
        request_id: 0,
        trace_id: 0,
    }
}

impl Did {
    const fn id(self, request_id: u64) -> Self {
        Self { request_id, ..self }
    }

    const fn trace(self, trace_id: u64) -> Self {
        Self { trace_id, ..self }
    }

    /// A request is read when it begins, an answer when it is there.
    fn exchange(self, side: Side, index: u32) -> Exchange {
        let ends = ["127.0.0.1:1", "127.0.0.1:2"];
        let mut exchange = testing::exchange(side, ends, (self.from, self.until));
        exchange.read = Some(match side {
            Side::Server => self.from,
            Side::Client => self.until,
        });
        (exchange.read_tid, exchange.write_tid) = (self.tid, self.tid);
        exchange.index = index;
        if side == Side::Server {
            exchange.http.request_id = self.request_id;
            exchange.http.trace_id = self.trace_id;
        }
        exchange
    }
}

/// How long the calls of each request took and how they were found; calls have their identifiers from what
/// the app's sidecar saw.
fn check(name: &str, requests: &[Did], calls: &[Did], expected: &[(u64, &[CallMethod])]) {
    let mut table = Calls::default();
    for (index, did) in (0..).zip(requests) {
        table.note_server(&did.exchange(Side::Server, index));
    }
    // Told two hold times after their end, when the request is known.
    for (index, did) in (0..).zip(calls) {
        let call = did.exchange(Side::Client, index);
        table.note_client(&Chain {
            app_client: Some(&call),
            outbound_server: Some(&did.exchange(Side::Server, index)),
            ..Chain::default()
        });
    }
    let mut order: Vec<_> = (0..).zip(requests).collect();
    order.sort_by_key(|(_, did)| did.until);
    let mut found = vec![(0, Vec::new()); requests.len()];
    for (index, did) in order {
        let nested = table.take_nested(&did.exchange(Side::Server, index));
        let methods = CallMethod::ALL.into_iter().flat_map(|method| {
            let count = usize::try_from(nested.found[method as usize]).unwrap();
            std::iter::repeat_n(method, count)
        });
        found[usize::try_from(index).unwrap()] = (nested.covered, methods.collect());
    }
    let expected: Vec<_> = expected
        .iter()
        .map(|(covered, methods)| (*covered, methods.to_vec()))
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn calls_find_their_request() {
    use CallMethod::{Nesting, Thread};
    let server = did(1, 10, 50);
    check(
        "one after the other, on one thread",
        &[server],
        &[did(1, 12, 20), did(1, 25, 30)],
        &[(13, &[Thread, Thread])],
    );
    check(
        "what overlaps counts once",
        &[server],
        &[did(1, 12, 30), did(1, 13, 40), did(1, 14, 20)],
        &[(28, &[Thread, Thread, Thread])],
    );
    check(
        "a call that began before, and one that the answer did not wait for",
        &[server],
        &[did(1, 5, 20), did(1, 20, 60)],
        &[(0, &[])],
    );
    // An event loop: A reads and calls, B reads and calls, A's answer comes and A calls again.
    check(
        "a call follows from the answer that its thread read last",
        &[server, did(1, 14, 48)],
        &[did(1, 11, 20), did(1, 15, 30), did(1, 21, 40)],
        &[(28, &[Thread, Thread]), (15, &[Thread])],
    );
    check(
        "another thread, but one request",
        &[server],
        &[did(7, 12, 20)],
        &[(8, &[Nesting])],
    );
    check(
        "another thread, and two requests",
        &[server, did(2, 9, 51)],
        &[did(7, 12, 20)],
        &[(0, &[]), (0, &[])],
    );
    check(
        "a thread that worked for somebody who is served",
        &[did(3, 2, 8), server],
        &[did(7, 3, 6), did(7, 12, 20)],
        &[(3, &[Nesting]), (8, &[Nesting])],
    );
}

#[test]
fn identifiers_come_first() {
    use CallMethod::{RequestId, Thread, Traceparent};
    let (one, other) = (did(1, 10, 50).id(5), did(2, 11, 49).id(6));
    check(
        "by x-request-id, whatever the thread",
        &[one, other],
        &[did(2, 12, 20).id(5), did(1, 13, 33).id(6)],
        &[(8, &[RequestId]), (20, &[RequestId])],
    );
    check(
        "by traceparent where x-request-id is not handed on",
        &[one.trace(8), other.trace(9)],
        &[did(2, 12, 20).trace(8), did(1, 13, 33).trace(9)],
        &[(8, &[Traceparent]), (20, &[Traceparent])],
    );
    check(
        "an identifier of nobody is one that a sidecar made up, or the app",
        &[one, other],
        &[did(1, 12, 20).id(77)],
        &[(8, &[Thread]), (0, &[])],
    );
    check(
        "unless this app is known to hand it on: then its request is still served",
        &[did(1, 2, 8).id(4), one, other],
        &[did(1, 3, 6).id(4), did(1, 12, 20).id(77)],
        &[(3, &[RequestId]), (0, &[]), (0, &[])],
    );
    check(
        "many requests of one trace are told apart by their thread",
        &[one.id(0).trace(8), other.id(0).trace(8)],
        &[did(2, 12, 20).trace(8), did(1, 13, 33).trace(8)],
        &[(20, &[Traceparent]), (8, &[Traceparent])],
    );
}

#[test]
fn calls_are_for_what_was_read_before_them() {
    for (read, expected) in [(11, 2), (13, 0), (23, 0)] {
        let mut server = did(1, 10, 20).exchange(Side::Server, 0);
        server.read = Some(read);
        let mut calls = Calls::default();
        calls.note_server(&server);
        for call in [did(1, 12, 14), did(1, 22, 24)] {
            let call = call.exchange(Side::Client, 0);
            calls.note_client(&Chain {
                app_client: Some(&call),
                ..Chain::default()
            });
        }
        assert_eq!(
            calls.take_nested(&server).covered,
            expected,
            "read at {read}"
        );
    }
}

#[test]
fn what_is_forgotten_is_counted_once() {
    let server = did(1, 10, 20).exchange(Side::Server, 0);
    let call = did(7, 12, 14).exchange(Side::Client, 0);
    let mut calls = Calls::default();
    calls.note_server(&server);
    calls.note_client(&Chain {
        app_client: Some(&call),
        ..Chain::default()
    });
    calls.expire(100);
    assert!(calls.containers.is_empty());
    let later = did(1, 110, 120).exchange(Side::Server, 1);
    calls.note_server(&later);
    let none = CallMethod::None as usize;
    assert_eq!(calls.take_nested(&later).found[none], 1);
    assert_eq!(calls.take_nested(&later).found[none], 0);
}
