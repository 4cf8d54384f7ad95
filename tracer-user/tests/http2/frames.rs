//! The walk from frame to frame, in the kernel: arbitrary frames in arbitrary pieces over a real connection.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tracer_common::http2::{
    FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS,
    FRAME_RST_STREAM, KIND_BLOCK, KIND_CLOSED, KIND_SOCKET, SOCKET_OLDER, WAY_IN, WAY_OUT,
};
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{Http2Loss, Http2Record, SocketInfo};
use tracer_user::load::http2::Http2Hooks;
use tracer_user::load::{Headers, LoadOptions, ReadHook};
use zerocopy::FromBytes;

use crate::mesh;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// A frame to send: type, flags, stream, bytes of its body.
type Sent = (u8, u8, u32, usize);

/// What has to be told of one: type, flags, stream, where it begins, its block.
#[derive(Debug, PartialEq)]
struct Told {
    kind: u8,
    flags: u8,
    stream: u32,
    at: u32,
    block: Vec<u8>,
}

/// One of these tests at a time: the hooks of each follow the connections of all, and count what those lose.
static TURN: Mutex<()> = Mutex::new(());

/// The hooks, for whose turn it is; they go before it is over.
fn hooks() -> (MutexGuard<'static, ()>, Http2Hooks) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = LoadOptions {
        cgroup_root: tracer_user::mounts::cgroup2().unwrap(),
        ring_bytes: 4 << 20,
        read_hook: ReadHook::Required,
        headers: Headers::AppLegs,
        sidecar_inbound_port: 15006,
        http2: true,
        windows: tracer_user::windows::Windows::Always,
        log_level: 0,
    };
    (turn, Http2Hooks::attach(&options).unwrap())
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn encode((kind, flags, stream, len): Sent) -> Vec<u8> {
    let mut bytes = u32::try_from(len).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body(len));
    bytes
}

fn expected(frames: &[Sent], from: u32, keeps: bool) -> Vec<Told> {
    let mut at = from;
    let mut told = Vec::new();
    for &(kind, flags, stream, len) in frames {
        let block = match kind {
            FRAME_HEADERS | FRAME_CONTINUATION if keeps => body(len),
            _ => Vec::new(),
        };
        let is_told = match kind {
            FRAME_DATA => flags & FLAG_END_STREAM != 0,
            FRAME_HEADERS | FRAME_CONTINUATION | FRAME_RST_STREAM | FRAME_GOAWAY => true,
            _ => false,
        };
        if is_told {
            told.push(Told {
                kind,
                flags,
                stream,
                at,
                block,
            });
        }
        at += 9 + u32::try_from(len).unwrap();
    }
    told
}

/// Frames that one end of a connection was told of, each with the whole of its block.
#[derive(Default)]
struct End {
    cookie: u64,
    told: Vec<Told>,
    first_seq: Option<u32>,
    closed: bool,
}

fn take(ends: &mut [End; 2], bytes: &[u8], port: u16, way: u8) {
    let (record, rest) = Http2Record::read_from_prefix(bytes).unwrap();
    let block = &rest[..usize::from(record.block_len)];
    let end = match record.side {
        SIDE_CLIENT => &mut ends[0],
        SIDE_SERVER => &mut ends[1],
        other => panic!("side {other}"),
    };
    if record.kind == KIND_SOCKET {
        let (info, _) = SocketInfo::read_from_prefix(block).unwrap();
        if info.sport == port || info.dport == port {
            end.cookie = record.sock_cookie;
        }
        return;
    }
    if record.sock_cookie != end.cookie {
        return;
    }
    end.closed |= record.kind == KIND_CLOSED;
    // The request's way: out of the client, into the server.
    if record.kind == KIND_CLOSED || record.way != way {
        return;
    }
    if record.kind == KIND_BLOCK {
        end.told.last_mut().unwrap().block.extend_from_slice(block);
        return;
    }
    let first = *end.first_seq.get_or_insert(record.seq);
    end.told.push(Told {
        kind: record.kind,
        flags: record.flags,
        stream: record.stream_id,
        at: record.seq.wrapping_sub(first),
        block: block.to_vec(),
    });
}

/// Sends bytes in pieces of these lengths, one segment each.
fn send(port: u16, bytes: &[u8], pieces: &[usize]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    // Less than the other end takes, however late it reads: what it drops comes out of order.
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 16 << 10).unwrap();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let len = (*pieces.next().unwrap()).min(rest.len());
        stream.write_all(&rest[..len]).unwrap();
        rest = &rest[len..];
    }
}

fn frames() -> impl Strategy<Value = Vec<Sent>> {
    let flags = prop::sample::select(vec![0, FLAG_END_STREAM, FLAG_END_HEADERS, 5]);
    let frame = prop_oneof![
        4 => (Just(FRAME_HEADERS), flags.clone(), 1..9_u32, 1..300_usize),
        1 => (Just(FRAME_CONTINUATION), flags.clone(), 1..9_u32, 0..900_usize),
        4 => (Just(FRAME_DATA), flags.clone(), 1..9_u32, 0..20_000_usize),
        4 => (Just(FRAME_DATA), flags, 1..9_u32, 0..20_usize),
        1 => (Just(FRAME_RST_STREAM), Just(0), 1..9_u32, Just(4)),
        1 => (Just(FRAME_GOAWAY), Just(0), Just(0), 8..30_usize),
        1 => (Just(SETTINGS), Just(0), Just(0), Just(12)),
        1 => (Just(WINDOW_UPDATE), Just(0), 0..9_u32, Just(4)),
    ];
    prop::collection::vec(frame, 1..60)
}

#[test]
fn frames_are_found_in_whatever_pieces_they_come() {
    if !rustix::process::geteuid().is_root() {
        return mesh::skip("frames", "it needs root");
    }
    let (_turn, hooks) = hooks();
    let hooks = RefCell::new(hooks);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Ends with the test.
            let _all = stream.unwrap().read_to_end(&mut Vec::new()).unwrap();
        }
    });
    let pieces = prop::collection::vec(prop_oneof![3 => 1..40_usize, 2 => 1..1100_usize], 1..40);
    let mut runner = TestRunner::new(Config {
        cases: 120,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&(frames(), pieces), |(frames, pieces)| {
            // The first frame that is told tells where all begin.
            let frames = [vec![(FRAME_HEADERS, 4, 1, 5)], frames].concat();
            let mut bytes = PREFACE.to_vec();
            frames.iter().for_each(|frame| bytes.extend(encode(*frame)));
            // The preface comes in one piece, as every client sends it.
            let mut first = vec![PREFACE.len()];
            first.extend(&pieces);
            let first = if pieces.len() % 2 == 0 {
                first
            } else {
                vec![bytes.len().min(900)]
                    .into_iter()
                    .chain(pieces)
                    .collect()
            };
            send(port, &bytes, &first);
            let mut ends = <[End; 2]>::default();
            let ways = [WAY_OUT, WAY_IN];
            for _ in 0..200 {
                hooks.borrow_mut().drain(|bytes| {
                    let side = Http2Record::read_from_prefix(bytes).unwrap().0.side;
                    let way = ways[usize::from(side == SIDE_SERVER)];
                    take(&mut ends, bytes, port, way);
                });
                if ends.iter().all(|end| end.closed) {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            let [client, server] = ends;
            prop_assert_eq!(client.told, expected(&frames, 0, false), "client");
            prop_assert_eq!(server.told, expected(&frames, 0, true), "server");
            Ok(())
        })
        .unwrap();
    for loss in Http2Loss::ALL {
        assert_eq!(hooks.borrow().lost(loss), 0, "{}", loss.reason());
    }
}

/// Records of connections with this port that the hooks tell within a moment.
fn told_of(hooks: &mut Http2Hooks, port: u16) -> Vec<(Http2Record, Option<SocketInfo>)> {
    thread::sleep(Duration::from_millis(50));
    let mut cookies = Vec::new();
    let mut told = Vec::new();
    hooks.drain(|bytes| {
        let (record, rest) = Http2Record::read_from_prefix(bytes).unwrap();
        let info = (record.kind == KIND_SOCKET)
            .then(|| SocketInfo::read_from_prefix(rest).unwrap().0)
            .filter(|info| info.sport == port || info.dport == port);
        if info.is_some() {
            cookies.push(record.sock_cookie);
        }
        if cookies.contains(&record.sock_cookie) {
            told.push((record, info));
        }
    });
    told
}

/// Both ends of a connection.
fn connect() -> (TcpStream, TcpStream, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_nodelay(true).unwrap();
    let (server, _) = listener.accept().unwrap();
    // The listener stays as long as the process: it tells whose side is whose.
    std::mem::forget(listener);
    (client, server, port)
}

#[test]
fn a_connection_older_than_the_programs_is_recognised_by_a_frame() {
    if !rustix::process::geteuid().is_root() {
        return mesh::skip("older", "it needs root");
    }
    let (mut client, mut server, port) = connect();
    client.write_all(PREFACE).unwrap();
    client.write_all(&encode((SETTINGS, 0, 0, 12))).unwrap();
    let (_turn, mut hooks) = hooks();
    // These show nothing yet: no HEADERS, or not all of them.
    client.write_all(&encode((WINDOW_UPDATE, 0, 0, 4))).unwrap();
    client.write_all(&encode((FRAME_DATA, 1, 1, 10))).unwrap();
    client
        .write_all(&encode((FRAME_HEADERS, 0, 3, 10)))
        .unwrap();
    assert!(told_of(&mut hooks, port).is_empty());
    let request = [
        encode((FRAME_HEADERS, 4, 5, 20)),
        encode((FRAME_DATA, 1, 5, 3)),
    ];
    client.write_all(&request.concat()).unwrap();
    server.write_all(&encode((FRAME_HEADERS, 5, 5, 7))).unwrap();
    let told = told_of(&mut hooks, port);
    let introduced = told.iter().filter(|(record, _)| record.kind == KIND_SOCKET);
    let older = introduced
        .map(|(record, _)| record.value)
        .collect::<Vec<_>>();
    assert_eq!(older, [SOCKET_OLDER; 4], "two ends, two ways");
    for side in [SIDE_CLIENT, SIDE_SERVER] {
        let frames: Vec<_> = told
            .iter()
            .map(|(record, _)| record)
            .filter(|record| record.side == side && record.kind != KIND_SOCKET)
            .map(|record| (record.kind, record.stream_id))
            .collect();
        let all = [(FRAME_HEADERS, 5), (FRAME_DATA, 5), (FRAME_HEADERS, 5)];
        assert_eq!(frames, all, "side {side}");
    }
}

#[test]
fn what_is_no_http2_is_not_taken_for_it() {
    if !rustix::process::geteuid().is_root() {
        return mesh::skip("other payload", "it needs root");
    }
    let (_turn, hooks) = hooks();
    let hooks = RefCell::new(hooks);
    let random = prop::collection::vec(any::<u8>(), 2..2000);
    let beginnings = prop::sample::select(vec![
        &b""[..],
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/1.1\r\n",
        // TLS, and lengths in front as databases have them.
        &[0x17, 3, 3, 0, 100],
        &[0, 0, 1, 1, 4, 0, 0, 0, 1],
        &[0, 0, 0, 1],
    ]);
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&(beginnings, random), |(beginning, random)| {
            let (mut client, mut server, port) = connect();
            let bytes = [beginning, &random].concat();
            client.write_all(&bytes).unwrap();
            server.write_all(&bytes).unwrap();
            prop_assert_eq!(told_of(&mut hooks.borrow_mut(), port).len(), 0);
            Ok(())
        })
        .unwrap();
}

/// So many frames of a run, one after the other, in one segment.
fn at_once(client: &mut TcpStream, count: u32, frame: impl Fn(u32) -> Sent) {
    let bytes: Vec<u8> = (0..count).flat_map(|n| encode(frame(n))).collect();
    client.write_all(&bytes).unwrap();
}

fn streams_of(told: &[(Http2Record, Option<SocketInfo>)], side: u8) -> Vec<u32> {
    let of_side = told.iter().map(|(record, _)| record);
    of_side
        .filter(|record| record.side == side && record.kind < KIND_SOCKET)
        .map(|record| record.stream_id)
        .collect()
}

#[test]
fn a_segment_of_thousands_of_frames_is_followed_to_its_end() {
    if !rustix::process::geteuid().is_root() {
        return mesh::skip("many frames", "it needs root");
    }
    let (_turn, mut hooks) = hooks();
    let (mut client, _server, port) = connect();
    client.write_all(PREFACE).unwrap();
    let count = 4_000;
    at_once(&mut client, count, |n| (FRAME_HEADERS, 5, 2 * n + 1, 3));
    let told = told_of(&mut hooks, port);
    let all: Vec<u32> = (0..count).map(|n| 2 * n + 1).collect();
    for side in [SIDE_CLIENT, SIDE_SERVER] {
        assert!(streams_of(&told, side) == all, "side {side}");
    }
    for loss in Http2Loss::ALL {
        assert_eq!(hooks.lost(loss), 0, "{}", loss.reason());
    }
}

#[test]
fn a_segment_of_too_many_frames_is_counted_and_the_next_one_found() {
    if !rustix::process::geteuid().is_root() {
        return mesh::skip("too many frames", "it needs root");
    }
    let (_turn, mut hooks) = hooks();
    let (mut client, mut server, port) = connect();
    let reader = thread::spawn(move || server.read_to_end(&mut Vec::new()).unwrap());
    client.write_all(PREFACE).unwrap();
    client
        .write_all(&encode((FRAME_HEADERS, 4, 1, 20)))
        .unwrap();
    // A segment has half of the window at most, which grows with what is read.
    for _ in 0..128 {
        client
            .write_all(&encode((FRAME_DATA, 0, 1, 16_000)))
            .unwrap();
    }
    thread::sleep(Duration::from_millis(50));
    // The shortest frames there are.
    at_once(&mut client, 6_000, |_| (FRAME_DATA, 0, 1, 0));
    client
        .write_all(&encode((FRAME_HEADERS, 5, 3, 20)))
        .unwrap();
    let told = told_of(&mut hooks, port);
    for side in [SIDE_CLIENT, SIDE_SERVER] {
        assert_eq!(streams_of(&told, side), [1, 3], "side {side}");
    }
    for loss in Http2Loss::ALL {
        // At each end.
        let wanted = 2 * u64::from(loss == Http2Loss::TooManyFrames);
        assert_eq!(hooks.lost(loss), wanted, "{}", loss.reason());
    }
    drop(client);
    reader.join().unwrap();
}
