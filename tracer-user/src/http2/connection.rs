//! From the frames of one connection to exchanges: one for each stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracer_common::http2::{FLAG_END_HEADERS, FLAG_END_STREAM};

use super::frame::{Frame, Kind, Way};
use super::head::{Blocks, Head};
use crate::decode::{Exchange, Http, Payload, Side, Size, Socket, Stream};
use crate::model::{GrpcStatus, Ktime};

/// One connection as one of its sockets sees it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Arc<Socket>,
    side: Side,
    request: Direction,
    response: Direction,
    /// By their numbers.
    open: BTreeMap<u32, Open>,
    /// The first and the highest stream that was asked for; 0 before.
    first: u32,
    last: u32,
}

/// One way of it.
#[derive(Debug, Default)]
struct Direction {
    /// Ordinal of the record that comes next.
    next: Option<u32>,
    blocks: Blocks,
    /// The stream whose block is being read, and whether its last frame came.
    reading: Option<(u32, bool)>,
}

impl Direction {
    /// What the block at hand told, if it is whole, or if no more of it will come.
    fn finish(&mut self, cut: bool) -> Option<(u32, Head)> {
        let (stream, last) = self.reading?;
        let whole = last && self.blocks.is_whole();
        if !(cut || whole) {
            return None;
        }
        self.reading = None;
        if !last {
            self.blocks.cut();
        }
        Some((stream, self.blocks.finish()))
    }
}

/// A stream that has not ended.
#[derive(Debug)]
struct Open {
    request_first: Ktime,
    request_seq: u32,
    /// Thread that wrote this socket's side of it, 0 unknown.
    tid: u32,
    /// First byte of the final answer's head.
    response_first: Option<Ktime>,
    /// Last byte's frame of the answer: the stream ends when its head is read.
    ended: Option<Ktime>,
    http: Http,
    grpc: bool,
    grpc_status: Option<u8>,
}

impl Open {
    fn learn(&mut self, way: Way, head: Head) {
        self.grpc |= head.grpc;
        if way == Way::Request {
            // Trailers come later and have none of these.
            self.http.request_id |= head.request_id;
            self.http.trace_id |= head.trace_id;
            self.http.probe |= head.probe;
            return;
        }
        if head.status != 0 {
            self.http.status = head.status;
        }
        self.grpc_status = head.grpc_status.or(self.grpc_status);
    }
}

/// What becomes of streams.
pub(super) trait Streams {
    /// Whether there is room for one more.
    fn open(&mut self) -> bool;
    /// One is over.
    fn ended(&mut self, exchange: Exchange);
    /// An answer to a request that nobody saw.
    fn unseen(&mut self);
    /// So many records did not come.
    fn missed(&mut self, records: u32);
}

impl Connection {
    pub(super) fn new(socket: Socket, side: Side) -> Self {
        Self {
            socket: Arc::new(socket),
            side,
            request: Direction::default(),
            response: Direction::default(),
            open: BTreeMap::new(),
            first: 0,
            last: 0,
        }
    }

    const fn direction(&mut self, way: Way) -> &mut Direction {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }

    /// Takes a record of this connection.
    pub(super) fn take(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        self.follow(frame, streams);
        if !matches!(frame.kind, Kind::Socket | Kind::Continuation | Kind::Block) {
            // No more will come of a block that is not whole.
            self.read(frame.way, true, streams);
        }
        match frame.kind {
            Kind::Socket => {}
            Kind::Headers => {
                self.headers(frame, streams);
                self.block(frame, streams);
            }
            Kind::Continuation | Kind::Block => self.block(frame, streams),
            Kind::Data => self.end_of_side(frame),
            Kind::Reset => self.end(frame.stream, frame.at, streams),
            Kind::Goaway => self.goaway(frame, streams),
            Kind::Promise | Kind::Lost => self.direction(frame.way).blocks.forget(),
            Kind::Closed => self.close(frame.at, streams),
        }
        self.end_if_over(frame, streams);
    }

    /// Counts the records that did not come: what they had of a block is missing in the table.
    fn follow(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        let direction = self.direction(frame.way);
        let next = direction.next.replace(frame.index.wrapping_add(1));
        let missed = next.map_or(0, |next| frame.index.saturating_sub(next));
        if missed > 0 {
            streams.missed(missed);
            direction.blocks.cut();
            self.read(frame.way, true, streams);
            self.direction(frame.way).blocks.forget();
        }
    }

    /// A stream begins, its answer does, or trailers.
    fn headers(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        if frame.way == Way::Response {
            let Some(open) = self.open.get_mut(&frame.stream) else {
                // Of one that was given up since, the answer may be on its way.
                if !(self.first..=self.last).contains(&frame.stream) {
                    streams.unseen();
                }
                return;
            };
            // An interim answer comes before, and trailers end the stream.
            if open.response_first.is_none() || !frame.has(FLAG_END_STREAM) {
                open.response_first = Some(frame.at);
                if frame.tid != 0 {
                    open.tid = frame.tid;
                }
            }
            self.end_of_side(frame);
            return;
        }
        // Numbers only grow (RFC 9113, section 5.1.1): an old one's are trailers.
        if frame.stream <= self.last {
            return;
        }
        self.last = frame.stream;
        if self.first == 0 {
            self.first = frame.stream;
        }
        if !streams.open() {
            return;
        }
        self.open.insert(
            frame.stream,
            Open {
                request_first: frame.at,
                request_seq: frame.seq,
                tid: frame.tid,
                response_first: None,
                ended: None,
                http: Http::default(),
                grpc: false,
                grpc_status: None,
            },
        );
    }

    /// Takes a part of a header block, and reads it when it is whole.
    fn block(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        if frame.kind == Kind::Continuation && !self.direction(frame.way).blocks.is_whole() {
            // Behind a hole nothing can be read.
            self.read(frame.way, true, streams);
        }
        let direction = self.direction(frame.way);
        let stream = match (frame.kind, direction.reading) {
            (Kind::Headers, _) => frame.stream,
            (_, Some((stream, _))) => stream,
            // Its beginning was lost.
            (_, None) => return direction.blocks.forget(),
        };
        let last = match frame.kind {
            Kind::Block => direction.reading.is_some_and(|(_, last)| last),
            _ => frame.has(FLAG_END_HEADERS),
        };
        direction.reading = Some((stream, last));
        let len = if frame.kind == Kind::Block {
            0
        } else {
            frame.value
        };
        direction.blocks.push(frame.block, len);
        self.read(frame.way, false, streams);
    }

    /// Reads the block at hand if it is whole, or as it is.
    fn read(&mut self, way: Way, cut: bool, streams: &mut impl Streams) {
        let Some((stream, head)) = self.direction(way).finish(cut) else {
            return;
        };
        let Some(open) = self.open.get_mut(&stream) else {
            return;
        };
        open.learn(way, head);
        if let Some(at) = open.ended {
            self.end(stream, at, streams);
        }
    }

    /// Notes the end of an answer.
    fn end_of_side(&mut self, frame: &Frame<'_>) {
        if frame.way == Way::Response
            && frame.has(FLAG_END_STREAM)
            && let Some(open) = self.open.get_mut(&frame.stream)
        {
            open.ended = Some(frame.at);
        }
    }

    /// Ends the frame's stream, unless its last head is still being read.
    fn end_if_over(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        let over = self.open.get(&frame.stream).and_then(|open| open.ended);
        if let Some(at) = over
            && self
                .response
                .reading
                .is_none_or(|(stream, _)| stream != frame.stream)
        {
            self.end(frame.stream, at, streams);
        }
    }

    /// The server takes no streams beyond the one that it tells.
    fn goaway(&mut self, frame: &Frame<'_>, streams: &mut impl Streams) {
        if frame.way == Way::Response {
            let refused = frame.last_stream.saturating_add(1);
            for stream in self
                .open
                .range(refused..)
                .map(|(n, _)| *n)
                .collect::<Vec<_>>()
            {
                self.end(stream, frame.at, streams);
            }
        }
    }

    /// Ends every stream.
    pub(super) fn close(&mut self, at: Ktime, streams: &mut impl Streams) {
        for stream in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(stream, at, streams);
        }
    }

    fn end(&mut self, stream: u32, at: Ktime, streams: &mut impl Streams) {
        let Some(open) = self.open.remove(&stream) else {
            return;
        };
        let grpc = open.grpc.then_some(match open.grpc_status {
            Some(code) => GrpcStatus::Code(code),
            None => GrpcStatus::Unknown,
        });
        streams.ended(Exchange {
            socket: Arc::clone(&self.socket),
            side: self.side,
            payload: Payload::Http,
            opened: None,
            request_first: open.request_first,
            response_first: open.response_first.unwrap_or(0),
            read: None,
            request_seq: open.request_seq,
            read_tid: 0,
            write_tid: open.tid,
            srtt_us: 0,
            index: stream,
            after_handshake: false,
            no_response: open.response_first.is_none(),
            upgraded: false,
            http: open.http,
            size: Size::default(),
            stream: Some(Stream { ended: at, grpc }),
        });
    }
}
