//! One keep-alive connection with at most one request in flight.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::answer::{Answer, AnswerReader};
use super::failure::Failure;
use super::plan::Plan;
use super::request::Ids;

/// How long the first connections may take to open.
const OPENING: Duration = Duration::from_secs(5);

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// When it was due, nanoseconds.
    pub(super) planned: u64,
    /// When a connection took it up, nanoseconds.
    pub(super) taken: u64,
    /// Whether this is the second try.
    pub(super) resent: bool,
}

/// A connection and the place where it comes back.
pub(super) struct Connection {
    token: Token,
    stream: Option<TcpStream>,
    connected: bool,
    /// An answer has come on this very connection: a close now is a server tired of waiting.
    reused: bool,
    text: Vec<u8>,
    written: usize,
    reader: AnswerReader,
    /// The request in flight.
    pub(super) request: Option<InFlight>,
}

impl Connection {
    /// Opens a connection and waits until it is there.
    pub(super) fn open(plan: &Plan, registry: &Registry, token: Token) -> io::Result<Self> {
        let stream = StdStream::connect_timeout(&plan.target.address, OPENING)?;
        stream.set_nonblocking(true)?;
        let mut connection = Self {
            token,
            stream: None,
            connected: true,
            reused: false,
            text: plan.request.bytes().to_vec(),
            written: 0,
            reader: AnswerReader::new(plan.head_only),
            request: None,
        };
        connection.adopt(TcpStream::from_std(stream), registry)?;
        Ok(connection)
    }

    /// Whether a request would have to connect first.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none()
    }

    /// Closes the connection; the next request opens it again.
    pub(super) fn close(&mut self) {
        self.stream = None;
        self.connected = false;
        self.reused = false;
    }

    /// Starts to connect without waiting.
    pub(super) fn reopen(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
    ) -> Result<(), Failure> {
        self.close();
        let stream = TcpStream::connect(address).map_err(Failure::Connect)?;
        self.adopt(stream, registry).map_err(Failure::Connect)
    }

    /// Begins a new request; as much as the socket takes leaves at once.
    pub(super) fn send(
        &mut self,
        request: InFlight,
        plan: &Plan,
        ids: &mut Ids,
    ) -> Result<(), Failure> {
        plan.request.stamp(&mut self.text, ids);
        self.request = Some(request);
        self.rewind();
        self.flush()
    }

    /// Makes ready to send the same request again, with the same identifier.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
        self.reader.reset();
    }

    /// Whether the failure only says that the server had closed an idle connection, and the
    /// request can be sent once more without the risk that the server acts on it twice.
    pub(super) fn may_resend(&self, failure: &Failure, plan: &Plan) -> bool {
        failure.is_close()
            && self.reused
            && self.reader.is_untouched()
            && self.request.is_some_and(|request| !request.resent)
            && (plan.idempotent || self.written == 0)
    }

    /// Goes on after an event of the socket; tells the answer when it is whole.
    pub(super) fn progress(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
    ) -> Result<Option<Answer>, Failure> {
        if !self.connected && !self.finish_connecting()? {
            return Ok(None);
        }
        if self.request.is_some() {
            self.flush()?;
        }
        let closing = event.is_read_closed();
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            let read = match stream.read(buffer) {
                Ok(0) => return self.end_of_stream().map(Some),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Receive(error)),
            };
            let answer = self.reader.feed(buffer.get(..read).unwrap_or_default())?;
            if let Some(answer) = answer {
                self.reused = true;
                return Ok(Some(Answer {
                    keep_alive: answer.keep_alive && !closing,
                    ..answer
                }));
            }
            // A read that did not fill the buffer has emptied the socket; what comes later is a
            // new edge. That saves a read that would only say so, unless the peer has closed.
            if read < buffer.len() && !closing {
                return Ok(None);
            }
        }
    }

    fn adopt(&mut self, mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, self.token, interest)?;
        self.stream = Some(stream);
        Ok(())
    }

    fn finish_connecting(&mut self) -> Result<bool, Failure> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if let Some(error) = stream.take_error().map_err(Failure::Connect)? {
            return Err(Failure::Connect(error));
        }
        match stream.peer_addr() {
            Ok(_) => self.connected = true,
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(Failure::Connect(error)),
        }
        Ok(self.connected)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.connected) else {
            return Ok(());
        };
        while let Some(rest @ [_, ..]) = self.text.get(self.written..) {
            match stream.write(rest) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Send(error)),
            }
        }
        Ok(())
    }

    fn end_of_stream(&self) -> Result<Answer, Failure> {
        match self.reader.close() {
            Some(answer) => Ok(answer),
            None if self.reader.is_untouched() => Err(Failure::Closed),
            None => Err(Failure::Truncated),
        }
    }
}
