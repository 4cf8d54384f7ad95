//! The text of a request, rendered once, and what changes in it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use super::target::Target;

const ID_HEADER: &[u8] = b"x-request-id: ";

/// Length of a UUID in text.
const ID: usize = 36;

/// A trace that is none (W3C Trace Context, section 3.2.2.3): each request gets one of its own in its place.
const NO_TRACE: &[u8] = b"traceparent: 00-00000000000000000000000000000000-";

/// Where the trace is in that.
const TRACE: Range<usize> = 16..48;

/// A request as it goes over the wire, with a hole for its identifier.
#[derive(Clone, Debug)]
pub(super) struct RequestText {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    trace_at: Option<usize>,
    /// Where each request has something else, in order.
    holes: Vec<Hole>,
}

/// A place of the path where each request has something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    /// Where its sign, `{1..50}` or `{x1..50}`, stands in the text.
    begins: usize,
    ends: usize,
    least: u32,
    most: u32,
    /// So many `x` instead of the number.
    padding: bool,
}

/// The longest padding, bytes.
const LONGEST_PADDING: u32 = 4_096;

impl Hole {
    /// The holes of a text.
    fn all(text: &str) -> Vec<Self> {
        let mut holes = Vec::new();
        let mut from = 0;
        while let Some(begins) = text.get(from..).and_then(|rest| rest.find('{')) {
            let begins = from + begins;
            let rest = text.get(begins + 1..).unwrap_or_default();
            let Some(length) = rest.find('}') else { break };
            from = begins + length + 2;
            let sign = rest.get(..length).unwrap_or_default();
            let range = sign.strip_prefix('x').unwrap_or(sign);
            let Some((least, most)) = range.split_once("..") else {
                continue;
            };
            let (Ok(least), Ok(most)) = (least.parse::<u32>(), most.parse::<u32>()) else {
                continue;
            };
            if least <= most && most <= LONGEST_PADDING {
                holes.push(Self {
                    begins,
                    ends: from,
                    least,
                    most,
                    padding: sign.starts_with('x'),
                });
            }
        }
        holes
    }

    /// Appends what one request has here.
    fn fill(self, text: &mut Vec<u8>, ids: &mut Ids) {
        let span = u64::from(self.most - self.least) + 1;
        let number = u64::from(self.least) + ids.word() % span;
        if self.padding {
            text.extend((0..number).map(|_| b'x'));
        } else {
            text.extend_from_slice(number.to_string().as_bytes());
        }
    }
}

impl RequestText {
    /// Renders a request whose method and headers were checked before.
    pub(super) fn render(
        target: &Target,
        method: &str,
        headers: &[(String, String)],
        body: &str,
        with_id: bool,
    ) -> Self {
        let mut bytes = format!("{method} {} HTTP/1.1\r\n", target.path).into_bytes();
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                bytes.extend_from_slice(part.as_bytes());
            }
        };
        // A caller that gives a host of its own speaks to a virtual host behind the address.
        if !headers.iter().any(|(name, _)| is(name, "host")) {
            line("host", &target.authority);
        }
        for (name, value) in headers {
            line(name, value);
        }
        // RFC 9110, 8.6: a method that expects content says so even when there is none.
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            line("content-length", &body.len().to_string());
        }
        let id_at = with_id.then(|| {
            bytes.extend_from_slice(ID_HEADER);
            let at = bytes.len();
            bytes.extend_from_slice(&[b'0'; ID]);
            bytes.extend_from_slice(b"\r\n");
            at
        });
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        // Nothing before the path can hold the sign of a hole.
        let line = bytes.split(|byte| *byte == b'\r').next();
        let holes = Hole::all(str::from_utf8(line.unwrap_or_default()).unwrap_or_default());
        let mut places = bytes.windows(NO_TRACE.len());
        let trace_at = places.position(|place| place == NO_TRACE);
        Self {
            bytes,
            id_at,
            trace_at: trace_at.map(|at| at + TRACE.start),
            holes,
        }
    }

    /// The bytes to send, before an identifier is stamped in.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes a copy of [`Self::bytes`], or what it was the last time, the text of the next request:
    /// with a fresh identifier, and with what stands in the holes of the path.
    pub(super) fn stamp(&self, copy: &mut Vec<u8>, ids: &mut Ids) {
        let mut grown = 0;
        if let Some(last) = self.holes.last() {
            copy.clear();
            let mut from = 0;
            for hole in &self.holes {
                copy.extend_from_slice(self.bytes.get(from..hole.begins).unwrap_or_default());
                hole.fill(copy, ids);
                from = hole.ends;
            }
            grown = copy.len().wrapping_sub(last.ends);
            copy.extend_from_slice(self.bytes.get(from..).unwrap_or_default());
        }
        let moved = |at: Option<usize>| at.map(|at| at.wrapping_add(grown));
        if let Some(at) = moved(self.id_at)
            && let Some(hole) = copy.get_mut(at..at + ID)
        {
            hole.copy_from_slice(&ids.next_id());
        }
        if let Some(at) = moved(self.trace_at)
            && let Some(hole) = copy.get_mut(at..at + TRACE.len())
        {
            let id = ids.next_id();
            let digits = id.iter().filter(|byte| **byte != b'-');
            for (to, from) in hole.iter_mut().zip(digits) {
                *to = *from;
            }
        }
    }
}

/// Compares header names.
pub(super) fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// A source of UUIDs of version 4 (RFC 9562).
///
/// They have to be different, not secret: SplitMix64 from a seed of the system is enough.
pub(super) struct Ids {
    state: u64,
}

impl Ids {
    /// A source that no other run shares.
    pub(super) fn new() -> Self {
        // The standard library seeds the keys of its hash maps from the system's randomness.
        Self {
            state: RandomState::new().build_hasher().finish(),
        }
    }

    /// The next identifier as text.
    pub(super) fn next_id(&mut self) -> [u8; ID] {
        let random = u128::from(self.word()) << 64 | u128::from(self.word());
        let mut digits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let mut text = [b'-'; ID];
        for (at, place) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                let digit = (digits >> 124) as u8;
                *place = if digit < 10 {
                    b'0' + digit
                } else {
                    b'a' + digit - 10
                };
                digits <<= 4;
            }
        }
        text
    }

    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn check(method: &str, headers: &[(&str, &str)], body: &str, expected: &str) {
        let target = Target::parse("http://127.0.0.1:81/x", &[]).unwrap();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let text = RequestText::render(&target, method, &headers, body, false);
        assert_eq!(str::from_utf8(text.bytes()).unwrap(), expected);
    }

    #[test]
    fn requests_are_rendered() {
        check(
            "GET",
            &[],
            "",
            "GET /x HTTP/1.1\r\nhost: 127.0.0.1:81\r\n\r\n",
        );
        check(
            "GET",
            &[("a", "b"), ("Host", "info")],
            "",
            "GET /x HTTP/1.1\r\na: b\r\nHost: info\r\n\r\n",
        );
        check(
            "POST",
            &[],
            "",
            "POST /x HTTP/1.1\r\nhost: 127.0.0.1:81\r\ncontent-length: 0\r\n\r\n",
        );
        check(
            "POST",
            &[],
            "{}",
            "POST /x HTTP/1.1\r\nhost: 127.0.0.1:81\r\ncontent-length: 2\r\n\r\n{}",
        );
    }

    #[test]
    fn holes_of_the_path_are_filled_anew() {
        let path = "/x?a={3..12}&b={x0..2}&c={d}&e={5..4}";
        let target = Target::parse(&format!("http://127.0.0.1{path}"), &[]).unwrap();
        let text = RequestText::render(&target, "POST", &[], "{1..2}", true);
        let mut copy = text.bytes().to_vec();
        let mut ids = Ids::new();
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            text.stamp(&mut copy, &mut ids);
            let copy = str::from_utf8(&copy).unwrap();
            let rest = copy.strip_prefix("POST /x?a=").unwrap();
            let (number, rest) = rest.split_once("&b=").unwrap();
            let (padding, rest) = rest.split_once("&c={d}&e={5..4} HTTP/1.1\r\n").unwrap();
            let (_, id) = rest.split_once("x-request-id: ").unwrap();
            let id = id.strip_suffix("\r\n\r\n{1..2}").unwrap();
            assert_eq!(id.len(), ID);
            assert!((3..=12).contains(&number.parse::<u32>().unwrap()));
            assert!(["", "x", "xx"].contains(&padding));
            seen.insert((number.to_owned(), padding.len()));
        }
        assert_eq!(seen.len(), 30);
    }

    #[test]
    fn identifiers_are_uuids_and_differ() {
        let target = Target::parse("http://127.0.0.1/", &[]).unwrap();
        let text = RequestText::render(&target, "GET", &[], "", true);
        let mut copy = text.bytes().to_vec();
        let mut ids = Ids::new();
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            text.stamp(&mut copy, &mut ids);
            let copy = str::from_utf8(&copy).unwrap();
            let (_, id) = copy.split_once("x-request-id: ").unwrap();
            let id = id.strip_suffix("\r\n\r\n").unwrap();
            let groups: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12]);
            assert_eq!(&id[14..15], "4");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
            assert!(seen.insert(id.to_owned()));
        }
    }
}
