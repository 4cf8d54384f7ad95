//! From header blocks to what is kept of heads: HPACK (RFC 7541) with a table that may have holes.
//!
//! A block that is not whole, or a connection older than the agent, leaves entries of the table
//! unknown. The index of an entry counts from the newest, so those that came since are known all the
//! same; what refers to another one is left out, and never guessed.

use loona_hpack::Decoder;

use crate::http_head::{self, hash};

/// Bytes of the table at most, each way of a connection: what both ends have until they agree on
/// another size (RFC 7541, section 4.2).
const TABLE_MOST: usize = 4096;

/// What is kept of a header block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// `:status`, 0 absent or unknown.
    pub(super) status: u16,
    /// `grpc-status`, if it is there and a number that gRPC knows.
    pub(super) grpc_status: Option<u8>,
    /// Hash of `x-request-id`, 0 absent or unknown.
    pub(super) request_id: u64,
    /// Hash of the trace in `traceparent`, 0 likewise.
    pub(super) trace_id: u64,
    /// `user-agent` is a prober's.
    pub(super) probe: bool,
    /// `content-type` is gRPC's.
    pub(super) grpc: bool,
}

impl Head {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b":status" => self.status = number(value).unwrap_or(0),
            b"grpc-status" => {
                let code = number(value).and_then(|code| u8::try_from(code).ok());
                self.grpc_status = code.filter(|code| *code <= GRPC_CODES_LAST);
            }
            b"x-request-id" => self.request_id = hash(value),
            b"traceparent" => self.trace_id = http_head::trace(value),
            b"user-agent" => self.probe = http_head::is_prober(value),
            b"content-type" => self.grpc = value.starts_with(b"application/grpc"),
            _ => {}
        }
    }
}

/// The last of gRPC's status codes, `UNAUTHENTICATED`.
pub const GRPC_CODES_LAST: u8 = 16;

fn number(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The header blocks of one way of a connection.
pub(super) struct Blocks {
    decoder: Decoder<'static>,
    /// The block that is being read.
    block: Vec<u8>,
    /// Its bytes that did not come yet.
    missing: usize,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks")
            .field("missing", &self.missing)
            .finish_non_exhaustive()
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            decoder: decoder(),
            block: Vec::new(),
            missing: 0,
        }
    }
}

fn decoder() -> Decoder<'static> {
    let mut decoder = Decoder::new();
    decoder.set_max_allowed_table_size(TABLE_MOST);
    decoder
}

/// Bytes of a block that are kept at most; one that is longer is cut.
const BLOCK_MOST: usize = 65_536;

impl Blocks {
    /// Takes bytes of a block, of a frame that has `len` of them, or 0 for the rest of a frame.
    pub(super) fn push(&mut self, bytes: &[u8], len: u32) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.missing = self.missing.saturating_add(len).saturating_sub(bytes.len());
        if self.block.len() + bytes.len() <= BLOCK_MOST {
            self.block.extend_from_slice(bytes);
        } else {
            self.cut();
        }
    }

    /// No more of the block will come.
    pub(super) const fn cut(&mut self) {
        self.missing = usize::MAX >> 1;
    }

    /// Whether all of a block came, as far as its frames were told.
    pub(super) const fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Reads the block as far as it came, and is ready for the next one.
    pub(super) fn finish(&mut self) -> Head {
        let whole = self.is_whole();
        let block = std::mem::take(&mut self.block);
        self.missing = 0;
        let mut head = Head::default();
        let read = self.read(&block, &mut head);
        if !(whole && read) {
            self.forget();
        }
        // Its memory serves the next one.
        self.block = block;
        self.block.clear();
        head
    }

    /// Nothing is known of the table any more.
    pub(super) fn forget(&mut self) {
        self.decoder = decoder();
        self.block.clear();
        self.missing = 0;
    }

    /// Reads field by field; whether the block ends where a field does.
    fn read(&mut self, block: &[u8], head: &mut Head) -> bool {
        let mut rest = block;
        while !rest.is_empty() {
            let Some(field) = Field::first(rest) else {
                return false;
            };
            let (bytes, more) = rest.split_at_checked(field.len).unwrap_or((rest, &[]));
            rest = more;
            let known = self.feed(bytes, head);
            if !known && field.is_entry {
                // The entry has its place in the table whatever its name is.
                let value = bytes.get(field.name_len..).unwrap_or_default();
                let mut nameless = Vec::with_capacity(value.len() + 3);
                nameless.extend_from_slice(&[0x40, 1, b'?']);
                nameless.extend_from_slice(value);
                self.feed(&nameless, head);
            }
        }
        true
    }

    fn feed(&mut self, field: &[u8], head: &mut Head) -> bool {
        let result = self
            .decoder
            .decode_with_cb(field, |name, value| head.take(&name, &value));
        result.is_ok()
    }
}

/// How long the representation of a field is (RFC 7541, section 6).
struct Field {
    len: usize,
    /// Bytes before the value.
    name_len: usize,
    /// It becomes an entry of the table.
    is_entry: bool,
}

impl Field {
    /// The first of a block; `None` when it is not whole.
    fn first(block: &[u8]) -> Option<Self> {
        let first = *block.first()?;
        let (prefix, is_entry) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, false),
        };
        let (index, mut len) = integer(block, prefix)?;
        if first >= 0x80 || (0x20..0x40).contains(&first) {
            return Some(Self {
                len,
                name_len: len,
                is_entry,
            });
        }
        if index == 0 {
            len = string(block, len)?;
        }
        let name_len = len;
        len = string(block, len)?;
        Some(Self {
            len,
            name_len,
            is_entry,
        })
    }
}

/// Where the string that begins at `at` ends, if it is all there.
fn string(block: &[u8], at: usize) -> Option<usize> {
    let (len, used) = integer(block.get(at..)?, 7)?;
    let end = at.checked_add(used)?.checked_add(len)?;
    (end <= block.len()).then_some(end)
}

/// An integer with a prefix of so many bits, and the bytes that it takes (RFC 7541, section 5.1).
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, usize)> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*bytes.first()?) & mask;
    if value < mask {
        return Some((value, 1));
    }
    // As many as the decoder takes.
    for (n, byte) in bytes.iter().enumerate().skip(1).take(4) {
        value += usize::from(byte & 0x7f) << (7 * (n - 1));
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}
