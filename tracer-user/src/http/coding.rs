//! How a body goes over the wire: as it is, or compressed for who asks for that (RFC 9110, section
//! 12.5.3). An exposition repeats its labels in every line and shrinks to a small part of itself.

use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, HeaderMap};

/// Lines are written in pieces of a few bytes; the compressor is asked once for so many.
const PIECE: usize = 64 << 10;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip, at its fastest: the higher levels take several times as long for a little less.
    Gzip,
}

impl Coding {
    /// The coding for a client: gzip if it takes that.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Self {
        let lists = headers.get_all(ACCEPT_ENCODING).into_iter();
        let texts = lists.filter_map(|list| list.to_str().ok());
        let mut any = false;
        for choice in texts.flat_map(|text| text.split(',')) {
            let (name, weight) = choice.split_once(';').unwrap_or((choice, ""));
            let taken = !is_zero(weight);
            match name.trim() {
                // Named, so it does not matter what the rest is.
                name if name.eq_ignore_ascii_case("gzip") => {
                    return if taken { Self::Gzip } else { Self::Identity };
                }
                "*" => any = taken,
                _ => {}
            }
        }
        if any { Self::Gzip } else { Self::Identity }
    }

    /// What `write` writes, in this coding.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn body(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => {
                let mut body = Vec::new();
                write(&mut body)?;
                Ok(body)
            }
            Self::Gzip => {
                let encoder = GzEncoder::new(Vec::new(), Compression::fast());
                let mut pieces = BufWriter::with_capacity(PIECE, encoder);
                write(&mut pieces)?;
                pieces
                    .into_inner()
                    .map_err(|error| error.into_error())?
                    .finish()
            }
        }
    }
}

/// Whether a choice is weighted with zero, which means "not this": `q=0`, `q=0.00`.
fn is_zero(weight: &str) -> bool {
    let value = weight.trim().strip_prefix(['q', 'Q']);
    let value = value.and_then(|value| value.trim_start().strip_prefix('='));
    value.is_some_and(|value| value.trim().parse() == Ok(0.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use std::io::Read;

    #[test]
    fn who_asks_for_gzip_gets_it() {
        for (lists, expected) in [
            (&[][..], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&["zstd, GZIP;q=0.5, br"], Coding::Gzip),
            (&["identity"], Coding::Identity),
            (&["br", "gzip"], Coding::Gzip),
            (&["gzip;q=0"], Coding::Identity),
            (&["gzip; q=0.000, *"], Coding::Identity),
            (&["*"], Coding::Gzip),
            (&["*;q=0"], Coding::Identity),
            (&["x-gzip2, gzipped"], Coding::Identity),
            (&["gzip;q=much"], Coding::Gzip),
        ] {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(list));
            }
            assert_eq!(Coding::accepted(&headers), expected, "{lists:?}");
        }
    }

    #[test]
    fn what_is_written_comes_out() {
        let write =
            |out: &mut dyn Write| (0..9_999).try_for_each(|line| writeln!(out, "up {line}"));
        let plain = Coding::Identity.body(write).unwrap();
        let packed = Coding::Gzip.body(write).unwrap();
        assert!(packed.len() < plain.len() / 2);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
        let failed = Coding::Gzip.body(|_out| Err(io::Error::other("no")));
        assert!(failed.is_err());
    }
}
