//! `hoptrace-chain`: a service in the middle of a chain, and the database at its end. A request says how
//! many calls the service makes for it, and where it is to be held up; the service writes down how long it
//! took itself and how long it waited for others.
//!
//! | header | meaning | handed on |
//! |---|---|---|
//! | `x-fault: NAME-MS` | whoever has this name waits for so long; `database` is the database's | yes |
//! | `x-calls: N` | calls to the next service, 1 when it is not there | no |
//! | `x-parallel: 1` | at the same time instead of one after the other | no |
//! | `x-work: MS` | the service waits for so long before its first call | no |
//! | `x-keep: NAMES` | of `x-request-id` and `traceparent`, those that are handed on | |

mod blocking;
mod evented;
mod order;

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::wire::{Input, MESSAGE};

pub use crate::wire::{Called, Done};

/// Whom a service calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// HTTP/1.1.
    Http(SocketAddr),
    /// [`database`].
    Tcp(SocketAddr),
}

/// How a service works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// A thread for each connection, which makes its calls itself; others make those that are parallel.
    Threads,
    /// One thread that waits for nothing.
    Loop,
    /// Two threads that wait for nothing and share all work.
    Workers,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Its name in `x-fault`.
    pub name: String,
    /// Whom it calls.
    pub next: Next,
    /// One line of JSON for each request: [`Done`].
    pub log: File,
}

struct Log(Mutex<File>);

impl Log {
    fn note(&self, done: &Done) -> io::Result<()> {
        let mut line = serde_json::to_vec(done)?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)
    }
}

/// Serves for ever.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(service: Service, listen: SocketAddr, how: How) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    let Service { name, next, log } = service;
    let log = Log(Mutex::new(log));
    match how {
        How::Threads => blocking::serve(&listener, name, next, log),
        How::Loop => evented::serve(listener, name, next, log, 1),
        How::Workers => evented::serve(listener, name, next, log, 2),
    }
}

/// A database of one query: a message that says for how many microseconds to wait, and its answer. A thread
/// for each connection, for ever.
///
/// # Errors
/// The address cannot be listened on.
pub fn database(listen: SocketAddr) -> io::Result<()> {
    for stream in TcpListener::bind(listen)?.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            stream.set_nodelay(true)?;
            let mut input = Input::new(stream.try_clone()?);
            let mut stream = stream;
            while let Some(query) = input.message(MESSAGE)? {
                let text = String::from_utf8_lossy(&query);
                let wait: u64 = text.trim().parse().map_err(io::Error::other)?;
                if wait > 0 {
                    thread::sleep(Duration::from_micros(wait));
                }
                stream.write_all(&[b'.'; MESSAGE])?;
            }
            Ok(())
        });
    }
    Ok(())
}

type Shared = Arc<Log>;
