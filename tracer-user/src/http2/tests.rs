//! Frames in, exchanges out; what is known of heads when something is missing.

use proptest::prelude::*;
use tracer_common::http2::{
    FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS,
    FRAME_RST_STREAM, KIND_BLOCK, KIND_CLOSED, KIND_LOST, KIND_SOCKET, WAY_IN, WAY_OUT,
};
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{Http2Record, SocketInfo};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::model::GrpcStatus;

const BOTH: u8 = FLAG_END_STREAM | FLAG_END_HEADERS;

/// A socket whose records are made one after the other.
struct Wire {
    http2: Http2,
    side: u8,
    index: [u32; 2],
    ended: Vec<Exchange>,
}

fn note(event: Event, ended: &mut Vec<Exchange>) {
    if let Event::Ended(exchange) = event {
        ended.push(exchange);
    }
}

/// What a record is about; the rest is zero.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    value: u32,
    last_stream: u32,
    block: &'a [u8],
}

impl Wire {
    fn new(side: u8) -> Self {
        let mut wire = Self {
            http2: Http2::with_cap(4, 8),
            side,
            index: [0; 2],
            ended: Vec::new(),
        };
        let mut info = SocketInfo::new_zeroed();
        info.sport = 80;
        info.dport = 4000;
        let told = Told {
            kind: KIND_SOCKET,
            block: info.as_bytes(),
            ..Told::default()
        };
        for way in [WAY_IN, WAY_OUT] {
            wire.send(way, 0, told).unwrap();
        }
        wire
    }

    fn bytes(&mut self, way: u8, at: Ktime, told: Told<'_>) -> Vec<u8> {
        let mut record = Http2Record::new_zeroed();
        record.sock_cookie = 7;
        record.ktime_ns = at;
        record.seq = u32::try_from(at).unwrap() * 10;
        record.stream_id = told.stream;
        record.value = told.value;
        record.last_stream = told.last_stream;
        record.kind = told.kind;
        record.flags = told.flags;
        record.side = self.side;
        record.way = way;
        record.block_len = u16::try_from(told.block.len()).unwrap();
        let index = self.index.get_mut(usize::from(way == WAY_OUT)).unwrap();
        record.index = *index;
        *index += 1;
        [record.as_bytes(), told.block].concat()
    }

    fn send(&mut self, way: u8, at: Ktime, told: Told<'_>) -> Result<(), FrameError> {
        let bytes = self.bytes(way, at, told);
        let ended = &mut self.ended;
        self.http2.take(&bytes, |event| note(event, ended))
    }

    /// A record that the ring had no room for.
    fn lose(&mut self, way: u8, told: Told<'_>) {
        let _lost = self.bytes(way, 1, told);
    }

    fn headers(&mut self, way: u8, at: Ktime, stream: u32, flags: u8, block: &[u8]) {
        let told = Told {
            kind: FRAME_HEADERS,
            flags: flags | FLAG_END_HEADERS,
            stream,
            value: u32::try_from(block.len()).unwrap(),
            block,
            ..Told::default()
        };
        self.send(way, at, told).unwrap();
    }

    fn told(&mut self, way: u8, at: Ktime, kind: u8, flags: u8, stream: u32) {
        let told = Told {
            kind,
            flags,
            stream,
            ..Told::default()
        };
        self.send(way, at, told).unwrap();
    }

    fn last(&self) -> &Exchange {
        self.ended.last().unwrap()
    }
}

/// `:status: 200`, of the static table.
const OK: &[u8] = &[0x88];
/// `:status: 404`, likewise.
const NOT_FOUND: &[u8] = &[0x8d];

fn literal(name: &str, value: &str, first: u8) -> Vec<u8> {
    let mut block = vec![first];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// A new entry of the table.
fn entry(name: &str, value: &str) -> Vec<u8> {
    literal(name, value, 0x40)
}

#[test]
fn a_stream_is_an_exchange_at_both_ends() {
    for (side, out, back) in [
        (SIDE_SERVER, WAY_IN, WAY_OUT),
        (SIDE_CLIENT, WAY_OUT, WAY_IN),
    ] {
        let mut wire = Wire::new(side);
        wire.headers(out, 10, 1, FLAG_END_STREAM, &[0x82]);
        wire.headers(out, 12, 3, 0, &[0x83]);
        wire.headers(back, 20, 3, 0, NOT_FOUND);
        wire.told(back, 22, FRAME_DATA, FLAG_END_STREAM, 3);
        // The end of its request comes late.
        wire.told(out, 23, FRAME_DATA, FLAG_END_STREAM, 3);
        wire.headers(back, 30, 1, FLAG_END_STREAM, OK);
        let told: Vec<_> = wire
            .ended
            .iter()
            .map(|e| {
                (
                    e.index,
                    e.request_first,
                    e.response_first,
                    e.completed(),
                    e.http.status,
                )
            })
            .collect();
        assert_eq!(told, [(3, 12, 20, 22, 404), (1, 10, 30, 30, 200)]);
        assert_eq!(wire.last().request_seq, 100);
        assert_eq!(wire.http2.counts().open, 0);
    }
}

#[test]
fn every_way_to_end_without_an_answer_is_no_response() {
    let reset = |wire: &mut Wire, way| wire.told(way, 50, FRAME_RST_STREAM, 0, 3);
    let goaway = |wire: &mut Wire, way| {
        let told = Told {
            kind: FRAME_GOAWAY,
            last_stream: 1,
            ..Told::default()
        };
        wire.send(way, 50, told).unwrap();
    };
    let close = |wire: &mut Wire, way| wire.told(way, 50, KIND_CLOSED, 0, 0);
    type Ending<'a> = &'a dyn Fn(&mut Wire, u8);
    // How many of two streams end.
    for (what, end, way, ended) in [
        ("the client resets", &reset as Ending<'_>, WAY_IN, 1),
        ("the server resets", &reset, WAY_OUT, 1),
        ("the server goes away", &goaway, WAY_OUT, 1),
        ("the client goes away", &goaway, WAY_IN, 0),
        ("the socket closes", &close, WAY_OUT, 2),
    ] {
        let mut wire = Wire::new(SIDE_SERVER);
        wire.headers(WAY_IN, 10, 1, FLAG_END_STREAM, &[0x82]);
        wire.headers(WAY_IN, 11, 3, FLAG_END_STREAM, &[0x82]);
        end(&mut wire, way);
        assert_eq!(wire.ended.len(), ended, "{what}");
        assert!(
            wire.ended
                .iter()
                .all(|e| e.no_response && e.completed() == 50)
        );
        assert_eq!(wire.http2.counts().open, 2 - ended as u64, "{what}");
    }
}

#[test]
fn a_reset_behind_the_answers_head_leaves_its_times() {
    let mut wire = Wire::new(SIDE_SERVER);
    wire.headers(WAY_IN, 10, 1, FLAG_END_STREAM, &[0x82]);
    wire.headers(WAY_OUT, 20, 1, 0, OK);
    wire.told(WAY_IN, 30, FRAME_RST_STREAM, 0, 1);
    let exchange = wire.last();
    assert_eq!((exchange.no_response, exchange.response_first), (false, 20));
}

#[test]
fn an_interim_answer_is_not_the_answer() {
    let mut wire = Wire::new(SIDE_SERVER);
    wire.headers(WAY_IN, 10, 1, FLAG_END_STREAM, &[0x82]);
    wire.headers(WAY_OUT, 20, 1, 0, &literal(":status", "103", 0));
    wire.headers(WAY_OUT, 30, 1, 0, OK);
    wire.headers(
        WAY_OUT,
        40,
        1,
        FLAG_END_STREAM,
        &literal("x-trailer", "1", 0),
    );
    let exchange = wire.last();
    assert_eq!((exchange.http.status, exchange.response_first), (200, 30));
}

#[test]
fn grpc_tells_its_status_in_trailers_or_at_once() {
    let grpc = literal("content-type", "application/grpc+proto", 0);
    for (trailers_only, code, told) in [
        (false, "0", GrpcStatus::Code(0)),
        (true, "14", GrpcStatus::Code(14)),
        (false, "17", GrpcStatus::Unknown),
        (false, "", GrpcStatus::Unknown),
    ] {
        let mut wire = Wire::new(SIDE_SERVER);
        wire.headers(WAY_IN, 10, 1, FLAG_END_STREAM, &grpc);
        let status = literal("grpc-status", code, 0);
        if trailers_only {
            let head = [OK, &grpc, &status].concat();
            wire.headers(WAY_OUT, 20, 1, FLAG_END_STREAM, &head);
        } else {
            wire.headers(WAY_OUT, 20, 1, 0, &[OK, &grpc].concat());
            wire.headers(WAY_OUT, 30, 1, FLAG_END_STREAM, &status);
        }
        assert_eq!(wire.last().stream.unwrap().grpc, Some(told), "{code}");
        assert_eq!(wire.last().response_first, 20);
    }
}

#[test]
fn a_block_in_pieces_is_read_when_it_is_whole() {
    let mut wire = Wire::new(SIDE_SERVER);
    let id = literal("x-request-id", "a-b-c", 0);
    let block = [&[0x82][..], &id].concat();
    let (one, rest) = block.split_at(3);
    let (two, three) = rest.split_at(4);
    let told = Told {
        kind: FRAME_HEADERS,
        flags: FLAG_END_STREAM,
        stream: 1,
        value: u32::try_from(one.len() + two.len()).unwrap(),
        block: one,
        ..Told::default()
    };
    wire.send(WAY_IN, 10, told).unwrap();
    let told = Told {
        kind: KIND_BLOCK,
        block: two,
        ..Told::default()
    };
    wire.send(WAY_IN, 11, told).unwrap();
    let told = Told {
        kind: FRAME_CONTINUATION,
        flags: FLAG_END_HEADERS,
        stream: 1,
        value: u32::try_from(three.len()).unwrap(),
        block: three,
        ..Told::default()
    };
    wire.send(WAY_IN, 12, told).unwrap();
    // The answer's last head is in two pieces as well: the stream ends with the second.
    let told = Told {
        kind: FRAME_HEADERS,
        flags: BOTH,
        stream: 1,
        value: 1,
        ..Told::default()
    };
    wire.send(WAY_OUT, 20, told).unwrap();
    assert!(wire.ended.is_empty());
    let told = Told {
        kind: KIND_BLOCK,
        block: OK,
        ..Told::default()
    };
    wire.send(WAY_OUT, 21, told).unwrap();
    let exchange = wire.last();
    assert_eq!(exchange.http.request_id, crate::http_head::hash(b"a-b-c"));
    assert_eq!((exchange.http.status, exchange.completed()), (200, 20));
}

#[test]
fn a_hole_in_the_table_is_unknown_and_never_another_value() {
    let mut wire = Wire::new(SIDE_SERVER);
    let id = crate::http_head::hash;
    let ask = |wire: &mut Wire, stream, block: &[u8]| {
        wire.headers(WAY_IN, 10, stream, FLAG_END_STREAM, block);
        wire.headers(WAY_OUT, 20, stream, FLAG_END_STREAM, OK);
        wire.last().http.request_id
    };
    // Entry 62 is the newest.
    assert_eq!(ask(&mut wire, 1, &entry("x-request-id", "one")), id(b"one"));
    assert_eq!(ask(&mut wire, 3, &[0xbe]), id(b"one"));
    // A record is lost, with two entries in it that nobody knows.
    let block = [entry("x-request-id", "two"), entry("a", "b")].concat();
    let told = Told {
        kind: FRAME_HEADERS,
        flags: BOTH,
        stream: 5,
        value: u32::try_from(block.len()).unwrap(),
        block: &block,
        ..Told::default()
    };
    wire.lose(WAY_IN, told);
    assert_eq!(ask(&mut wire, 7, &[0xbe]), 0, "it is a: b");
    assert_eq!(
        ask(&mut wire, 9, &[0xc0]),
        0,
        "it was known, and is not any more"
    );
    assert_eq!(wire.http2.counts().missed, 1);
    // What comes from here on is known by its place from the newest, whatever is before it.
    assert_eq!(
        ask(&mut wire, 11, &entry("x-request-id", "three")),
        id(b"three")
    );
    // An entry whose name is one of those that were lost takes its place all the same.
    let nameless = [&[0x7f, 0, 3][..], b"xyz"].concat();
    assert_eq!(ask(&mut wire, 13, &nameless), 0);
    assert_eq!(ask(&mut wire, 15, &[0xbf]), id(b"three"));
    wire.told(WAY_IN, 30, KIND_LOST, 0, 0);
    assert_eq!(ask(&mut wire, 17, &[0xbf]), 0);
}

#[test]
fn heads_of_the_standard_are_read() {
    // RFC 7541, C.6.1 and C.6.2: with Huffman codes and an eviction at 256 bytes, of which only the
    // status is kept.
    let mut wire = Wire::new(SIDE_SERVER);
    let first = [
        0x3f, 0xe1, 0x01, 0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b,
    ];
    let second = [0x48, 0x83, 0x64, 0x0e, 0xff];
    for (stream, block, status) in [(1, &first[..], 302), (3, &second, 307)] {
        wire.headers(WAY_IN, 10, stream, FLAG_END_STREAM, &[0x82]);
        wire.headers(WAY_OUT, 20, stream, FLAG_END_STREAM, block);
        assert_eq!(wire.last().http.status, status);
    }
}

#[test]
fn what_was_begun_before_is_counted_and_not_told() {
    let mut wire = Wire::new(SIDE_SERVER);
    wire.headers(WAY_OUT, 20, 1, FLAG_END_STREAM, OK);
    assert_eq!((wire.ended.len(), wire.http2.counts().unseen), (0, 1));
    wire.headers(WAY_IN, 30, 3, FLAG_END_STREAM, &[0x82]);
    wire.headers(WAY_OUT, 40, 3, FLAG_END_STREAM, OK);
    assert_eq!((wire.ended.len(), wire.http2.counts().unseen), (1, 1));
}

#[test]
fn no_table_grows() {
    let mut wire = Wire::new(SIDE_SERVER);
    for stream in 0..10 {
        wire.headers(WAY_IN, 10, 2 * stream + 1, FLAG_END_STREAM, &[0x82]);
    }
    let counts = wire.http2.counts();
    assert_eq!((counts.open, counts.refused), (8, 2));
    // Connections of two generations at most: the streams of those forgotten have no answer.
    for cookie in 100..120 {
        let mut record = Http2Record::new_zeroed();
        record.sock_cookie = cookie;
        record.kind = KIND_SOCKET;
        record.side = SIDE_SERVER;
        record.way = WAY_IN;
        record.block_len = u16::try_from(size_of::<SocketInfo>()).unwrap();
        let bytes = [record.as_bytes(), SocketInfo::new_zeroed().as_bytes()].concat();
        let ended = &mut wire.ended;
        wire.http2.take(&bytes, |event| note(event, ended)).unwrap();
    }
    assert!(wire.http2.young.len() <= 4 && wire.http2.old.len() <= 4);
    assert!(wire.http2.follows(7), "records of its turns may come");
    assert_eq!((wire.ended.len(), wire.http2.counts().open), (8, 0));
    assert!(wire.ended.iter().all(|e| e.no_response));
    let unknown = wire.send(WAY_IN, 60, Told::default());
    assert_eq!(unknown, Err(FrameError::UnknownSocket(7)));
}

fn any_told() -> impl Strategy<Value = (u8, u8, u32, u32, Vec<u8>)> {
    let kinds = prop::sample::select(vec![
        FRAME_DATA,
        FRAME_HEADERS,
        FRAME_RST_STREAM,
        FRAME_GOAWAY,
        FRAME_CONTINUATION,
        5,
        KIND_BLOCK,
        KIND_LOST,
        KIND_CLOSED,
    ]);
    let block = prop::collection::vec(any::<u8>(), 0..40);
    (kinds, any::<u8>(), 0..12_u32, 0..60_u32, block)
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut http2 = Http2::new(10);
        let taken = http2.take(&bytes, |_| ());
        let counts = http2.counts();
        prop_assert_eq!(taken.is_err(), counts.malformed + counts.unknown_socket == 1);
    }

    #[test]
    fn whatever_comes_every_stream_ends_once(
        told in prop::collection::vec((any::<bool>(), any::<bool>(), any_told()), 0..80)
    ) {
        let mut wire = Wire::new(SIDE_SERVER);
        for (at, (out, lost, (kind, flags, stream, value, block))) in told.iter().enumerate() {
            let way = if *out { WAY_OUT } else { WAY_IN };
            let told = Told {
                kind: *kind,
                flags: *flags,
                stream: *stream,
                value: *value,
                last_stream: *value,
                block,
            };
            if *lost && at % 7 == 0 {
                wire.lose(way, told);
            } else {
                // After its end the socket is not known.
                let _known = wire.send(way, at as u64, told);
            }
        }
        let _known = wire.send(WAY_OUT, 100, Told { kind: KIND_CLOSED, ..Told::default() });
        prop_assert_eq!(wire.http2.counts().open, 0);
        let mut streams: Vec<_> = wire.ended.iter().map(|e| e.index).collect();
        let all = streams.len();
        streams.sort_unstable();
        streams.dedup();
        prop_assert_eq!(streams.len(), all);
    }
}
