//! From the turns of a socket to messages: where more than one turn is one request, and where a
//! connection stops to carry requests.
//!
//! A client that sends `Expect: 100-continue` waits for an interim answer (RFC 9110, section 10.1.1), so
//! its request is two exchanges on the wire: head and 100, body and answer. They become one, at both ends
//! of the connection. Only the server's socket knows the heads; it tells the client's by the numbers of
//! their first bytes. After a 101 (section 7.8) the connection is another protocol's, and goes on by turns.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use crate::decode::{Exchange, Http, RequestHead, Side};

/// Requests that wait for their body, and likewise upgraded connections, remembered; beyond, all are
/// forgotten, and what follows on them counts as a continuation.
const CAP: usize = 16_384;

/// Client's address and number of the request's first byte: the same at both ends. The client's port may
/// not be: the kernel changes one that is taken when it redirects a connection to a sidecar.
type Key = (IpAddr, u32);

/// Sockets in the middle of a request, and those that are upgraded.
#[derive(Debug, Default)]
pub struct Messages {
    /// By socket.
    parts: HashMap<u64, Exchange>,
    /// First parts, as the server's end told them.
    first: HashSet<Key>,
    /// Second parts.
    second: HashSet<Key>,
    upgraded: HashSet<u64>,
}

impl Messages {
    /// Takes an exchange; returns a whole request, `None` for the first part of one, which the rest
    /// brings along. The server's end of a connection comes before the client's, because it is over
    /// before the answer is read.
    pub fn take(&mut self, mut exchange: Exchange) -> Option<Exchange> {
        let cookie = exchange.socket.cookie;
        let key = (exchange.client().ip(), exchange.request_seq);
        match exchange.side {
            Side::Server if self.upgraded.contains(&cookie) => {
                exchange.http = Http::default();
                exchange.upgraded = true;
            }
            Side::Server => {
                let part = self.parts.remove(&cookie);
                match (part, exchange.http.request) {
                    (Some(part), RequestHead::Continuation) => {
                        note(&mut self.second, key);
                        exchange = join(part, exchange);
                    }
                    (_, RequestHead::Http1) if exchange.http.status == 100 => {
                        note(&mut self.first, key);
                        self.keep(exchange);
                        return None;
                    }
                    _ => {}
                }
                if exchange.http.status == 101 {
                    note(&mut self.upgraded, cookie);
                }
            }
            Side::Client => {
                if self.first.remove(&key) {
                    self.keep(exchange);
                    return None;
                }
                let part = self.parts.remove(&cookie);
                let second = self.second.remove(&key);
                if let (Some(part), true) = (part, second) {
                    exchange = join(part, exchange);
                }
            }
        }
        Some(exchange)
    }

    fn keep(&mut self, part: Exchange) {
        if self.parts.len() >= CAP {
            self.parts.clear();
        }
        self.parts.insert(part.socket.cookie, part);
    }
}

fn note<T: Eq + std::hash::Hash>(set: &mut HashSet<T>, value: T) {
    if set.len() >= CAP {
        set.clear();
    }
    set.insert(value);
}

/// One exchange that begins as the first and is answered as the second.
fn join(first: Exchange, second: Exchange) -> Exchange {
    let read = match first.side {
        // The request was read when its head was.
        Side::Server => first.read,
        Side::Client => second.read,
    };
    Exchange {
        opened: first.opened,
        request_first: first.request_first,
        request_seq: first.request_seq,
        read,
        write_tid: match first.side {
            Side::Server => second.write_tid,
            Side::Client => first.write_tid,
        },
        index: first.index,
        after_handshake: first.after_handshake,
        http: Http {
            status: second.http.status,
            ..first.http
        },
        ..second
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::Socket;
    use crate::testing;

    const CLIENT: &str = "10.0.0.1:4000";
    const SERVER: &str = "10.0.0.2:80";

    /// An exchange from `from` to `to`, whose request begins with byte `seq`.
    fn exchange(side: Side, seq: u32, (from, to): (u64, u64), http: Http) -> Exchange {
        let ends = match side {
            Side::Server => [SERVER, CLIENT],
            Side::Client => [CLIENT, SERVER],
        };
        Exchange {
            read: Some(to - 1),
            request_seq: seq,
            http,
            ..testing::exchange(side, ends, (from, to))
        }
    }

    fn http(request: RequestHead, status: u16) -> Http {
        Http {
            request,
            status,
            ..Http::default()
        }
    }

    #[test]
    fn head_and_body_apart_are_one_request_at_both_ends() {
        let mut messages = Messages::default();
        let mut take = |side, seq, times, http| messages.take(exchange(side, seq, times, http));
        let parts = [
            take(Side::Server, 100, (20, 30), http(RequestHead::Http1, 100)),
            take(Side::Client, 100, (10, 40), Http::default()),
        ];
        assert!(parts.iter().all(|part| part.is_none()));
        let body = http(RequestHead::Continuation, 201);
        let server = take(Side::Server, 150, (60, 70), body).unwrap();
        let client = take(Side::Client, 150, (50, 80), Http::default()).unwrap();
        assert_eq!(server.http, http(RequestHead::Http1, 201));
        for (end, times) in [(server, (20, 70)), (client, (10, 80))] {
            assert_eq!((end.request_first, end.response_first), times);
            assert_eq!(end.request_seq, 100);
        }
        // The next one is for itself.
        let next = http(RequestHead::Http1, 200);
        let server = take(Side::Server, 200, (90, 95), next.clone()).unwrap();
        let client = take(Side::Client, 200, (85, 99), Http::default()).unwrap();
        assert_eq!((server.http, server.request_first), (next, 90));
        assert_eq!(client.request_first, 85);
    }

    #[test]
    fn the_clients_port_may_differ_at_the_ends() {
        let mut messages = Messages::default();
        let redirected = |mut exchange: Exchange| {
            exchange.socket = Arc::new(Socket {
                remote: "10.0.0.1:61234".parse().unwrap(),
                ..*exchange.socket
            });
            exchange
        };
        let server = |seq, times, http| redirected(exchange(Side::Server, seq, times, http));
        let client = |seq, times| exchange(Side::Client, seq, times, Http::default());
        let head = http(RequestHead::Http1, 100);
        assert!(messages.take(server(100, (20, 30), head)).is_none());
        assert!(messages.take(client(100, (10, 40))).is_none());
        let body = http(RequestHead::Continuation, 200);
        assert!(messages.take(server(150, (60, 70), body)).is_some());
        let whole = messages.take(client(150, (50, 80))).unwrap();
        assert_eq!((whole.request_first, whole.request_seq), (10, 100));
    }

    #[test]
    fn a_body_that_never_comes_joins_nothing() {
        let mut messages = Messages::default();
        let mut take = |side, seq, times, http| messages.take(exchange(side, seq, times, http));
        let _part = take(Side::Server, 100, (20, 30), http(RequestHead::Http1, 100));
        let _part = take(Side::Client, 100, (10, 40), Http::default());
        let next = http(RequestHead::Http1, 200);
        let server = take(Side::Server, 150, (60, 70), next).unwrap();
        let client = take(Side::Client, 150, (50, 80), Http::default()).unwrap();
        assert_eq!((server.request_first, client.request_first), (60, 50));
    }

    #[test]
    fn after_an_upgrade_turns_are_no_http() {
        let mut messages = Messages::default();
        let mut take = |seq, times, http| {
            let taken = messages.take(exchange(Side::Server, seq, times, http));
            taken.unwrap()
        };
        let upgrade = take(100, (20, 30), http(RequestHead::Http1, 101));
        assert!(!upgrade.upgraded && upgrade.http.status == 101);
        for head in [RequestHead::Continuation, RequestHead::Http1] {
            let turn = take(150, (60, 70), http(head, 200));
            assert!(turn.upgraded && turn.http == Http::default());
        }
    }

    #[test]
    fn no_table_grows() {
        let mut messages = Messages::default();
        for cookie in 0..2 * CAP as u64 + 5 {
            let mut part = exchange(Side::Server, 0, (20, 30), http(RequestHead::Http1, 100));
            part.request_seq = u32::try_from(cookie).unwrap();
            part.socket = Arc::new(Socket {
                cookie,
                ..*part.socket
            });
            let _part = messages.take(part);
        }
        assert!(messages.parts.len() <= CAP && messages.first.len() <= CAP);
    }
}
