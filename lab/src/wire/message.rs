//! As much of HTTP/1.1 as the two ends of a test need.

use std::io::{self, Read};
use std::net::TcpStream;

use super::stamp::now;

/// Longest head.
const LONGEST: usize = 64 << 10;
/// Bytes moved at a time.
pub(crate) const PIECE: usize = 64 << 10;

/// A connection, what was read of it ahead, and when the first byte of that came.
pub(crate) struct Input {
    stream: TcpStream,
    ahead: Vec<u8>,
    came: u64,
}

/// A message's head.
#[derive(Debug)]
pub(crate) struct Head {
    first: String,
    fields: Vec<(String, String)>,
    /// When its first byte was there.
    pub(crate) came: u64,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Head {
    /// The nth word of the first line.
    pub(crate) fn word(&self, at: usize) -> &str {
        self.first.split(' ').nth(at).unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        let found = self.field(name);
        found.is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    /// Of a status line.
    pub(crate) fn status(&self) -> io::Result<u16> {
        let word = self.word(1);
        word.parse()
            .map_err(|_| invalid(format!("`{}` has no status", self.first)))
    }

    /// The body that follows, of a message that may have none.
    pub(crate) fn body(&self, without: Body) -> io::Result<Body> {
        if self.is("transfer-encoding", "chunked") {
            return Ok(Body::Chunked);
        }
        self.field("content-length").map_or(Ok(without), |length| {
            let length = length.parse();
            length
                .map(Body::Length)
                .map_err(|_| invalid("no content length"))
        })
    }
}

impl Input {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            came: 0,
        }
    }

    /// Takes what is there; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        let count = self.stream.read(&mut piece)?;
        if self.ahead.is_empty() {
            self.came = now();
        }
        self.ahead
            .extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count > 0)
    }

    /// The next head, `None` when the connection ends before it begins.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.ahead.split_off(end + 4);
                let bytes = std::mem::replace(&mut self.ahead, rest);
                let came = self.came;
                return head(&bytes, came).map(Some);
            }
            if self.ahead.len() > LONGEST {
                return Err(invalid("a head without an end"));
            }
            if !self.more()? {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads a body and drops it.
    pub(crate) fn drain(&mut self, body: Body) -> io::Result<()> {
        match body {
            Body::Length(length) => self.skip(length),
            Body::Chunked => loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16);
                let size = size.map_err(|_| invalid(format!("`{line}` is no chunk")))?;
                self.skip(size + 2)?;
                if size == 0 {
                    return Ok(());
                }
            },
            Body::UntilClose => {
                self.ahead.clear();
                while self.more()? {
                    self.ahead.clear();
                }
                Ok(())
            }
        }
    }

    /// Exactly so many bytes of whatever protocol, and when the first was there; `None` at the end.
    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Option<u64>> {
        while self.ahead.len() < count {
            if !self.more()? {
                return Ok(None);
            }
        }
        let came = self.came;
        self.ahead.drain(..count);
        Ok(Some(came))
    }

    /// Exactly so many bytes themselves; `None` at the end.
    #[cfg(feature = "programs")]
    pub(crate) fn message(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        while self.ahead.len() < count {
            if !self.more()? {
                return Ok(None);
            }
        }
        let rest = self.ahead.split_off(count);
        Ok(Some(std::mem::replace(&mut self.ahead, rest)))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        loop {
            let now = usize::try_from(count).unwrap_or(usize::MAX);
            let now = now.min(self.ahead.len());
            self.ahead.drain(..now);
            count -= now as u64;
            if count == 0 {
                return Ok(());
            }
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn head(bytes: &[u8], came: u64) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("a head that is no text"))?;
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Head {
        first,
        fields,
        came,
    })
}
