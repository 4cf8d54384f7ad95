//! Recordings: what came out of the ring and whatever else the pure stages were told, in order, so
//! that [`replay`] finds again what the agent found.
//!
//! A file begins with [`MAGIC`], [`VERSION`] and [`LAYOUT`], little-endian u32 both. Then come frames:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, little-endian, at most [`LONGEST_BODY`] |
//! | 1 | kind of the frame |
//! | length | body |
//! | 4 | CRC-32 of kind and body, little-endian |
//!
//! Every frame is whole or the file is damaged there: nothing behind a damaged frame is read.

mod frame;
mod names;
mod reader;
pub mod replay;
mod stream;
mod writer;

pub use frame::Settings;
pub use names::{Asked, NameLog, listen};
pub use reader::{ReadError, Recording};
pub use writer::Recorder;

use std::mem::{offset_of, size_of};

use tracer_common::{ExchangeRecord, SocketInfo};

/// First bytes of a recording.
pub const MAGIC: [u8; 8] = *b"HOPTRACE";
/// Format of the frames.
pub const VERSION: u32 = 1;
/// Bytes of a frame's body at most: the longest is a record, or a name from the API.
pub const LONGEST_BODY: usize = 64 << 10;
/// Bytes of a recording at most: recording ends there, tracing goes on.
pub const LONGEST_FILE: u64 = 1 << 30;

/// Which wire records are inside: they are kept as they are, so they can only be read by an agent
/// whose own have the same shape. Made of where the fields are; their meaning is on [`VERSION`].
pub const LAYOUT: u32 = {
    let places = [
        size_of::<ExchangeRecord>(),
        size_of::<SocketInfo>(),
        offset_of!(ExchangeRecord, side),
        offset_of!(ExchangeRecord, payload),
        offset_of!(ExchangeRecord, flags),
        offset_of!(ExchangeRecord, request_first_ktime_ns),
        offset_of!(ExchangeRecord, read_ktime_ns),
        offset_of!(ExchangeRecord, response_first_ktime_ns),
        offset_of!(ExchangeRecord, request_seq),
        offset_of!(ExchangeRecord, index),
        offset_of!(ExchangeRecord, read_tid),
        offset_of!(ExchangeRecord, write_tid),
        offset_of!(ExchangeRecord, sock_cookie),
        offset_of!(ExchangeRecord, srtt_us),
        offset_of!(ExchangeRecord, request_prefix_len),
        offset_of!(ExchangeRecord, response_prefix_len),
        offset_of!(SocketInfo, cgroup_id),
        offset_of!(SocketInfo, open_ktime_ns),
        offset_of!(SocketInfo, saddr),
        offset_of!(SocketInfo, daddr),
        offset_of!(SocketInfo, sport),
        offset_of!(SocketInfo, dport),
        offset_of!(SocketInfo, tgid),
    ];
    // FNV-1a over the places.
    let mut hash = 0x811c_9dc5_u32;
    let mut rest: &[usize] = &places;
    while let [place, more @ ..] = rest {
        hash = (hash ^ *place as u32).wrapping_mul(0x0100_0193);
        rest = more;
    }
    hash
};
