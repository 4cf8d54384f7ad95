//! Exchanges for unit tests.

use std::sync::Arc;

use crate::decode::{Exchange, Http, Payload, Side, Size, Socket};
use crate::model::Ktime;

/// Container of every socket here.
pub(crate) const CGROUP: u64 = 7;

/// One end, local and remote, of a connection of plaintext HTTP, and a request on it from `from` to
/// `to`. All is of one thread, nothing was read, and the two sides have a cookie each.
pub(crate) fn exchange(
    side: Side,
    [local, remote]: [&str; 2],
    (from, to): (Ktime, Ktime),
) -> Exchange {
    Exchange {
        socket: Arc::new(Socket {
            cookie: match side {
                Side::Server => 1,
                Side::Client => 2,
            },
            cgroup_id: CGROUP,
            opened: None,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            tgid: 1,
        }),
        side,
        payload: Payload::Http,
        opened: None,
        request_first: from,
        response_first: to,
        read: None,
        request_seq: 0,
        read_tid: 1,
        write_tid: 1,
        srtt_us: 0,
        index: 0,
        after_handshake: false,
        no_response: false,
        upgraded: false,
        http: Http::default(),
        size: Size::default(),
        stream: None,
    }
}
