//! Where an answer ends: HTTP/1.1 framing, RFC 9112 section 6. Bytes in, an end out; no I/O.

use std::mem;

use httparse::{EMPTY_HEADER, Header, Response, Status};

use super::request::is;

/// The longest head, chunk-size line or trailer, bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// The most headers in a head or trailer.
const MOST_HEADERS: usize = 100;

/// Why bytes are no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// Not HTTP/1.1.
    #[error("{0}")]
    Syntax(#[from] httparse::Error),
    /// A chunk size that is no number.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A length that is no number, or several.
    #[error("invalid content-length")]
    Length,
    /// A coding that hides where the body ends.
    #[error("unknown transfer-encoding")]
    Coding,
    /// An answer nobody asked for: to an upgrade, or after another.
    #[error("unexpected bytes")]
    Unexpected,
    /// A head without an end.
    #[error("head longer than 64 KiB")]
    TooLong,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its final status.
    pub(super) status: u16,
    /// Whether the connection takes another request.
    pub(super) keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// This many bytes are left.
    Length(u64),
    ChunkSize,
    /// This many bytes are left, with the line break behind them.
    Chunk(u64),
    Trailer,
    UntilClose,
    End,
}

/// Finds the end of answers in whatever pieces they come.
#[derive(Debug)]
pub(super) struct AnswerReader {
    head_only: bool,
    part: Part,
    answer: Answer,
    /// Bytes that cannot be understood before more have come.
    pending: Vec<u8>,
    untouched: bool,
}

impl AnswerReader {
    /// A reader; answers to HEAD are heads only.
    pub(super) fn new(head_only: bool) -> Self {
        Self {
            head_only,
            part: Part::Head,
            answer: Answer {
                status: 0,
                keep_alive: true,
            },
            pending: Vec::new(),
            untouched: true,
        }
    }

    /// Makes ready for the next answer.
    pub(super) fn reset(&mut self) {
        self.part = Part::Head;
        self.pending.clear();
        self.untouched = true;
    }

    /// Whether not a single byte of the answer has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Takes bytes as they come; tells the answer when it is whole.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, AnswerError> {
        self.untouched = false;
        if self.pending.is_empty() {
            return self.advance(bytes);
        }
        let mut joined = mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        self.advance(&joined)
    }

    /// The connection was closed; tells the answer when that was its end.
    pub(super) fn close(&self) -> Option<Answer> {
        (self.part == Part::UntilClose).then_some(Answer {
            keep_alive: false,
            ..self.answer
        })
    }

    fn advance(&mut self, mut bytes: &[u8]) -> Result<Option<Answer>, AnswerError> {
        while self.part != Part::End {
            let before = self.part;
            let used = self.step(bytes)?;
            bytes = bytes.get(used..).unwrap_or_default();
            // A head of an interim answer is followed by another head, hence both conditions.
            if used == 0 && self.part == before {
                if bytes.len() > LONGEST_HEAD {
                    return Err(AnswerError::TooLong);
                }
                self.pending.extend_from_slice(bytes);
                return Ok(None);
            }
        }
        if bytes.is_empty() {
            Ok(Some(self.answer))
        } else {
            Err(AnswerError::Unexpected)
        }
    }

    /// Reads one part, or as much of it as is there; tells how many bytes it used.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, AnswerError> {
        match self.part {
            Part::Head => self.head(bytes),
            Part::Length(left) => {
                let used = portion(left, bytes);
                self.part = match left - used as u64 {
                    0 => Part::End,
                    left => Part::Length(left),
                };
                Ok(used)
            }
            Part::ChunkSize => match httparse::parse_chunk_size(bytes) {
                Ok(Status::Complete((used, 0))) => {
                    self.part = Part::Trailer;
                    Ok(used)
                }
                Ok(Status::Complete((used, size))) => {
                    self.part = Part::Chunk(size.saturating_add(2));
                    Ok(used)
                }
                Ok(Status::Partial) => Ok(0),
                Err(_) => Err(AnswerError::ChunkSize),
            },
            Part::Chunk(left) => {
                let used = portion(left, bytes);
                self.part = match left - used as u64 {
                    0 => Part::ChunkSize,
                    left => Part::Chunk(left),
                };
                Ok(used)
            }
            Part::Trailer => {
                let mut headers = [EMPTY_HEADER; MOST_HEADERS];
                match httparse::parse_headers(bytes, &mut headers)? {
                    Status::Complete((used, _)) => {
                        self.part = Part::End;
                        Ok(used)
                    }
                    Status::Partial => Ok(0),
                }
            }
            Part::UntilClose => Ok(bytes.len()),
            Part::End => Ok(0),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, AnswerError> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut response = Response::new(&mut headers);
        let Status::Complete(used) = response.parse(bytes)? else {
            return Ok(0);
        };
        let status = response.code.unwrap_or(0);
        match status {
            // Nobody asked for another protocol.
            101 => return Err(AnswerError::Unexpected),
            // An interim answer: the final one is still to come.
            100..200 => return Ok(used),
            _ => {}
        }
        let framing = Framing::read(response.headers)?;
        let bodyless = self.head_only || matches!(status, 204 | 304);
        self.part = match framing {
            _ if bodyless => Part::End,
            Framing { chunked: true, .. } => Part::ChunkSize,
            Framing {
                length: Some(0), ..
            } => Part::End,
            Framing {
                length: Some(length),
                ..
            } => Part::Length(length),
            Framing { length: None, .. } => Part::UntilClose,
        };
        let persistent = response.version == Some(1);
        self.answer = Answer {
            status,
            keep_alive: if persistent {
                !framing.close
            } else {
                framing.keep_alive && !framing.close
            },
        };
        Ok(used)
    }
}

/// What the headers say about the end of the body and of the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Framing {
    fn read(headers: &[Header<'_>]) -> Result<Self, AnswerError> {
        let mut framing = Self::default();
        for header in headers {
            let value = str::from_utf8(header.value).unwrap_or_default().trim();
            if is(header.name, "content-length") {
                let length = value.parse().map_err(|_| AnswerError::Length)?;
                if framing.length.is_some_and(|other| other != length) {
                    return Err(AnswerError::Length);
                }
                framing.length = Some(length);
            } else if is(header.name, "transfer-encoding") {
                if !is(value, "chunked") {
                    return Err(AnswerError::Coding);
                }
                framing.chunked = true;
            } else if is(header.name, "connection") {
                for token in value.split(',').map(str::trim) {
                    framing.close |= is(token, "close");
                    framing.keep_alive |= is(token, "keep-alive");
                }
            }
        }
        Ok(framing)
    }
}

/// How many of these bytes belong to the `left` that are to come.
fn portion(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
