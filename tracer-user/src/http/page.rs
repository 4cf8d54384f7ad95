//! The page at `/` and what it asks for. It is one file, without anything from elsewhere, and its
//! Content-Security-Policy lets it have nothing else: its own style and script by their hashes, and answers
//! of this agent.

use std::io;
use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Live;
use crate::metrics::figures::{Figures, PairName, Sum};
use crate::model::{Hop, Ktime, Reporter};
use crate::tap::json::{Clocks, Told};
use crate::tracer::monotonic_now;

/// The page.
pub(super) const PAGE: &str = include_str!("page.html");
/// Media type of both answers.
pub(super) const JSON: &str = "application/json";

/// What the page may have.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |element: &str| {
        let text = inside(PAGE, element).unwrap_or_default();
        STANDARD.encode(Sha256::digest(text))
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
});

/// The text of the one element of this name.
fn inside<'a>(page: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>"))
        .map(|(text, _)| text)
}

/// What `/api/...` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// Pairs of workloads, and what was counted of each.
    Pairs,
    /// The slowest requests of the last minutes.
    Slowest,
}

impl Api {
    /// By its path.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/api/pairs" => Some(Self::Pairs),
            "/api/slowest" => Some(Self::Slowest),
            _ => None,
        }
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn write(self, live: &dyn Live, out: &mut dyn io::Write) -> io::Result<()> {
        let clocks = Clocks {
            monotonic: monotonic_now(),
            wall: SystemTime::now(),
        };
        match self {
            Self::Pairs => {
                let pairs = live.pairs().0;
                let pairs = pairs.iter().map(|(name, figures)| Pair::of(name, figures));
                let answer = PairsAnswer {
                    now_ns: clocks.monotonic,
                    pairs: pairs.collect(),
                };
                serde_json::to_writer(out, &answer)?;
            }
            Self::Slowest => {
                let requests = live.slowest();
                let requests = requests.iter().map(|request| Slow {
                    began_ns: request.began,
                    told: Told::of(request, clocks),
                });
                let answer = SlowestAnswer {
                    requests: requests.collect(),
                };
                serde_json::to_writer(out, &answer)?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct PairsAnswer<'a> {
    /// The clock by which two answers are compared.
    now_ns: Ktime,
    pairs: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct SlowestAnswer<'a> {
    requests: Vec<Slow<'a>>,
}

#[derive(Serialize)]
struct Slow<'a> {
    /// By which the page knows it again: `at` is told anew each time, and differs by how long it took to read
    /// two clocks.
    began_ns: Ktime,
    #[serde(flatten)]
    told: Told<'a>,
}

#[derive(Serialize)]
struct Pair<'a> {
    #[serde(flatten)]
    name: &'a PairName,
    /// As the caller saw them; where it is on another node, as the called pod did.
    requests: Sum,
    errors: u64,
    hops: Hops,
}

#[derive(Serialize)]
struct Hops {
    app: Sum,
    sidecar_inbound: Sum,
    sidecar_outbound: Sum,
    network: Sum,
    loopback: Sum,
}

impl<'a> Pair<'a> {
    fn of(name: &'a PairName, figures: &Figures) -> Self {
        let source = figures.requests(Reporter::Source);
        let hop = |hop: Hop| figures.hops.get(hop as usize).copied().unwrap_or_default();
        Self {
            name,
            requests: if source.count > 0 {
                source
            } else {
                figures.requests(Reporter::Destination)
            },
            errors: figures.errors,
            hops: Hops {
                app: hop(Hop::App),
                sidecar_inbound: hop(Hop::SidecarInbound),
                sidecar_outbound: hop(Hop::SidecarOutbound),
                network: hop(Hop::Network),
                loopback: hop(Hop::Loopback),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_nothing_from_elsewhere() {
        for element in ["<style>", "</style>", "<script>", "</script>"] {
            assert_eq!(PAGE.matches(element).count(), 1, "{element}");
        }
        assert!(POLICY.starts_with("default-src 'none'"));
        // Of an empty text.
        let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert!(!POLICY.contains(empty), "{}", *POLICY);
        // The name space of SVG is no address that anybody asks.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "");
        for outside in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "style=\"",
            "onclick",
            "innerHTML",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
