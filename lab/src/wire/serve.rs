//! The server: what it does is in the path, how is in the query.
//!
//! | path | answer |
//! |---|---|
//! | `/plain` | `size` bytes after `delay` ms |
//! | `/chunked` | the same in chunks of 1,000 bytes |
//! | `/events` | `count` events `gap` ms apart, the first after `delay` ms |
//! | `/early` | 200 `delay` ms after the head was read; the body is read afterwards |
//! | `/hints` | 103, and `delay` ms later 200 |
//! | `/flaky` | 503 to every odd request, 200 to every even one |
//! | `/upgrade` | 101, then every message of 32 bytes comes back after `delay` ms |

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::message::{Body, Head, Input, PIECE};
use super::stamp::{Served, now};

/// Bytes of a message of what is not HTTP.
pub(crate) const MESSAGE: usize = 32;

/// Where to listen, and what is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// HTTP/1.1.
    Http(SocketAddr),
    /// Messages of 32 bytes, each answered by itself after 5 ms.
    Raw(SocketAddr),
}

struct Server {
    log: Mutex<File>,
    flaky: AtomicU64,
}

/// Serves for ever; a thread a connection.
///
/// # Errors
/// An address cannot be listened on.
pub fn serve(listen: &[Listen], log: File) -> io::Result<()> {
    let server = Arc::new(Server {
        log: Mutex::new(log),
        flaky: AtomicU64::new(0),
    });
    let mut listeners = Vec::new();
    for listen in listen {
        let (Listen::Http(address) | Listen::Raw(address)) = *listen;
        listeners.push((*listen, TcpListener::bind(address)?));
    }
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|(listen, listener)| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let server = Arc::clone(&server);
                    thread::spawn(move || {
                        // Who hangs up in the middle is part of what is tested.
                        let _gone = match listen {
                            Listen::Http(_) => server.http(stream),
                            Listen::Raw(_) => server.raw(stream),
                        };
                    });
                }
            })
        })
        .collect();
    for thread in accepting {
        let _panicked = thread.join();
    }
    Ok(())
}

impl Server {
    fn note(&self, served: &Served) -> io::Result<()> {
        let mut line = serde_json::to_vec(served)?;
        line.push(b'\n');
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write_all(&line)
    }

    fn http(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = Input::new(stream.try_clone()?);
        while let Some(head) = input.head()? {
            if !self.answer(&head, &mut input, &mut stream)? {
                break;
            }
        }
        Ok(())
    }

    /// Answers one request; false when the connection is to end.
    fn answer(&self, head: &Head, input: &mut Input, stream: &mut TcpStream) -> io::Result<bool> {
        let target = head.word(1).to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = |name: &str| -> u64 {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == name);
            found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        let delay = || thread::sleep(Duration::from_millis(number("delay")));
        let body = head.body(Body::Length(0))?;
        if path == "/early" {
            delay();
            let wrote = now();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            // Before the rest, which may never come.
            self.note(&Served {
                path: target.clone(),
                read: head.came,
                wrote,
                status: 200,
            })?;
            input.drain(body)?;
            return Ok(!head.is("connection", "close"));
        }
        if head.is("expect", "100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        input.drain(body)?;
        let mut served = Served {
            path: target.clone(),
            read: head.came,
            wrote: 0,
            status: 200,
        };
        let close = head.is("connection", "close");
        let connection = if close { "connection: close\r\n" } else { "" };
        let bodyless = head.word(0) == "HEAD";
        match path {
            "/events" => {
                delay();
                let head = format!(
                    "HTTP/1.1 200 OK\r\n{connection}content-type: text/event-stream\r\n\
                     transfer-encoding: chunked\r\n\r\n"
                );
                served.wrote = now();
                stream.write_all(head.as_bytes())?;
                for at in 0..number("count") {
                    if at > 0 {
                        thread::sleep(Duration::from_millis(number("gap")));
                    }
                    stream.write_all(b"9\r\ndata: x\n\n\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
            "/hints" => {
                served.wrote = now();
                served.status = 103;
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")?;
                delay();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            }
            "/upgrade" => {
                served.wrote = now();
                served.status = 101;
                stream.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                      upgrade: websocket\r\n\r\n",
                )?;
                self.note(&served)?;
                self.echo(input, stream, Duration::from_millis(number("delay")))?;
                return Ok(false);
            }
            _ => {
                delay();
                let fails = path == "/flaky"
                    && self.flaky.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                served.status = if fails { 503 } else { 200 };
                let size = number("size");
                let chunked = path == "/chunked";
                let length = if chunked {
                    "transfer-encoding: chunked".to_owned()
                } else {
                    format!("content-length: {size}")
                };
                let head = format!(
                    "HTTP/1.1 {} Wire\r\n{connection}{length}\r\n\r\n",
                    served.status
                );
                served.wrote = now();
                stream.write_all(head.as_bytes())?;
                if !bodyless {
                    write_body(stream, size, chunked)?;
                }
            }
        }
        self.note(&served)?;
        Ok(!close)
    }

    fn raw(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = Input::new(stream.try_clone()?);
        self.echo(&mut input, &mut stream, Duration::from_millis(5))
    }

    fn echo(&self, input: &mut Input, stream: &mut TcpStream, delay: Duration) -> io::Result<()> {
        while let Some(read) = input.exactly(MESSAGE)? {
            thread::sleep(delay);
            let wrote = now();
            stream.write_all(&[b'.'; MESSAGE])?;
            self.note(&Served {
                path: String::new(),
                read,
                wrote,
                status: 0,
            })?;
        }
        Ok(())
    }
}

/// Writes a body of `size` bytes.
pub(super) fn write_body(stream: &mut TcpStream, size: u64, chunked: bool) -> io::Result<()> {
    let limit = if chunked { 1_000 } else { PIECE };
    let piece = vec![b'x'; limit];
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(limit);
        let bytes = piece.get(..count).unwrap_or_default();
        if chunked {
            let mut chunk = format!("{count:x}\r\n").into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            stream.write_all(&chunk)?;
        } else {
            stream.write_all(bytes)?;
        }
        left -= count as u64;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}
