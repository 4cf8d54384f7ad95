//! Why a request has no good answer.

use std::io;
use std::time::Duration;

use super::answer::AnswerError;

/// Why a request counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server answered, but not with success.
    #[error("answer {0}")]
    Status(u16),
    /// No connection could be opened.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The request could not be written.
    #[error("cannot send: {0}")]
    Send(io::Error),
    /// The answer could not be read.
    #[error("cannot receive: {0}")]
    Receive(io::Error),
    /// The server closed the connection before it answered.
    #[error("connection closed before an answer")]
    Closed,
    /// The server closed the connection in the middle of the answer.
    #[error("connection closed in the middle of an answer")]
    Truncated,
    /// The answer is not HTTP/1.1 as the generator knows it.
    #[error("malformed answer: {0}")]
    Malformed(#[from] AnswerError),
    /// The server took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The run was over before the request could leave.
    #[error("never sent: the server was too slow for the plan")]
    Unsent,
}

impl Failure {
    /// Whether the peer had simply closed the connection, as a server may at any time.
    pub(super) fn is_close(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Send(error) | Self::Receive(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
            ),
            _ => false,
        }
    }
}
