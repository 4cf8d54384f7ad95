//! From raw ring bytes to an exchange. Total: any bytes give an exchange or a named error.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracer_common::record::{
    FLAG_AFTER_HANDSHAKE, FLAG_HANDSHAKE, FLAG_NO_RESPONSE, PAYLOAD_HTTP, PAYLOAD_TLS,
    SIDE_CLIENT, SIDE_SERVER,
};
use tracer_common::{ExchangeRecord, REQUEST_PREFIX_LEN, RESPONSE_PREFIX_LEN};
use zerocopy::FromBytes;

use crate::model::Ktime;

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
    /// Socket.
    pub cookie: u64,
    /// Container.
    pub cgroup_id: u64,
    /// Which end.
    pub side: Side,
    /// Payload kind.
    pub payload: Payload,
    /// Local end, as the socket's owner sees it.
    pub local: SocketAddr,
    /// Remote end, as the socket's owner sees it.
    pub remote: SocketAddr,
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
    /// Request bytes until the response began.
    pub request_bytes: u32,
    /// Process that read, 0 unknown.
    pub tgid: u32,
    /// Thread that read, 0 unknown.
    pub read_tid: u32,
    /// Thread that wrote, 0 unknown.
    pub write_tid: u32,
    /// Smoothed round trip time, microseconds; 0 unknown.
    pub srtt_us: u32,
    /// Ordinal on this socket.
    pub index: u32,
    /// Part of a TLS handshake.
    pub handshake: bool,
    /// First after the handshake, stamps of the turn's last segment.
    pub after_handshake: bool,
    /// Closed without a response.
    pub no_response: bool,
    /// What the plaintext headers told.
    pub http: Http,
}

/// What is kept of plaintext headers. The bytes themselves are dropped here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// What the request prefix is.
    pub request: RequestHead,
    /// Status code, 0 unknown.
    pub status: u16,
    /// Hash of `x-request-id`, 0 when absent or beyond the prefix.
    pub request_id: u64,
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
    /// The HTTP/2 preface.
    Http2,
    /// Not the beginning of a request: the rest of a message already counted.
    Continuation,
    /// Began like a request line and is none.
    Malformed,
}

/// Why bytes are no record.
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
}

/// Decodes one ring record.
///
/// # Errors
/// [`DecodeError`] for bytes that are no record.
pub fn decode(bytes: &[u8]) -> Result<Exchange, DecodeError> {
    let fixed = bytes
        .get(..ExchangeRecord::FIXED_LEN)
        .ok_or(DecodeError::Short(bytes.len()))?;
    let mut whole = [0_u8; size_of::<ExchangeRecord>()];
    if let Some(head) = whole.get_mut(..ExchangeRecord::FIXED_LEN) {
        head.copy_from_slice(fixed);
    }
    let record = ExchangeRecord::read_from_bytes(whole.as_slice())
        .map_err(|_| DecodeError::Short(bytes.len()))?;
    let len = usize::from(record.request_prefix_len);
    if len > REQUEST_PREFIX_LEN || usize::from(record.response_prefix_len) > RESPONSE_PREFIX_LEN {
        return Err(DecodeError::Prefix(record.request_prefix_len));
    }
    let prefix = bytes
        .get(ExchangeRecord::FIXED_LEN..ExchangeRecord::FIXED_LEN + len)
        .ok_or(DecodeError::Short(bytes.len()))?;
    from_record(&record, prefix)
}

fn from_record(record: &ExchangeRecord, prefix: &[u8]) -> Result<Exchange, DecodeError> {
    let side = match record.side {
        SIDE_SERVER => Side::Server,
        SIDE_CLIENT => Side::Client,
        other => return Err(DecodeError::Side(other)),
    };
    let payload = match record.payload {
        PAYLOAD_HTTP => Payload::Http,
        PAYLOAD_TLS => Payload::Tls,
        _ => Payload::Other,
    };
    let response = record
        .response_prefix
        .get(..usize::from(record.response_prefix_len));
    // Hello and finished come before the first request of a TLS connection.
    let first = if payload == Payload::Tls { 2 } else { 0 };
    let flag = |bit: u16| record.flags & bit != 0;
    Ok(Exchange {
        cookie: record.sock_cookie,
        cgroup_id: record.cgroup_id,
        side,
        payload,
        local: address(record.saddr, record.sport),
        remote: address(record.daddr, record.dport),
        opened: (record.index <= first && record.open_ktime_ns != 0).then_some(record.open_ktime_ns),
        request_first: record.request_first_ktime_ns,
        response_first: record.response_first_ktime_ns,
        read: (record.read_ktime_ns != 0).then_some(record.read_ktime_ns),
        request_seq: record.request_seq,
        request_bytes: record.request_bytes,
        tgid: record.tgid,
        read_tid: record.read_tid,
        write_tid: record.write_tid,
        srtt_us: record.srtt_us,
        index: record.index,
        handshake: flag(FLAG_HANDSHAKE),
        after_handshake: flag(FLAG_AFTER_HANDSHAKE),
        no_response: flag(FLAG_NO_RESPONSE) || record.response_first_ktime_ns == 0,
        http: crate::http_head::parse(prefix, response.unwrap_or_default()),
    })
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
    pub const fn client(&self) -> SocketAddr {
        match self.side {
            Side::Server => self.remote,
            Side::Client => self.local,
        }
    }

    /// When this socket knew that the exchange was over: its last stamp.
    #[must_use]
    pub fn completed(&self) -> Ktime {
        self.response_first
            .max(self.read.unwrap_or(0))
            .max(self.request_first)
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
