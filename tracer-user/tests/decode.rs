//! Decode is total: any bytes give an exchange or a named error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use proptest::prelude::*;
use tracer_common::record::{
    ANNOUNCED_LEN, FLAG_HANDSHAKE, FLAG_PREVIOUS_SEGMENTS, HEADS_LEN, PAYLOAD_HTTP, SHORT_LEN,
    SIDE_SERVER,
};
use tracer_common::{ExchangeRecord, Heads, REQUEST_PREFIX_LEN, RESPONSE_PREFIX_LEN, SocketInfo};
use tracer_user::decode::{DecodeError, Decoded, Exchange, RequestHead, Side, Size, decode};
use tracer_user::sockets::Sockets;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const REQUEST: &[u8] = b"GET /capitols HTTP/1.1\r\nhost: info\r\nx-request-id: 7f\r\n\r\n";
const RESPONSE: &[u8; RESPONSE_PREFIX_LEN] = b"HTTP/1.1 404 Not";

/// A record as the kernel side writes it: with everything, or cut after one of its parts.
fn record(len: usize) -> Vec<u8> {
    let mut record = ExchangeRecord::new_zeroed();
    record.side = SIDE_SERVER;
    record.payload = PAYLOAD_HTTP;
    record.sock_cookie = 7;
    record.request_first_ktime_ns = 1_000;
    record.read_ktime_ns = 2_000;
    record.response_first_ktime_ns = 3_000;
    let mut info = SocketInfo::new_zeroed();
    info.cgroup_id = 42;
    info.saddr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    info.sport = 8080;
    let mut heads = Heads::new_zeroed();
    if len > ANNOUNCED_LEN {
        record.request_prefix_len = u16::try_from(REQUEST.len()).unwrap();
        record.response_prefix_len = u8::try_from(RESPONSE.len()).unwrap();
        heads.response = *RESPONSE;
        heads.request[..REQUEST.len()].copy_from_slice(REQUEST);
    }
    let mut bytes = record.as_bytes().to_vec();
    bytes.extend_from_slice(info.as_bytes());
    bytes.extend_from_slice(heads.as_bytes());
    bytes.truncate(len);
    bytes
}

/// A record with plaintext heads, as long as the kernel side makes it.
fn whole() -> Vec<u8> {
    record(HEADS_LEN + REQUEST.len())
}

fn fresh(bytes: &[u8]) -> Result<Exchange, DecodeError> {
    one(bytes, &mut Sockets::default())
}

fn one(bytes: &[u8], sockets: &mut Sockets) -> Result<Exchange, DecodeError> {
    match decode(bytes, sockets)? {
        Decoded::Exchange(exchange) => Ok(exchange),
        Decoded::Handshake => panic!("not a handshake"),
    }
}

#[test]
fn every_part_is_read() {
    let exchange = fresh(&whole()).unwrap();
    assert_eq!(exchange.side, Side::Server);
    assert_eq!((exchange.socket.cookie, exchange.socket.cgroup_id), (7, 42));
    assert_eq!(exchange.socket.local.to_string(), "10.0.0.1:8080");
    assert_eq!(exchange.read, Some(2_000));
    assert_eq!(exchange.http.request, RequestHead::Http1);
    assert_eq!(exchange.http.status, 404);
    assert_ne!(exchange.http.request_id, 0);
    assert_eq!(exchange.http.trace_id, 0);
}

#[test]
fn a_socket_introduces_itself_once() {
    let mut sockets = Sockets::default();
    assert_eq!(
        one(&record(SHORT_LEN), &mut sockets),
        Err(DecodeError::UnknownSocket(7))
    );
    let introduced = one(&record(ANNOUNCED_LEN), &mut sockets).unwrap();
    let later = one(&record(SHORT_LEN), &mut sockets).unwrap();
    assert_eq!(introduced, later);
}

#[test]
fn gaps_in_the_numbering_are_counted() {
    let mut sockets = Sockets::default();
    let index = std::mem::offset_of!(ExchangeRecord, index);
    for number in [5_u32, 6, 9, 10, 12] {
        let mut bytes = record(ANNOUNCED_LEN);
        bytes[index..index + 4].copy_from_slice(&number.to_ne_bytes());
        one(&bytes, &mut sockets).unwrap();
    }
    assert_eq!(sockets.missed(), 3);
}

#[test]
fn lengths_are_differences_of_stream_positions() {
    let mut sockets = Sockets::default();
    // Ordinal, positions behind what was sent and received, flags; and the response's length.
    let cases = [
        (0, (1_000, 300), 0, None),
        (1, (1_070, 400), 0, Some(70)),
        // Some of the response before came after its record.
        (2, (2_000, 500), FLAG_PREVIOUS_SEGMENTS, None),
        (3, (2_050, 600), 0, Some(50)),
        // The record before was lost.
        (5, (2_200, 700), 0, None),
        (6, (u32::MAX, 800), 0, Some(u32::MAX - 2_200)),
        (7, (9, 900), 0, Some(10)),
    ];
    for (index, (sent, received), flags, response) in cases {
        let mut record = ExchangeRecord::read_from_bytes(&record(SHORT_LEN)).unwrap();
        record.index = index;
        record.flags = flags;
        (record.send_next, record.receive_next) = (sent, received);
        record.request_seq = received - 99;
        let mut bytes = self::record(ANNOUNCED_LEN);
        bytes[..SHORT_LEN].copy_from_slice(record.as_bytes());
        let size = one(&bytes, &mut sockets).unwrap().size;
        let expected = Size {
            request: 99,
            response,
        };
        assert_eq!(size, expected, "{index}");
    }
}

#[test]
fn sockets_in_use_outlive_those_that_are_silent() {
    let mut sockets = Sockets::new(4);
    let mut bytes = record(ANNOUNCED_LEN);
    let cookie = std::mem::offset_of!(ExchangeRecord, sock_cookie);
    for other in 100..200_u64 {
        decode(&record(ANNOUNCED_LEN)[..SHORT_LEN], &mut sockets).ok();
        bytes[cookie..cookie + 8].copy_from_slice(&other.to_ne_bytes());
        decode(&bytes, &mut sockets).unwrap();
        if other == 100 {
            decode(&record(ANNOUNCED_LEN), &mut sockets).unwrap();
        }
    }
    assert!(sockets.find(7, 0, 0).is_some());
    assert!(sockets.find(100, 0, 0).is_none());
}

#[test]
fn a_handshake_needs_no_socket() {
    let mut bytes = record(SHORT_LEN);
    let flags = std::mem::offset_of!(ExchangeRecord, flags);
    bytes[flags..flags + 2].copy_from_slice(&FLAG_HANDSHAKE.to_ne_bytes());
    let decoded = decode(&bytes, &mut Sockets::default());
    assert_eq!(decoded, Ok(Decoded::Handshake));
}

#[test]
fn every_truncation_is_a_named_error_or_a_shorter_record() {
    let whole = whole();
    for len in 0..whole.len() {
        let cut = fresh(&whole[..len]);
        let expected = match len {
            // Only the record itself: the socket was never introduced.
            SHORT_LEN => Err(DecodeError::UnknownSocket(7)),
            // The heads are missing, the prefix lengths still tell of them.
            ANNOUNCED_LEN => fresh(&record(ANNOUNCED_LEN)),
            _ => Err(DecodeError::Short(len)),
        };
        assert_eq!(cut, expected, "{len} bytes");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut sockets = Sockets::default();
        let _ = decode(&bytes, &mut sockets);
        let _ = decode(&bytes, &mut sockets);
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0..HEADS_LEN + REQUEST.len(), byte: u8) {
        let mut bytes = whole();
        bytes[at] = byte;
        let _ = decode(&bytes, &mut Sockets::default());
    }

    #[test]
    fn arbitrary_heads_are_exchanges(
        request in prop::collection::vec(any::<u8>(), 1..=REQUEST_PREFIX_LEN),
        response: [u8; RESPONSE_PREFIX_LEN],
    ) {
        let mut bytes = record(HEADS_LEN + REQUEST_PREFIX_LEN);
        let prefix = std::mem::offset_of!(ExchangeRecord, request_prefix_len);
        let len = u16::try_from(request.len()).unwrap();
        bytes[prefix..prefix + 2].copy_from_slice(&len.to_ne_bytes());
        bytes[ANNOUNCED_LEN..HEADS_LEN].copy_from_slice(&response);
        bytes.truncate(HEADS_LEN);
        bytes.extend_from_slice(&request);
        let exchange = fresh(&bytes).unwrap();
        prop_assert!(exchange.http.status < 1000);
        if !request.is_ascii() && request.starts_with(b"GET ") {
            prop_assert!(exchange.http.request != RequestHead::Absent);
        }
    }

    #[test]
    fn malformed_requests_are_named(line in "(GET|POST|PUT) [\\x01-\\x1f]{1,9}.{0,40}") {
        let http = tracer_user::http_head::parse(line.as_bytes(), b"");
        prop_assert!(matches!(http.request, RequestHead::Malformed | RequestHead::Http1));
    }
}
