//! From raw ring bytes to an exchange. Total: any bytes give an exchange or a named error.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tracer_common::record::{
    ANNOUNCED_LEN, FLAG_AFTER_HANDSHAKE, FLAG_HANDSHAKE, FLAG_NO_RESPONSE, FLAG_PREVIOUS_SEGMENTS,
    PAYLOAD_HTTP, PAYLOAD_HTTP2, PAYLOAD_TLS, SIDE_CLIENT, SIDE_SERVER,
};
use tracer_common::{ExchangeRecord, REQUEST_PREFIX_LEN, RESPONSE_PREFIX_LEN, SocketInfo};
use zerocopy::FromBytes;

use crate::http_head;
use crate::model::{GrpcStatus, Ktime};
use crate::sockets::Sockets;

/// Which end of the connection the socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Made by `accept`.
    Server,
    /// Made by `connect`.
    Client,
}

/// What the socket's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Plaintext HTTP.
    Http,
    /// TLS records.
    Tls,
    /// Something else.
    Other,
}

/// One exchange as one socket saw it; the wire record in host types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What its socket told of itself.
    pub socket: Arc<Socket>,
    /// Which end.
    pub side: Side,
    /// Payload kind.
    pub payload: Payload,
    /// First exchange of a connection whose `connect` was seen: when that was.
    pub opened: Option<Ktime>,
    /// Request's first byte at this socket.
    pub request_first: Ktime,
    /// Response's first byte at this socket; 0 when none came.
    pub response_first: Ktime,
    /// When the arrived turn was read, if seen.
    pub read: Option<Ktime>,
    /// TCP sequence number of the request's first byte.
    pub request_seq: u32,
    /// Thread that read, 0 unknown.
    pub read_tid: u32,
    /// Thread that wrote, 0 unknown.
    pub write_tid: u32,
    /// Smoothed round trip time, microseconds; 0 unknown.
    pub srtt_us: u32,
    /// Ordinal on this socket.
    pub index: u32,
    /// First after the handshake, stamps of the turn's last segment.
    pub after_handshake: bool,
    /// Closed without a response.
    pub no_response: bool,
    /// On a connection that is no HTTP any more; told by [`crate::message`].
    pub upgraded: bool,
    /// What the plaintext headers told.
    pub http: Http,
    /// What the stream positions tell of its size.
    pub size: Size,
    /// Of an exchange that is a stream of HTTP/2, and not two turns of its connection.
    pub stream: Option<Stream>,
}

/// What is known of an exchange that is a stream of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// When the last frame of the answer passed, or what ended the stream before.
    pub ended: Ktime,
    /// How a call of gRPC ended; `None` where no `content-type` told that it is one.
    pub grpc: Option<GrpcStatus>,
}

/// Bytes of an exchange's two turns on their connection, with TLS where there is TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Of the request, as far as it was sent when the record was made: all of it, but for a response
    /// that began earlier.
    pub request: u32,
    /// Of the response, as far as it had come: what one write or one read took of it. `None` when
    /// that cannot be told from what follows the response before.
    pub response: Option<u32>,
}

/// What is kept of plaintext headers. The bytes themselves are dropped here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// What the request prefix is.
    pub request: RequestHead,
    /// Method, empty when unknown; a recording does not have it.
    pub method: &'static str,
    /// Status code, 0 unknown.
    pub status: u16,
    /// Hash of `x-request-id`, 0 when absent or beyond the prefix.
    pub request_id: u64,
    /// Hash of the trace in `traceparent`, 0 likewise.
    pub trace_id: u64,
    /// The request is a health probe or a metrics scrape.
    pub probe: bool,
}

/// Verdict on a request prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestHead {
    /// No prefix was kept.
    #[default]
    Absent,
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 preface, or anything later on such a connection.
    Http2,
    /// Not the beginning of a request: the rest of a message already counted.
    Continuation,
    /// Began like a request line and is none.
    Malformed,
}

/// Why bytes are no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed part, or than its own prefix length tells.
    #[error("record of {0} bytes is too short")]
    Short(usize),
    /// An unknown `side`.
    #[error("record has unknown side {0}")]
    Side(u8),
    /// Prefix lengths beyond their arrays.
    #[error("record has prefix length {0}")]
    Prefix(u16),
    /// The record that introduced the socket was lost; the socket introduces itself again later.
    #[error("record of unknown socket {0}")]
    UnknownSocket(u64),
}

/// Decodes one ring record; `sockets` remembers what a socket tells once.
///
/// # Errors
/// [`DecodeError`] for bytes that are no record, and for a socket that nobody introduced.
pub fn decode(bytes: &[u8], sockets: &mut Sockets) -> Result<Decoded, DecodeError> {
    let parts = Parts::of(bytes)?;
    let http = parts.http();
    parts.decode(http, sockets)
}

/// The same of a record whose heads were left out (see [`heads`]), with what they told.
///
/// # Errors
/// As [`decode`].
pub fn decode_headless(
    bytes: &[u8],
    told: Http,
    sockets: &mut Sockets,
) -> Result<Decoded, DecodeError> {
    Parts::of(bytes)?.decode(told, sockets)
}

/// Where the plaintext heads of a record begin, and what they tell; `None` when it has none.
///
/// # Errors
/// [`DecodeError`] for bytes that are no record.
pub fn heads(bytes: &[u8]) -> Result<Option<(usize, Http)>, DecodeError> {
    let parts = Parts::of(bytes)?;
    Ok(parts.heads.is_some().then(|| (ANNOUNCED_LEN, parts.http())))
}

/// A record taken apart. Its length tells which parts are there; see `tracer_ebpf::emit`.
struct Parts<'a> {
    record: ExchangeRecord,
    side: Side,
    info: Option<SocketInfo>,
    /// Of request and response, the valid bytes.
    heads: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short(bytes.len());
        let (record, rest) = ExchangeRecord::read_from_prefix(bytes).map_err(|_| short)?;
        let side = match record.side {
            SIDE_SERVER => Side::Server,
            SIDE_CLIENT => Side::Client,
            other => return Err(DecodeError::Side(other)),
        };
        let prefix = usize::from(record.request_prefix_len);
        let response = usize::from(record.response_prefix_len);
        if prefix > REQUEST_PREFIX_LEN || response > RESPONSE_PREFIX_LEN {
            return Err(DecodeError::Prefix(record.request_prefix_len));
        }
        let (info, heads) = match SocketInfo::read_from_prefix(rest) {
            Ok((info, heads)) => (Some(info), heads),
            Err(_) if rest.is_empty() => (None, rest),
            Err(_) => return Err(short),
        };
        let heads = if heads.is_empty() {
            None
        } else {
            let (first, request) = heads.split_at_checked(RESPONSE_PREFIX_LEN).ok_or(short)?;
            let request = request.get(..prefix).ok_or(short)?;
            Some((request, first.get(..response).unwrap_or_default()))
        };
        Ok(Self {
            record,
            side,
            info,
            heads,
        })
    }

    /// What the heads tell.
    fn http(&self) -> Http {
        self.heads
            .map(|(request, response)| http_head::parse(request, response))
            .unwrap_or_default()
    }

    fn decode(self, mut http: Http, sockets: &mut Sockets) -> Result<Decoded, DecodeError> {
        let Self { record, side, .. } = self;
        if let Some(info) = self.info {
            sockets.introduce(
                record.sock_cookie,
                record.index,
                Socket::new(record.sock_cookie, &info),
            );
        }
        if record.flags & FLAG_HANDSHAKE != 0 {
            // Nobody needs to know whose, and the kernel side does not tell.
            return Ok(Decoded::Handshake);
        }
        if record.payload == PAYLOAD_HTTP2 {
            http.request = RequestHead::Http2;
        }
        let (request_end, response_end) = match side {
            Side::Server => (record.receive_next, record.send_next),
            Side::Client => (record.send_next, record.receive_next),
        };
        let (socket, began) = sockets
            .find(record.sock_cookie, record.index, response_end)
            .ok_or(DecodeError::UnknownSocket(record.sock_cookie))?;
        // What came of the response before after its record is between the two.
        let began = began.filter(|_| record.flags & FLAG_PREVIOUS_SEGMENTS == 0);
        let size = Size {
            request: request_end.wrapping_sub(record.request_seq),
            response: began.map(|began| response_end.wrapping_sub(began)),
        };
        Ok(Decoded::Exchange(Exchange {
            size,
            ..exchange(&record, side, socket, http)
        }))
    }
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A request and its response.
    Exchange(Exchange),
    /// Turns of a TLS handshake.
    Handshake,
}

/// What does not change during a socket's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's cookie: unique for the life of the machine.
    pub cookie: u64,
    /// Container.
    pub cgroup_id: u64,
    /// When `connect` was called, if that was seen and nothing was requested since.
    pub opened: Option<Ktime>,
    /// Local end, as the socket's owner sees it.
    pub local: SocketAddr,
    /// Remote end, as the socket's owner sees it.
    pub remote: SocketAddr,
    /// Process that read first, 0 unknown.
    pub tgid: u32,
}

impl Socket {
    pub(crate) fn new(cookie: u64, info: &SocketInfo) -> Self {
        Self {
            cookie,
            cgroup_id: info.cgroup_id,
            opened: (info.open_ktime_ns != 0).then_some(info.open_ktime_ns),
            local: address(info.saddr, info.sport),
            remote: address(info.daddr, info.dport),
            tgid: info.tgid,
        }
    }
}

fn exchange(record: &ExchangeRecord, side: Side, socket: Arc<Socket>, http: Http) -> Exchange {
    let payload = match record.payload {
        PAYLOAD_HTTP => Payload::Http,
        PAYLOAD_TLS => Payload::Tls,
        _ => Payload::Other,
    };
    let flag = |bit: u16| record.flags & bit != 0;
    Exchange {
        side,
        payload,
        opened: socket.opened,
        request_first: record.request_first_ktime_ns,
        response_first: record.response_first_ktime_ns,
        read: (record.read_ktime_ns != 0).then_some(record.read_ktime_ns),
        request_seq: record.request_seq,
        read_tid: record.read_tid,
        write_tid: record.write_tid,
        srtt_us: record.srtt_us,
        index: record.index,
        socket,
        after_handshake: flag(FLAG_AFTER_HANDSHAKE),
        upgraded: false,
        no_response: flag(FLAG_NO_RESPONSE) || record.response_first_ktime_ns == 0,
        http,
        size: Size::default(),
        stream: None,
    }
}

fn address(bytes: [u8; 16], port: u16) -> SocketAddr {
    let ip = match Ipv6Addr::from(bytes).to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    SocketAddr::new(ip, port)
}

impl Exchange {
    /// Address of the connection's client, as this end sees it.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        match self.side {
            Side::Server => self.socket.remote,
            Side::Client => self.socket.local,
        }
    }

    /// When this socket knew that the exchange was over: its last stamp.
    #[must_use]
    pub fn completed(&self) -> Ktime {
        self.response_first
            .max(self.read.unwrap_or(0))
            .max(self.request_first)
            .max(self.stream.map_or(0, |stream| stream.ended))
    }

    /// Server side: when the request was read, or its arrival when reads are not seen.
    #[must_use]
    pub fn request_taken(&self) -> Ktime {
        self.read.unwrap_or(self.request_first)
    }

    /// Client side: when the response was read, or its arrival when reads are not seen.
    #[must_use]
    pub fn response_taken(&self) -> Ktime {
        self.read.unwrap_or(self.response_first)
    }

    /// Thread that handles the socket.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        if self.read_tid != 0 {
            self.read_tid
        } else {
            self.write_tid
        }
    }
}
