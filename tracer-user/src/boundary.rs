//! The pod boundary: when requests and responses passed the pods' veths, and what that makes of the
//! time between two sockets.
//!
//! What passed a veth is known by the client's address and the number of the request's first byte,
//! as the two ends of a connection are. A split is told only if each of its times lies between the
//! sockets' own in order; whatever else is noted of other turns never makes a figure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hashbrown::HashMap;
use tracer_common::BoundaryRecord;
use tracer_common::boundary::{POD_OF_CLIENT, POD_OF_SERVER};
use zerocopy::FromBytes;

use crate::decode::Exchange;
use crate::model::Ktime;

/// How long a passage is remembered at least, in hold times: the exchanges that it belongs to are told
/// two after they ended, and the ring was emptied before.
const HOLDS: u64 = 4;

/// Why bytes are no passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassageError {
    /// Another length.
    #[error("boundary record has {0} bytes")]
    Length(usize),
    /// An unknown `pod`.
    #[error("boundary record is of unknown pod {0}")]
    Pod(u8),
    /// As many are remembered as may be.
    #[error("no room for a passage")]
    Full,
}

/// What became of the time between two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is split.
    Split,
    /// The passage at one of the veths is not known.
    Absent,
    /// A passage is not between the sockets' stamps: it is another's.
    Order,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Split, Self::Absent, Self::Order];

    /// Value of the `result` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Absent => "absent",
            Self::Order => "order",
        }
    }
}

/// The time between two sockets in parts, nanoseconds. Their sum is that time exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// From the client's socket to the veth of its pod, and from there back.
    pub source_pod: [u64; 2],
    /// From the veth of the server's pod to its socket, and from there back.
    pub destination_pod: [u64; 2],
    /// Between the two veths, both ways.
    pub wire: u64,
}

impl Split {
    /// Of two connections on the way of one request.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |[a, b]: [u64; 2], [c, d]: [u64; 2]| [a + c, b + d];
        Self {
            source_pod: both(self.source_pod, other.source_pod),
            destination_pod: both(self.destination_pod, other.destination_pod),
            wire: self.wire + other.wire,
        }
    }
}

/// Client's address, number of the request's first byte, and whose pod it passed.
type Key = (SocketAddr, u32, u8);

/// When a request and its response passed a veth.
#[derive(Clone, Copy, Debug)]
struct Passage {
    request: Ktime,
    response: Ktime,
}

/// What passed the veths of late, in two generations.
#[derive(Debug)]
pub struct Boundary {
    young: HashMap<Key, Passage>,
    old: HashMap<Key, Passage>,
    /// When `young` was begun.
    since: Ktime,
    hold_ns: u64,
    most: usize,
}

impl Boundary {
    /// Nothing passed yet; of each generation `most` are remembered.
    #[must_use]
    pub fn new(hold_ns: u64, most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            since: 0,
            hold_ns,
            most,
        }
    }

    /// Takes one raw record.
    ///
    /// # Errors
    /// [`PassageError`]; the caller counts it, nothing else happens.
    pub fn note(&mut self, bytes: &[u8]) -> Result<(), PassageError> {
        let record = BoundaryRecord::read_from_bytes(bytes)
            .map_err(|_| PassageError::Length(bytes.len()))?;
        if !matches!(record.pod, POD_OF_CLIENT | POD_OF_SERVER) {
            return Err(PassageError::Pod(record.pod));
        }
        if self.young.len() >= self.most {
            return Err(PassageError::Full);
        }
        let ip = match Ipv6Addr::from(record.client_addr).to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(record.client_addr)),
        };
        let client = SocketAddr::new(ip, record.client_port);
        let response = record.response_ktime_ns;
        let mut passed = |seq, request| {
            let key = (client, seq, record.pod);
            self.young.insert(key, Passage { request, response });
        };
        passed(record.request_seq, record.request_ktime_ns);
        if record.second_ktime_ns != 0 {
            passed(record.second_seq, record.second_ktime_ns);
        }
        Ok(())
    }

    /// Forgets what passed long before `now`.
    pub fn expire(&mut self, now: Ktime) {
        if now.saturating_sub(self.since) >= self.hold_ns.saturating_mul(HOLDS) {
            self.since = now;
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Splits the time that one exchange took between its client's and its server's socket.
    ///
    /// # Errors
    /// The verdict, when it is not split.
    pub fn split(&self, client: &Exchange, server: &Exchange) -> Result<Split, Verdict> {
        let at = |end: &Exchange, pod| {
            let key = (end.client(), end.request_seq, pod);
            let passage = self.young.get(&key).or_else(|| self.old.get(&key));
            passage.copied().ok_or(Verdict::Absent)
        };
        let (source, destination) = (at(client, POD_OF_CLIENT)?, at(server, POD_OF_SERVER)?);
        let between = |from: Ktime, to: Ktime| to.checked_sub(from).ok_or(Verdict::Order);
        let there = between(source.request, destination.request)?;
        let back = between(destination.response, source.response)?;
        Ok(Split {
            source_pod: [
                between(client.request_first, source.request)?,
                between(source.response, client.response_first)?,
            ],
            destination_pod: [
                between(destination.request, server.request_first)?,
                between(server.response_first, destination.response)?,
            ],
            wire: there + back,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;
    use crate::decode::Side;
    use crate::testing;
    use zerocopy::IntoBytes;

    fn record(pod: u8, request: Ktime, response: Ktime) -> BoundaryRecord {
        BoundaryRecord {
            client_addr: "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets(),
            client_port: 4000,
            pod,
            _reserved: 0,
            request_seq: 7,
            request_ktime_ns: request,
            second_ktime_ns: 0,
            response_ktime_ns: response,
            second_seq: 0,
            _padding: 0,
        }
    }

    /// The split of 100 → 120, 180 → 200 at the sockets, by these records.
    fn split(records: &[BoundaryRecord], seq: u32) -> Result<Split, Verdict> {
        let mut boundary = Boundary::new(1, 10);
        for record in records {
            boundary.note(record.as_bytes()).unwrap();
        }
        let end = |side, ends, times| Exchange {
            request_seq: seq,
            ..testing::exchange(side, ends, times)
        };
        boundary.split(
            // The client asked for a virtual address, and the server was not asked for it.
            &end(Side::Client, ["10.0.0.1:4000", "10.96.0.1:80"], (100, 200)),
            &end(Side::Server, ["10.0.0.2:80", "10.0.0.1:4000"], (120, 180)),
        )
    }

    #[test]
    fn the_parts_add_up_and_lie_in_order() {
        let (source, destination) = (record(1, 103, 195), record(2, 110, 184));
        let parts = split(&[source, destination], 7).unwrap();
        let expected = Split {
            source_pod: [3, 5],
            destination_pod: [10, 4],
            wire: 7 + 11,
        };
        assert_eq!(parts, expected);
        for (name, records, seq, verdict) in [
            ("one pod only", vec![source], 7, Verdict::Absent),
            (
                "another turn",
                vec![source, destination],
                8,
                Verdict::Absent,
            ),
            (
                "the response of another exchange",
                vec![source, record(2, 110, 170)],
                7,
                Verdict::Order,
            ),
            (
                "a request that passed before it was sent",
                vec![record(1, 99, 195), destination],
                7,
                Verdict::Order,
            ),
        ] {
            assert_eq!(split(&records, seq), Err(verdict), "{name}");
        }
    }

    #[test]
    fn behind_a_handshake_the_second_segment_is_the_request() {
        let second = |record: BoundaryRecord| BoundaryRecord {
            request_seq: 1,
            request_ktime_ns: 1,
            second_ktime_ns: record.request_ktime_ns,
            second_seq: 7,
            ..record
        };
        let records = [second(record(1, 103, 195)), second(record(2, 110, 184))];
        assert_eq!(split(&records, 7).unwrap().wire, 18);
    }

    #[test]
    fn what_is_no_record_and_what_finds_no_room_is_told() {
        let mut boundary = Boundary::new(1, 1);
        let good = record(1, 1, 2);
        for end in 0..good.as_bytes().len() {
            let cut = good.as_bytes().get(..end).unwrap();
            assert_eq!(boundary.note(cut), Err(PassageError::Length(end)));
        }
        let strange = record(9, 1, 2);
        assert_eq!(boundary.note(strange.as_bytes()), Err(PassageError::Pod(9)));
        boundary.note(good.as_bytes()).unwrap();
        assert_eq!(boundary.note(good.as_bytes()), Err(PassageError::Full));
        // A generation later there is room, and what was is still known.
        boundary.expire(100);
        boundary.note(record(2, 1, 2).as_bytes()).unwrap();
        assert_eq!(boundary.old.len() + boundary.young.len(), 2);
    }
}
