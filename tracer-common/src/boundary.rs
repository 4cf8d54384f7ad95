//! One request and the beginning of its answer as they passed the boundary of a pod.

use core::mem::size_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The request left the pod here: it is the client's.
pub const POD_OF_CLIENT: u8 = 1;
/// The request entered the pod here: it is the server's.
pub const POD_OF_SERVER: u8 = 2;

/// A turn of payload one way, and the beginning of the turn that answered it, at the host's end of a
/// pod's veth. Sent with the first segment of the answer.
///
/// On a connection whose SYN was seen the turn is a request. On others it may as well be a response,
/// which is then answered by the next request: no exchange has the number of its first byte.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BoundaryRecord {
    /// Address of the connection's client as it is here; IPv4 as `::ffff:a.b.c.d`.
    pub client_addr: [u8; 16],
    /// Port of the connection's client as it is here.
    pub client_port: u16,
    /// `POD_OF_*`.
    pub pod: u8,
    /// Zero.
    pub _reserved: u8,
    /// TCP sequence number of the request's first byte.
    pub request_seq: u32,
    /// When the first segment of the request passed.
    pub request_ktime_ns: u64,
    /// When the second segment of the request passed; 0 when there was none or it does not matter.
    /// Behind a TLS handshake's last flight it is the second segment that begins the request.
    pub second_ktime_ns: u64,
    /// When the first segment of the response passed.
    pub response_ktime_ns: u64,
    /// TCP sequence number of the second segment, with `second_ktime_ns`.
    pub second_seq: u32,
    /// Zero.
    pub _padding: u32,
}

const _: () = assert!(size_of::<BoundaryRecord>() == 56);

/// Every way in which the programs at the boundary lose or refuse something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum BoundaryLoss {
    /// The ring was full: one record lost.
    RingFull = 0,
    /// The table of flows took no new one: one segment not looked at.
    FlowsFull = 1,
    /// A TCP segment behind IPv6 extension headers, or a fragment: one packet not looked at.
    UnsupportedHeader = 2,
}

/// Slots of the per-CPU counter array, in this order. Append only.
pub const BOUNDARY_LOSS_SLOTS: u32 = 3;

impl BoundaryLoss {
    /// Every slot in index order.
    pub const ALL: [Self; BOUNDARY_LOSS_SLOTS as usize] =
        [Self::RingFull, Self::FlowsFull, Self::UnsupportedHeader];

    /// Value of the `reason` label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingFull => "boundary_ring_full",
            Self::FlowsFull => "boundary_flows_full",
            Self::UnsupportedHeader => "boundary_unsupported_header",
        }
    }
}
