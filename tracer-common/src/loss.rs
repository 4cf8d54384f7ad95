//! Every way in which the kernel side loses or refuses something.

/// Slots of the per-CPU counter array, in this order. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Loss {
    /// The ring was full: one exchange record lost.
    RingFull = 0,
    /// No memory for a socket's state: its payload segments are not traced.
    SocketStateFull = 1,
    /// An IP or TCP header that could not be read: one segment not traced.
    MalformedHeader = 2,
    /// An IPv6 packet with extension headers, or an IPv4 one with many options: one packet not traced.
    UnsupportedHeader = 3,
    /// Payload bytes of a plaintext leg could not be copied: the record has no header prefix.
    PrefixUnreadable = 4,
    /// A response to a request that nobody saw: it was under way when the tracer came, it came with
    /// the last packet of the TCP handshake (and so to the listener), or the server speaks first.
    RequestUnseen = 5,
}

/// Number of slots.
pub const LOSS_SLOTS: u32 = 6;

impl Loss {
    /// Every slot in index order.
    pub const ALL: [Self; LOSS_SLOTS as usize] = [
        Self::RingFull,
        Self::SocketStateFull,
        Self::MalformedHeader,
        Self::UnsupportedHeader,
        Self::PrefixUnreadable,
        Self::RequestUnseen,
    ];

    /// Value of the `reason` label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::SocketStateFull => "socket_state_full",
            Self::MalformedHeader => "malformed_header",
            Self::UnsupportedHeader => "unsupported_header",
            Self::PrefixUnreadable => "prefix_unreadable",
            Self::RequestUnseen => "request_unseen",
        }
    }
}
