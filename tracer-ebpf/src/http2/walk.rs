//! From frame to frame through the segments of a way.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkBuffContext;
use tracer_common::Http2Loss;
use tracer_common::http2::{
    BLOCK_LEN, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY, FRAME_CONTINUATION, FRAME_DATA,
    FRAME_GOAWAY, FRAME_HEADERS, FRAME_PUSH_PROMISE, FRAME_RST_STREAM, KIND_BLOCK, KIND_LOST,
};

use crate::connection::{self, Connection, OUT, Way};
use crate::frame::{HEADER_LEN, Header};
use crate::segment::{Kind, Segment, bounded, parse};
use crate::{emit, loss, stamp};

/// Frames that one run of a program looks at: what the verifier follows. The next run goes on from
/// there, 33 times at most (`MAX_TAIL_CALL_CNT`); with more frames in a segment the position is lost.
const FRAMES_MOST: u32 = 128;

/// The program that goes on with a segment on its way out. An array of its own for each way, because
/// all of one have to be attached to the same hook. Size: that one program. Empty or called too often:
/// counted as `http2_too_many_frames`.
#[btf_map]
static MORE_OUT: ProgramArray<1> = ProgramArray::new();
/// The same on its way in.
#[btf_map]
static MORE_IN: ProgramArray<1> = ProgramArray::new();

/// A packet passes.
#[inline(always)]
pub(crate) fn on_packet<const WAY: bool>(
    ctx: &SkBuffContext,
    writer: impl Fn() -> u32,
) -> Result<(), Http2Loss> {
    let Some((segment, sk)) = payload(ctx) else {
        return Ok(());
    };
    let connection = match connection::find(sk.cast()) {
        Some(connection) => connection,
        None => match connection::recognise::<WAY>(ctx, sk, &segment)? {
            Some(connection) => connection,
            None => return Ok(()),
        },
    };
    let Some(from) = advance(connection.way::<WAY>(), &segment) else {
        return Ok(());
    };
    let now = if WAY == OUT {
        stamp::departure(ctx)
    } else {
        stamp::now()
    };
    connection.way::<WAY>().record.tid = writer();
    if let Position::Lost = locate::<WAY>(ctx, connection, &segment, now, from) {
        return Ok(());
    }
    if connection.way::<WAY>().block_left > 0 {
        more_of_block::<WAY>(ctx, connection, &segment, from);
    }
    if connection.way::<WAY>().header_len > 0
        && !collect(ctx, connection.way::<WAY>(), &segment, from)
    {
        return Ok(());
    }
    frames::<WAY>(ctx, connection, &segment, now)
}

/// Goes on with a packet that had more frames than one run looks at.
#[inline(always)]
pub(crate) fn on_rest<const WAY: bool>(ctx: &SkBuffContext) -> Result<(), Http2Loss> {
    let Some((segment, sk)) = payload(ctx) else {
        return Ok(());
    };
    let Some(connection) = connection::find(sk.cast()) else {
        return Ok(());
    };
    // The last frame of the run before began in this segment.
    let now = connection.way::<WAY>().header_ktime_ns;
    frames::<WAY>(ctx, connection, &segment, now)
}

/// The payload of a packet and its socket. What has no readable header was counted by the main object's
/// programs.
#[inline(always)]
fn payload(ctx: &SkBuffContext) -> Option<(Segment, *mut bpf_sock)> {
    let Ok(Kind::Payload(segment)) = parse(ctx) else {
        return None;
    };
    // SAFETY: the socket field of the program's own context.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    (!sk.is_null()).then_some((segment, sk))
}

/// Bytes at the beginning of the segment that were seen before; `None` when all of it was.
#[inline(always)]
fn advance(way: &mut Way, segment: &Segment) -> Option<u32> {
    let end = segment.seq.wrapping_add(segment.len);
    let next = way.next_seq;
    if way.seen == 0 {
        way.next_seq = end;
        way.seen = 1;
        return Some(0);
    }
    if (end.wrapping_sub(next) as i32) <= 0 {
        return None;
    }
    way.next_seq = end;
    let overlap = next.wrapping_sub(segment.seq) as i32;
    if overlap >= 0 {
        return Some(overlap as u32);
    }
    // Bytes between are missing: what was half there stays so.
    way.block_left = 0;
    if way.header_len > 0 || (way.frame_seq.wrapping_sub(segment.seq) as i32) < 0 {
        way.lose();
    }
    Some(0)
}

enum Position {
    Known,
    Lost,
}

/// Makes sure that the position of the next header is known.
#[inline(always)]
fn locate<const WAY: bool>(
    ctx: &SkBuffContext,
    connection: &mut Connection,
    segment: &Segment,
    now: u64,
    from: u32,
) -> Position {
    if connection.way::<WAY>().known != 0 {
        return Position::Known;
    }
    if from == 0 && connection::begins_with_frame(ctx, segment) {
        let way = connection.way::<WAY>();
        way.known = 1;
        way.frame_seq = segment.seq;
        way.header_len = 0;
        way.block_left = 0;
        way.header_ktime_ns = now;
        if way.record.index > 0 {
            // Also the agent has to know that something is missing here.
            let way = connection.begin_record::<WAY>(KIND_LOST);
            emit::short(way);
        }
        return Position::Known;
    }
    Position::Lost
}

impl Way {
    /// The position is not known any more.
    #[inline(always)]
    fn lose(&mut self) {
        if self.known != 0 {
            self.known = 0;
            loss::count(Http2Loss::PositionLost);
        }
        self.header_len = 0;
        self.block_left = 0;
    }

    /// Offset of the next header in a segment.
    #[inline(always)]
    fn at(&self, segment: &Segment) -> u32 {
        self.frame_seq.wrapping_sub(segment.seq)
    }
}

/// Goes through the frames that begin in the segment, from the one whose header is at hand or next.
#[inline(always)]
fn frames<const WAY: bool>(
    ctx: &SkBuffContext,
    connection: &mut Connection,
    segment: &Segment,
    now: u64,
) -> Result<(), Http2Loss> {
    for _ in 0..FRAMES_MOST {
        let way = connection.way::<WAY>();
        if u32::from(way.header_len) != HEADER_LEN {
            let at = way.at(segment);
            if at >= segment.len {
                return Ok(());
            }
            way.header_ktime_ns = now;
            if segment.len - at < HEADER_LEN {
                collect(ctx, way, segment, at);
                return Ok(());
            }
            if !load(ctx, way, segment.offset + at) {
                way.lose();
                return Ok(());
            }
        }
        let header = Header::of(way.header, way.header_last);
        way.header_len = 0;
        if !header.is_possible() {
            way.known = 0;
            return Err(Http2Loss::MalformedFrame);
        }
        on_frame::<WAY>(ctx, connection, segment, header);
    }
    if connection.way::<WAY>().at(segment) >= segment.len {
        return Ok(());
    }
    let more = if WAY == OUT { &MORE_OUT } else { &MORE_IN };
    // SAFETY: nothing here has to be dropped.
    unsafe { more.tail_call(ctx, 0) };
    // It was not called.
    let way = connection.way::<WAY>();
    way.known = 0;
    way.block_left = 0;
    Err(Http2Loss::TooManyFrames)
}

/// Loads a whole header.
#[inline(always)]
fn load(ctx: &SkBuffContext, way: &mut Way, offset: u32) -> bool {
    let Ok([a, b, c, d, e, f, g, h, last]) =
        ctx.skb.load::<[u8; HEADER_LEN as usize]>(offset as usize)
    else {
        return false;
    };
    way.header = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    way.header_last = last;
    true
}

/// Takes bytes of a header that is in two segments, from offset `at`; whether it is whole then.
#[inline(always)]
fn collect(ctx: &SkBuffContext, way: &mut Way, segment: &Segment, at: u32) -> bool {
    for n in 0..HEADER_LEN {
        if u32::from(way.header_len) >= HEADER_LEN {
            break;
        }
        let offset = at + n;
        if offset >= segment.len {
            return false;
        }
        let Ok(byte) = ctx.skb.load::<u8>((segment.offset + offset) as usize) else {
            way.lose();
            return false;
        };
        if u32::from(way.header_len) < HEADER_LEN - 1 {
            way.header = (way.header << 8) | u64::from(byte);
        } else {
            way.header_last = byte;
        }
        way.header_len += 1;
    }
    u32::from(way.header_len) == HEADER_LEN
}

/// Tells of a frame if it matters, and goes on to the next.
#[inline(always)]
fn on_frame<const WAY: bool>(
    ctx: &SkBuffContext,
    connection: &mut Connection,
    segment: &Segment,
    header: Header,
) {
    let tells = match header.kind {
        FRAME_HEADERS | FRAME_CONTINUATION | FRAME_RST_STREAM | FRAME_GOAWAY
        | FRAME_PUSH_PROMISE => true,
        FRAME_DATA => header.flags & FLAG_END_STREAM != 0,
        _ => false,
    };
    if tells {
        let keeps = connection.keeps != 0;
        let way = connection.begin_record::<WAY>(header.kind);
        way.record.flags = header.flags;
        way.record.stream_id = header.stream_id;
        let body = way.at(segment).wrapping_add(HEADER_LEN);
        match header.kind {
            FRAME_HEADERS | FRAME_CONTINUATION if keeps => {
                block(ctx, way, segment, header, body);
            }
            FRAME_RST_STREAM => {
                way.record.value = word(ctx, segment, body);
                emit::short(way);
            }
            FRAME_GOAWAY => {
                way.record.last_stream = word(ctx, segment, body) & 0x7fff_ffff;
                way.record.value = word(ctx, segment, body + 4);
                emit::short(way);
            }
            _ => emit::short(way),
        }
    }
    let way = connection.way::<WAY>();
    way.frame_seq = way.frame_seq.wrapping_add(HEADER_LEN + header.len);
}

/// A word of a frame's body; all ones where it is not in the segment.
#[inline(always)]
fn word(ctx: &SkBuffContext, segment: &Segment, at: u32) -> u32 {
    let word = ctx.skb.load::<[u8; 4]>((segment.offset + at) as usize);
    word.map_or(u32::MAX, u32::from_be_bytes)
}

/// Sends what the segment has of a frame's header block.
#[inline(always)]
fn block(ctx: &SkBuffContext, way: &mut Way, segment: &Segment, header: Header, body: u32) {
    let mut at = body;
    let mut len = header.len;
    if header.kind == FRAME_HEADERS {
        if header.flags & FLAG_PADDED != 0 {
            let padding = ctx.skb.load::<u8>((segment.offset + at) as usize);
            let padding = padding.map_or(u32::MAX >> 1, u32::from);
            at += 1;
            len = len.saturating_sub(1).saturating_sub(padding);
        }
        if header.flags & FLAG_PRIORITY != 0 {
            at += 5;
            len = len.saturating_sub(5);
        }
    }
    way.record.value = len;
    if len == 0 || at >= segment.len {
        way.block_left = if at == segment.len { len } else { 0 };
        emit::short(way);
        return;
    }
    let here = (segment.len - at).min(len);
    way.block_left = len - here;
    copy(ctx, way, segment.offset + at, here);
}

/// The next segment of a block that did not end with the last.
#[inline(always)]
fn more_of_block<const WAY: bool>(
    ctx: &SkBuffContext,
    connection: &mut Connection,
    segment: &Segment,
    from: u32,
) {
    let way = connection.begin_record::<WAY>(KIND_BLOCK);
    let left = way.block_left;
    if from >= segment.len {
        return;
    }
    let here = (segment.len - from).min(left);
    way.block_left = left - here;
    copy(ctx, way, segment.offset + from, here);
}

/// Copies `here` bytes of a block, at least one, and sends the record.
#[inline(always)]
fn copy(ctx: &SkBuffContext, way: &mut Way, offset: u32, here: u32) {
    if here > BLOCK_LEN as u32 {
        // Behind a hole nothing can be read.
        way.block_left = 0;
        loss::count(Http2Loss::BlockCut);
    }
    let len = bounded(here, BLOCK_LEN as u32);
    // SAFETY: `len` is between 1 and the size of the destination.
    let result = unsafe {
        let to = way.block.as_mut_ptr().cast();
        bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, to, len)
    };
    if result == 0 {
        way.record.block_len = len as u16;
        emit::with_block(way, len);
    } else {
        way.block_left = 0;
        loss::count(Http2Loss::BlockCut);
        emit::short(way);
    }
}
