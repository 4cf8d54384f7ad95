//! One exchange (request and first byte of its response) as one socket saw it.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a plaintext request kept for the agent: enough for the request line and, as Envoy
/// orders them, `x-request-id`.
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
/// The first payload of the socket began with an HTTP/1 request line.
pub const PAYLOAD_HTTP: u8 = 3;
/// The first payload of the socket began with the HTTP/2 preface (RFC 9113, section 3.4).
pub const PAYLOAD_HTTP2: u8 = 4;

/// The exchange belongs to a TLS handshake: its response is not an answer to a request.
pub const FLAG_HANDSHAKE: u16 = 1 << 0;
/// First request of a TLS 1.3 connection: it shared its turn with the handshake's last flight, so
/// its stamps are those of the turn's second segment. True of servers that keep their session tickets
/// back until they answer, as BoringSSL's do.
pub const FLAG_AFTER_HANDSHAKE: u16 = 1 << 1;
/// The socket closed before a response came: `response_first_ktime_ns` is 0.
pub const FLAG_NO_RESPONSE: u16 = 1 << 2;
/// A retransmitted segment was seen while the exchange was open.
pub const FLAG_RETRANSMIT: u16 = 1 << 3;
/// `request_last_ktime_ns` is valid: the request had more than one segment.
pub const FLAG_REQUEST_SEGMENTS: u16 = 1 << 4;
/// `response_last_ktime_ns` is valid: the *previous* response had more than one segment.
pub const FLAG_PREVIOUS_SEGMENTS: u16 = 1 << 5;

/// One exchange on one socket. Emitted once: by a server socket with the first byte of the
/// response, by a client socket when the application reads the response, else at close.
///
/// The first 56 bytes share a cache line with the kernel's header of the socket storage; most
/// packets touch only them. Byte counts need no field: they are differences of stream positions.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExchangeRecord {
    /// `SIDE_*`.
    pub side: u8,
    /// `PAYLOAD_*`.
    pub payload: u8,
    /// State of the kernel side's turn machine; the agent ignores it.
    pub phase: u8,
    /// Flags of the kernel side's turn machine; the agent ignores them.
    pub control: u8,
    /// Exchanges that still belong to the TLS handshake; the agent ignores it.
    pub handshake: u8,
    /// Zero.
    pub _reserved: u8,
    /// `FLAG_*`.
    pub flags: u16,
    /// Sequence number after the last payload byte sent.
    pub send_next: u32,
    /// Sequence number after the last payload byte received.
    pub receive_next: u32,
    /// First byte of the request: arrival on a server socket, departure on a client socket.
    pub request_first_ktime_ns: u64,
    /// When the application read what had arrived (server: request, client: response). 0: not seen.
    pub read_ktime_ns: u64,
    /// First byte of the response: departure on a server socket, arrival on a client socket.
    pub response_first_ktime_ns: u64,
    /// TCP sequence number of the request's first byte: the same at both ends of the connection.
    pub request_seq: u32,
    /// Ordinal of the exchange on this socket since it was first seen, from 0.
    pub index: u32,
    /// Thread that read, 0 when unknown: its `pid`, or on old kernels a part of its task's address.
    pub read_tid: u32,
    /// Thread that wrote the first byte of this side's turn, 0 when unknown; the same kind of key.
    pub write_tid: u32,
    /// Kernel's socket cookie: unique for the life of the machine.
    pub sock_cookie: u64,
    /// Last byte of the request before the response began, with `FLAG_REQUEST_SEGMENTS`.
    pub request_last_ktime_ns: u64,
    /// Last byte of the response before this request, with `FLAG_PREVIOUS_SEGMENTS`.
    pub response_last_ktime_ns: u64,
    /// Kernel's smoothed round trip time, microseconds, sampled now and then; 0 on server sockets.
    pub srtt_us: u32,
    /// Valid bytes of the request prefix that follows.
    pub request_prefix_len: u16,
    /// Valid bytes of the response prefix that follows.
    pub response_prefix_len: u8,
    /// Zero.
    pub _padding: u8,
}

/// What does not change during a socket's life. Follows the record of a socket's first exchanges,
/// of every [`ANNOUNCE_EVERY`]th, and of each that brings a header prefix.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketInfo {
    /// cgroup v2 id of the socket (the container that created it or listens on it).
    pub cgroup_id: u64,
    /// When `connect` was called; 0 on server sockets and when the socket is older than the tracer.
    pub open_ktime_ns: u64,
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub saddr: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub daddr: [u8; 16],
    /// Local port.
    pub sport: u16,
    /// Remote port.
    pub dport: u16,
    /// Process (`tgid`) that read first, 0 when unknown.
    pub tgid: u32,
}

/// The plaintext heads of an exchange. Cut on the wire after the request prefix's valid bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Heads {
    /// First bytes of the response's first segment.
    pub response: [u8; RESPONSE_PREFIX_LEN],
    /// First bytes of the request's first segment.
    pub request: [u8; REQUEST_PREFIX_LEN],
}

/// A socket tells its [`SocketInfo`] again after so many exchanges: an agent that missed it learns
/// it late rather than never.
pub const ANNOUNCE_EVERY: u32 = 64;
/// Exchanges at the beginning of a socket that tell it too: one may be lost.
pub const ANNOUNCE_FIRST: u32 = 4;

/// Bytes of a short record: the record alone.
pub const SHORT_LEN: usize = size_of::<ExchangeRecord>();
/// Bytes of a record with its socket's info.
pub const ANNOUNCED_LEN: usize = SHORT_LEN + size_of::<SocketInfo>();
/// Bytes of a record with info and the response head; the request head's valid bytes follow.
pub const HEADS_LEN: usize = ANNOUNCED_LEN + RESPONSE_PREFIX_LEN;

const _: () = assert!(SHORT_LEN == 88);
const _: () = assert!(offset_of!(ExchangeRecord, sock_cookie) == 56);
const _: () = assert!(size_of::<SocketInfo>() == 56);
const _: () = assert!(size_of::<Heads>() == RESPONSE_PREFIX_LEN + REQUEST_PREFIX_LEN);
