//! The client: what it is to do comes as JSON, and so goes what it saw.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Body, Input};
use super::serve::{MESSAGE, write_body};
use super::stamp::now;

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One request after the other.
    KeepAlive,
    /// A connection for each request.
    Close,
    /// As [`Kind::KeepAlive`], with a body of `bytes` in chunks.
    ChunkedBody,
    /// `Expect: 100-continue`, and the body of `bytes` when that comes.
    Expect,
    /// Half of a body of `bytes`, the other half when the answer has begun; a connection each.
    Early,
    /// Two at once on a connection, then both answers.
    Pipeline,
    /// Closes the connection 60 ms after each request.
    Abort,
    /// An upgrade, then messages of 32 bytes and their answers: `count` in all.
    Upgrade,
    /// Such messages alone.
    Raw,
}

/// What is asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Wish {
    /// Where.
    pub address: SocketAddr,
    /// `host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// How.
    pub kind: Kind,
    /// Exchanges of each connection, one after the other.
    pub count: u64,
    /// Connections at a time.
    pub connections: u64,
    /// Of a body.
    pub bytes: u64,
}

/// One exchange, stamped by the client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Answer {
    /// The first write of the request is about to be made.
    pub sent: u64,
    /// The read that brought the first byte of the final answer returned; 0 without one.
    pub first: u64,
    /// The answer's last byte was read.
    pub last: u64,
    /// Its status; 0 for what is not HTTP.
    pub status: u16,
}

/// What became of a wish.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Answers {
    /// Exchanges, by connection and in order.
    pub exchanges: Vec<Answer>,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

/// Does it.
#[must_use]
pub fn ask(wish: &Wish) -> Answers {
    let mut all = Answers::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..wish.connections)
            .map(|_| scope.spawn(|| connection(wish)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok((exchanges, failure)) => {
                    all.exchanges.extend(exchanges);
                    all.failures.extend(failure.map(|error| error.to_string()));
                }
                Err(_) => all.failures.push("a thread panicked".to_owned()),
            }
        }
    });
    all
}

fn connection(wish: &Wish) -> (Vec<Answer>, Option<io::Error>) {
    let mut done = Vec::new();
    let failure = match wish.kind {
        Kind::Close | Kind::Early | Kind::Abort => {
            (0..wish.count).try_for_each(|_| Line::open(wish)?.once(&mut done))
        }
        Kind::Pipeline => Line::open(wish)
            .and_then(|mut line| (0..wish.count / 2).try_for_each(|_| line.pipeline(&mut done))),
        Kind::Raw => Line::open(wish).and_then(|mut line| line.messages(wish.count, &mut done)),
        Kind::Upgrade => Line::open(wish).and_then(|mut line| {
            line.once(&mut done)?;
            line.messages(wish.count.saturating_sub(1), &mut done)
        }),
        Kind::KeepAlive | Kind::ChunkedBody | Kind::Expect => Line::open(wish)
            .and_then(|mut line| (0..wish.count).try_for_each(|_| line.once(&mut done))),
    };
    (done, failure.err())
}

/// A connection.
struct Line<'a> {
    wish: &'a Wish,
    stream: TcpStream,
    input: Input,
}

impl<'a> Line<'a> {
    fn open(wish: &'a Wish) -> io::Result<Self> {
        let stream = TcpStream::connect(wish.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let input = Input::new(stream.try_clone()?);
        Ok(Self {
            wish,
            stream,
            input,
        })
    }

    fn head(&self) -> String {
        let Wish {
            kind,
            host,
            path,
            bytes,
            ..
        } = self.wish;
        let method = match kind {
            Kind::ChunkedBody | Kind::Expect | Kind::Early => "POST",
            _ => "GET",
        };
        let more = match kind {
            Kind::Close => "connection: close\r\n".to_owned(),
            Kind::ChunkedBody => "transfer-encoding: chunked\r\n".to_owned(),
            Kind::Expect => format!("expect: 100-continue\r\ncontent-length: {bytes}\r\n"),
            Kind::Early => format!("content-length: {bytes}\r\n"),
            Kind::Upgrade => "connection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                .to_owned(),
            _ => String::new(),
        };
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")
    }

    /// One request and its answer.
    fn once(&mut self, done: &mut Vec<Answer>) -> io::Result<()> {
        let Wish { kind, bytes, .. } = *self.wish;
        let head = self.head();
        let sent = now();
        self.stream.write_all(head.as_bytes())?;
        match kind {
            Kind::Abort => {
                thread::sleep(Duration::from_millis(60));
                done.push(Answer {
                    sent,
                    ..Answer::default()
                });
                return Ok(());
            }
            Kind::ChunkedBody => write_body(&mut self.stream, bytes, true)?,
            Kind::Early => write_body(&mut self.stream, bytes / 2, false)?,
            Kind::Expect => {
                let interim = self.input.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                if interim.status()? != 100 {
                    return Err(io::Error::other("no 100 came"));
                }
                write_body(&mut self.stream, bytes, false)?;
            }
            _ => {}
        }
        let answer = self.answer(sent)?;
        if kind == Kind::Early {
            write_body(&mut self.stream, bytes - bytes / 2, false)?;
        }
        done.push(answer);
        Ok(())
    }

    fn answer(&mut self, sent: u64) -> io::Result<Answer> {
        loop {
            let head = self.input.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.status()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let without = if status == 101 {
                Body::Length(0)
            } else {
                Body::UntilClose
            };
            self.input.drain(head.body(without)?)?;
            return Ok(Answer {
                sent,
                first: head.came,
                last: now(),
                status,
            });
        }
    }

    fn pipeline(&mut self, done: &mut Vec<Answer>) -> io::Result<()> {
        let head = self.head();
        let sent = now();
        self.stream.write_all(head.repeat(2).as_bytes())?;
        for _ in 0..2 {
            let answer = self.answer(sent)?;
            done.push(answer);
        }
        Ok(())
    }

    fn messages(&mut self, count: u64, done: &mut Vec<Answer>) -> io::Result<()> {
        for _ in 0..count {
            let sent = now();
            self.stream.write_all(&[b'?'; MESSAGE])?;
            let first = self.input.exactly(MESSAGE)?;
            done.push(Answer {
                sent,
                first: first.ok_or(io::ErrorKind::UnexpectedEof)?,
                last: now(),
                status: 0,
            });
        }
        Ok(())
    }
}
