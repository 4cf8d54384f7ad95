//! A stream of HTTP/2 in a recording: what the agent made of its frames.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::{Exchange, Http, Payload, RequestHead, Side, Size, Socket, Stream};
use crate::model::{GrpcStatus, Ktime};

/// An exchange that is a stream, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct RecordedStream {
    cookie: u64,
    cgroup: u64,
    local: SocketAddr,
    remote: SocketAddr,
    /// Whether the socket was made by `accept`.
    server: bool,
    first: Ktime,
    /// 0: no answer.
    answered: Ktime,
    ended: Ktime,
    seq: u32,
    tid: u32,
    stream: u32,
    status: u16,
    request_id: u64,
    trace_id: u64,
    probe: bool,
    /// -1: not gRPC, -2: it is, and its status is unknown.
    grpc: i16,
}

impl RecordedStream {
    /// Of an exchange; `salted` hides what its head told. `None` if it is no stream.
    pub(super) fn of(exchange: &Exchange, salted: impl Fn(u64) -> u64) -> Option<Self> {
        let Stream { ended, grpc } = exchange.stream?;
        let socket = &exchange.socket;
        Some(Self {
            cookie: socket.cookie,
            cgroup: socket.cgroup_id,
            local: socket.local,
            remote: socket.remote,
            server: exchange.side == Side::Server,
            first: exchange.request_first,
            answered: exchange.response_first,
            ended,
            seq: exchange.request_seq,
            tid: exchange.write_tid,
            stream: exchange.index,
            status: exchange.http.status,
            request_id: salted(exchange.http.request_id),
            trace_id: salted(exchange.http.trace_id),
            probe: exchange.http.probe,
            grpc: match grpc {
                None => -1,
                Some(GrpcStatus::Unknown) => -2,
                Some(GrpcStatus::Code(code)) => i16::from(code),
            },
        })
    }
}

impl From<RecordedStream> for Exchange {
    fn from(told: RecordedStream) -> Self {
        Self {
            socket: Arc::new(Socket {
                cookie: told.cookie,
                cgroup_id: told.cgroup,
                opened: None,
                local: told.local,
                remote: told.remote,
                tgid: 0,
            }),
            side: if told.server {
                Side::Server
            } else {
                Side::Client
            },
            payload: Payload::Http,
            opened: None,
            request_first: told.first,
            response_first: told.answered,
            read: None,
            request_seq: told.seq,
            read_tid: 0,
            write_tid: told.tid,
            srtt_us: 0,
            index: told.stream,
            after_handshake: false,
            no_response: told.answered == 0,
            upgraded: false,
            http: Http {
                // As of every recording's heads.
                method: "",
                request: RequestHead::Absent,
                status: told.status,
                request_id: told.request_id,
                trace_id: told.trace_id,
                probe: told.probe,
            },
            size: Size::default(),
            stream: Some(Stream {
                ended: told.ended,
                grpc: match told.grpc {
                    -1 => None,
                    code => Some(u8::try_from(code).map_or(GrpcStatus::Unknown, GrpcStatus::Code)),
                },
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_stream_comes_back_with_other_names_for_its_ids() {
        for grpc in [None, Some(GrpcStatus::Unknown), Some(GrpcStatus::Code(14))] {
            let ends = ["10.0.0.2:80", "[::1]:4000"];
            let mut exchange = testing::exchange(Side::Server, ends, (10, 20));
            assert_eq!(RecordedStream::of(&exchange, |id| id), None);
            exchange.stream = Some(Stream { ended: 30, grpc });
            exchange.http.status = 200;
            exchange.http.request_id = 5;
            let told = RecordedStream::of(&exchange, |id| 2 * id).unwrap();
            let text = serde_json::to_string(&told).unwrap();
            let back = Exchange::from(serde_json::from_str::<RecordedStream>(&text).unwrap());
            assert_eq!(RecordedStream::of(&back, |id| id), Some(told));
            assert_eq!(back.http.request_id, 10);
            assert_eq!(
                (back.stream, back.socket.remote),
                (exchange.stream, exchange.socket.remote)
            );
        }
    }
}
