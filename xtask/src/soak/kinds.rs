//! What is asked, how much of each, and what must become of the exchanges of one request.

use hoptrace_lab::wire;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Of ten thousand.
    pub(super) share: u64,
    pub(super) client: Client,
    pub(super) path: &'static str,
    /// Of a body.
    pub(super) bytes: u64,
    pub(super) connections: u64,
    /// Exchanges of a hundred requests by their fate, which is the value of the label `result`.
    pub(super) fates: &'static [(&'static str, Range)],
    /// Requests of a hundred that are told as the client's.
    pub(super) told: Range,
}

/// From, and up to: the same, but where it is a matter of a millisecond what becomes of an exchange.
pub(super) type Range = (u64, u64);

/// Six sockets, one exchange each.
const WHOLE: &[(&str, Range)] = &[("paired", (600, 600))];

impl Kind {
    /// Whether it is known to the integer what becomes of such requests.
    pub(super) fn is_exact(&self) -> bool {
        self.fates.iter().all(|(_, (low, high))| low == high)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// `hoptrace-load` with a method.
    Load(&'static str),
    /// `hoptrace-wire`.
    Wire(wire::Kind),
}

const fn load(name: &'static str, share: u64, method: &'static str, path: &'static str) -> Kind {
    Kind {
        name,
        share,
        client: Client::Load(method),
        path,
        bytes: 0,
        connections: 8,
        fates: WHOLE,
        told: (100, 100),
    }
}

const fn wire(name: &'static str, share: u64, kind: wire::Kind, path: &'static str) -> Kind {
    Kind {
        client: Client::Wire(kind),
        connections: 4,
        ..load(name, share, "", path)
    }
}

/// Every kind. The fates are those that the conformance matrix finds, where the kinds run one by one.
pub(super) const ALL: [Kind; 15] = [
    Kind {
        connections: 16,
        ..load("GET", 6_000, "GET", "/plain?size=500")
    },
    Kind {
        bytes: 1_000,
        ..load("POST", 1_500, "POST", "/plain?size=100")
    },
    load("HEAD", 500, "HEAD", "/plain?size=500"),
    load("chunked answer", 500, "GET", "/chunked?size=20000"),
    Kind {
        bytes: 20_000,
        ..wire(
            "chunked request",
            200,
            wire::Kind::ChunkedBody,
            "/plain?size=10",
        )
    },
    Kind {
        connections: 2,
        ..load("2 MB down", 20, "GET", "/plain?size=2000000")
    },
    Kind {
        bytes: 2_000_000,
        connections: 2,
        ..wire("2 MB up", 20, wire::Kind::ChunkedBody, "/plain?size=10")
    },
    wire(
        "Connection: close",
        300,
        wire::Kind::Close,
        "/plain?size=500",
    ),
    Kind {
        bytes: 5_000,
        // The body is an exchange of its own, which is the request's; on a machine that is overloaded some
        // are told as requests.
        fates: &[
            ("paired", (590, 600)),
            ("continuation", (190, 200)),
            ("unpaired", (0, 20)),
        ],
        told: (100, 110),
        ..wire("100-continue", 200, wire::Kind::Expect, "/plain?size=10")
    },
    Kind {
        bytes: 20_000,
        // The sidecars close the connections below such an answer, with the rest of a request in them.
        fates: &[("paired", (600, 600)), ("no_response", (0, 200))],
        ..wire("early answer", 40, wire::Kind::Early, "/early?delay=5")
    },
    Kind {
        fates: &[("continuation", (600, 600))],
        told: (0, 0),
        ..wire("103", 100, wire::Kind::KeepAlive, "/hints?delay=5")
    },
    Kind {
        // Of two the client and its sidecar have one exchange, the four sockets behind it two each;
        // unless the second is sent when the first is answered.
        fates: &[("paired", (450, 600)), ("unpaired", (0, 50))],
        told: (50, 100),
        ..wire("pipelined", 100, wire::Kind::Pipeline, "/plain?delay=5")
    },
    Kind {
        // The end of TLS is an answer to some, and what was never answered may be a part of the handshake.
        fates: &[
            ("no_response", (200, 400)),
            ("unpaired", (0, 200)),
            ("handshake", (0, 100)),
        ],
        told: (0, 0),
        ..wire("client hangs up", 40, wire::Kind::Abort, "/plain?delay=300")
    },
    wire("upgrade", 200, wire::Kind::Upgrade, "/upgrade"),
    Kind {
        connections: 8,
        ..wire("TCP", 280, wire::Kind::Raw, "")
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_all_there_is() {
        assert_eq!(ALL.iter().map(|kind| kind.share).sum::<u64>(), 10_000);
    }
}
