//! One exchange (request and first byte of its response) as one socket saw it.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a plaintext request kept for the agent: enough for the request line and, as Envoy
/// orders them, `x-request-id` and `traceparent`.
pub const REQUEST_PREFIX_LEN: usize = 384;
/// Bytes of a plaintext response kept: the HTTP/1 status line up to the status code.
pub const RESPONSE_PREFIX_LEN: usize = 16;

/// The socket was created by `accept`: requests arrive, responses leave.
pub const SIDE_SERVER: u8 = 1;
/// The socket was created by `connect`: requests leave, responses arrive.
pub const SIDE_CLIENT: u8 = 2;

/// The first payload of the socket was neither TLS nor an HTTP/1 request.
pub const PAYLOAD_OTHER: u8 = 1;
/// The first payload of the socket was a TLS record (RFC 8446, section 5.1).
pub const PAYLOAD_TLS: u8 = 2;
/// The first payload of the socket began with an HTTP/1 request line or the HTTP/2 preface.
pub const PAYLOAD_HTTP: u8 = 3;

/// The exchange belongs to a TLS handshake: its response is not an answer to a request.
pub const FLAG_HANDSHAKE: u16 = 1 << 0;
/// First exchange after a handshake: the request shared its turn with the handshake's last flight,
/// so its stamps are those of the turn's last segment.
pub const FLAG_AFTER_HANDSHAKE: u16 = 1 << 1;
/// The socket closed before a response came: `response_first_ktime_ns` is 0.
pub const FLAG_NO_RESPONSE: u16 = 1 << 2;
/// A retransmitted segment was seen while the exchange was open.
pub const FLAG_RETRANSMIT: u16 = 1 << 3;
/// First exchange of a connection whose opening this program saw; `open_ktime_ns` is then set.
pub const FLAG_FIRST: u16 = 1 << 4;

/// One exchange on one socket. Emitted once: by a server socket with the first byte of the
/// response, by a client socket when the application reads the response, else at close.
///
/// On the wire the record is cut after `request_prefix_len` bytes of `request_prefix`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExchangeRecord {
    /// Kernel's socket cookie: unique for the life of the machine.
    pub sock_cookie: u64,
    /// cgroup v2 id of the socket (the container that created it or listens on it).
    pub cgroup_id: u64,
    /// `connect` or first payload of the socket seen, 0 when the socket is older than the tracer.
    pub open_ktime_ns: u64,
    /// First byte of the request: arrival on a server socket, departure on a client socket.
    pub request_first_ktime_ns: u64,
    /// Last byte of the request seen before the response began.
    pub request_last_ktime_ns: u64,
    /// First byte of the response: departure on a server socket, arrival on a client socket.
    pub response_first_ktime_ns: u64,
    /// When the application read what had arrived (server: request, client: response). 0: not seen.
    pub read_ktime_ns: u64,
    /// Last byte of the *previous* response on this socket, 0 when there was none.
    pub previous_response_last_ktime_ns: u64,
    /// Payload bytes of the previous response on this socket.
    pub previous_response_bytes: u32,
    /// Payload bytes of the request seen before the response began.
    pub request_bytes: u32,
    /// TCP sequence number of the request's first byte: the same at both ends of the connection.
    pub request_seq: u32,
    /// Process (`tgid`) that read, 0 when unknown.
    pub tgid: u32,
    /// Thread (`pid`) that read, 0 when unknown.
    pub read_tid: u32,
    /// Thread that wrote the first byte of this side's turn, 0 when unknown.
    pub write_tid: u32,
    /// Kernel's smoothed round trip time, microseconds, 0 when not sampled (server sockets).
    pub srtt_us: u32,
    /// Ordinal of the exchange on this socket since it was first seen, from 0.
    pub index: u32,
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub saddr: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub daddr: [u8; 16],
    /// Local port.
    pub sport: u16,
    /// Remote port.
    pub dport: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// Valid bytes of `request_prefix`.
    pub request_prefix_len: u16,
    /// `SIDE_*`.
    pub side: u8,
    /// `PAYLOAD_*`.
    pub payload: u8,
    /// Valid bytes of `response_prefix`.
    pub response_prefix_len: u8,
    /// Zero.
    pub _reserved: [u8; 5],
    /// First bytes of the response's first segment.
    pub response_prefix: [u8; RESPONSE_PREFIX_LEN],
    /// First bytes of the request's first segment.
    pub request_prefix: [u8; REQUEST_PREFIX_LEN],
}

impl ExchangeRecord {
    /// Size in bytes of everything before `request_prefix`: the shortest valid record.
    pub const FIXED_LEN: usize = offset_of!(Self, request_prefix);
}

const _: () = assert!(ExchangeRecord::FIXED_LEN == 160);
const _: () = assert!(size_of::<ExchangeRecord>() == 160 + REQUEST_PREFIX_LEN);
