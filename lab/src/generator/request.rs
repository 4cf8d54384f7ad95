//! The text of a request, rendered once, and the identifiers that change in it.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::target::Target;

const ID_HEADER: &[u8] = b"x-request-id: ";

/// Length of a UUID in text.
const ID: usize = 36;

/// A request as it goes over the wire, with a hole for its identifier.
#[derive(Clone, Debug)]
pub(super) struct RequestText {
    bytes: Vec<u8>,
    id_at: Option<usize>,
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
        Self { bytes, id_at }
    }

    /// The bytes to send, before an identifier is stamped in.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes a fresh identifier into a copy of [`Self::bytes`].
    pub(super) fn stamp(&self, copy: &mut [u8], ids: &mut Ids) {
        let Some(at) = self.id_at else { return };
        if let Some(hole) = copy.get_mut(at..at + ID) {
            hole.copy_from_slice(&ids.next_id());
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
