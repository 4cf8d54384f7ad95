//! The state of an HTTP/2 connection at one socket: recognised by the client's preface, or by a
//! frame where the connection is older than the program.

use core::{mem, ptr};

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_cgroup_id,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkBuffContext;
use tracer_common::http2::{
    BLOCK_LEN, INTRODUCE_EVERY, KIND_CLOSED, KIND_SOCKET, SOCKET_OLDER, WAY_IN, WAY_OUT,
};
use tracer_common::record::{SIDE_CLIENT, SIDE_SERVER};
use tracer_common::{Http2Loss, Http2Record, SocketInfo};

use crate::frame::{HEADER_LEN, Header};
use crate::segment::Segment;
use crate::{emit, endpoint, legs, stamp};

/// The program sees what leaves sockets.
pub(crate) const OUT: bool = true;
/// The program sees what arrives at them.
pub(crate) const IN: bool = false;

/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One way of a connection: the record under construction, as it leaves, and the position.
///
/// Only programs of one kind touch it, and those of one socket one after the other.
#[repr(C)]
pub(crate) struct Way {
    /// Sent as it is, with the valid bytes of the block.
    pub record: Http2Record,
    pub block: [u8; BLOCK_LEN],
    /// When the segment with the first byte of the header at hand passed.
    pub header_ktime_ns: u64,
    /// Its first eight bytes as far as they came, and its last.
    pub header: u64,
    /// Sequence number after the last payload byte seen.
    pub next_seq: u32,
    /// Sequence number of the header of the frame at hand.
    pub frame_seq: u32,
    /// Bytes of its block that come in later segments.
    pub block_left: u32,
    pub header_last: u8,
    /// Bytes of the header that came.
    pub header_len: u8,
    /// 1: `frame_seq` is right.
    pub known: u8,
    /// 1: `next_seq` is.
    pub seen: u8,
}

/// State of one HTTP/2 connection at one of its sockets.
#[repr(C)]
pub(crate) struct Connection {
    pub sent: Way,
    pub received: Way,
    pub info: SocketInfo,
    pub sock_cookie: u64,
    /// `SIDE_*`.
    pub side: u8,
    /// 1: header blocks may be kept.
    pub keeps: u8,
    /// 1: recognised by a frame.
    pub older: u8,
    pub _reserved: [u8; 5],
}

/// Key: the socket. Size: 2.3 KB for each HTTP/2 connection in plaintext, gone with the socket; when
/// the kernel has no memory that is counted as `http2_socket_state_full` and tried again.
#[btf_map]
static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

#[inline(always)]
fn map() -> *mut c_void {
    ptr::from_ref(&CONNECTIONS).cast_mut().cast()
}

/// The state of a connection already recognised.
#[inline(always)]
pub(crate) fn find<'a>(sk: *mut c_void) -> Option<&'a mut Connection> {
    // SAFETY: `sk` is the socket pointer of the hook's context. The value lives as long as the
    // socket, which outlives the hook.
    unsafe {
        bpf_sk_storage_get(map(), sk, ptr::null_mut(), 0)
            .cast::<Connection>()
            .as_mut()
    }
}

/// What a segment of an unknown socket begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginning {
    Preface,
    Frame,
}

/// Looks whether a segment shows that its connection is HTTP/2, and makes the state then.
#[inline(always)]
pub(crate) fn recognise<'a, const WAY: bool>(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    segment: &Segment,
) -> Result<Option<&'a mut Connection>, Http2Loss> {
    let Some(beginning) = beginning(ctx, segment) else {
        return Ok(None);
    };
    // SAFETY: helper on the context's own, non-null socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return Ok(None);
    }
    // SAFETY: as in `find`; a null initial value means zeroed.
    let connection = unsafe {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        bpf_sk_storage_get(map(), full.cast(), ptr::null_mut(), flags)
            .cast::<Connection>()
            .as_mut()
    };
    let connection = connection.ok_or(Http2Loss::SocketStateFull)?;
    let skb = ctx.skb.skb;
    // SAFETY: helpers on the program's own context.
    unsafe {
        connection.sock_cookie = bpf_get_socket_cookie(skb.cast());
        connection.info.cgroup_id = bpf_skb_cgroup_id(skb);
    }
    // SAFETY: `full` is a full socket, so every field of `bpf_sock` may be read.
    unsafe { endpoint::addresses(&mut connection.info, full) };
    let server = endpoint::has_listener(ctx, &connection.info);
    connection.side = if server { SIDE_SERVER } else { SIDE_CLIENT };
    connection.keeps = u8::from(server && legs::keeps_headers(&connection.info));
    connection.older = u8::from(beginning == Beginning::Frame);
    let way = connection.way::<WAY>();
    way.known = 1;
    way.frame_seq = match beginning {
        Beginning::Preface => segment.seq.wrapping_add(PREFACE.len() as u32),
        Beginning::Frame => segment.seq,
    };
    // Before any turn of it is told.
    connection.introduce::<WAY>();
    Ok(Some(connection))
}

/// A preface is one by its 24 bytes. A frame is taken for one where it is a HEADERS frame of the usual
/// size with its whole block, on a stream of the client's, and ends with the segment or before another
/// plausible frame: of random bytes one in 10^12 is.
#[inline(always)]
fn beginning(ctx: &SkBuffContext, segment: &Segment) -> Option<Beginning> {
    if segment.len < HEADER_LEN {
        return None;
    }
    let at = segment.offset as usize;
    let bytes = ctx.skb.load::<[u8; HEADER_LEN as usize]>(at).ok()?;
    if bytes[0] == PREFACE[0] && bytes[1] == PREFACE[1] && bytes[2] == PREFACE[2] {
        return is_preface(ctx, segment).then_some(Beginning::Preface);
    }
    let header = Header::of_bytes(&bytes);
    (header.is_opening() && fits(ctx, segment, header)).then_some(Beginning::Frame)
}

#[inline(always)]
fn is_preface(ctx: &SkBuffContext, segment: &Segment) -> bool {
    if segment.len < PREFACE.len() as u32 {
        return false;
    }
    let words = ctx.skb.load::<[u64; 3]>(segment.offset as usize);
    // SAFETY: same size, any bits are valid.
    words.is_ok_and(|words| words == unsafe { mem::transmute::<[u8; 24], [u64; 3]>(PREFACE) })
}

/// Whether a frame at the segment's beginning ends with it, or before another plausible one.
#[inline(always)]
fn fits(ctx: &SkBuffContext, segment: &Segment, header: Header) -> bool {
    let end = HEADER_LEN + header.len;
    if end == segment.len {
        return true;
    }
    if end + HEADER_LEN > segment.len {
        return false;
    }
    let next = ctx
        .skb
        .load::<[u8; HEADER_LEN as usize]>((segment.offset + end) as usize);
    next.is_ok_and(|bytes| Header::of_bytes(&bytes).is_plausible())
}

/// Whether a segment of an HTTP/2 connection begins with a frame, as far as its bytes show.
#[inline(always)]
pub(crate) fn begins_with_frame(ctx: &SkBuffContext, segment: &Segment) -> bool {
    if segment.len < HEADER_LEN {
        return false;
    }
    let Ok(bytes) = ctx
        .skb
        .load::<[u8; HEADER_LEN as usize]>(segment.offset as usize)
    else {
        return false;
    };
    let header = Header::of_bytes(&bytes);
    // One that goes on in the next segment shows nothing more.
    header.is_plausible() && (HEADER_LEN + header.len > segment.len || fits(ctx, segment, header))
}

impl Connection {
    /// The way that a program sees.
    #[inline(always)]
    pub(crate) fn way<const WAY: bool>(&mut self) -> &mut Way {
        if WAY {
            &mut self.sent
        } else {
            &mut self.received
        }
    }

    /// Fills in what is the same in every record of a way, and introduces the socket now and then.
    #[inline(always)]
    pub(crate) fn begin_record<const WAY: bool>(&mut self, kind: u8) -> &mut Way {
        let (cookie, side) = (self.sock_cookie, self.side);
        self.introduce::<WAY>();
        let way = self.way::<WAY>();
        way.fill::<WAY>(kind, cookie, side);
        way
    }

    /// Introduces the socket, where it is time to.
    #[inline(always)]
    pub(crate) fn introduce<const WAY: bool>(&mut self) {
        let (cookie, side) = (self.sock_cookie, self.side);
        let index = self.way::<WAY>().record.index;
        if index.is_multiple_of(INTRODUCE_EVERY) {
            let info = self.info;
            let older = u32::from(self.older) * SOCKET_OLDER;
            let way = self.way::<WAY>();
            way.fill::<WAY>(KIND_SOCKET, cookie, side);
            way.record.value = older;
            way.record.block_len = size_of::<SocketInfo>() as u16;
            // SAFETY: the block has room for it, at any alignment.
            unsafe {
                way.block
                    .as_mut_ptr()
                    .cast::<SocketInfo>()
                    .write_unaligned(info)
            };
            emit::with_info(way);
        }
    }
}

impl Way {
    #[inline(always)]
    fn fill<const WAY: bool>(&mut self, kind: u8, cookie: u64, side: u8) {
        self.record.sock_cookie = cookie;
        self.record.side = side;
        self.record.way = if WAY { WAY_OUT } else { WAY_IN };
        self.record.kind = kind;
        self.record.flags = 0;
        self.record.block_len = 0;
        self.record.value = 0;
        self.record.last_stream = 0;
        self.record.stream_id = 0;
        self.record.seq = self.frame_seq;
        self.record.ktime_ns = self.header_ktime_ns;
    }
}

/// A socket closed: what is open on it gets no answer.
#[inline(always)]
pub(crate) fn on_close(sk: *mut c_void) -> Result<(), Http2Loss> {
    let Some(connection) = find(sk) else {
        return Ok(());
    };
    let way = connection.begin_record::<OUT>(KIND_CLOSED);
    way.record.ktime_ns = stamp::now();
    emit::short(way);
    Ok(())
}
