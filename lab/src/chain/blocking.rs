//! A thread for each connection.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::order::Order;
use super::{Called, Done, Log, Next, Shared};
use crate::wire::{Body, Input, MESSAGE, now};

/// A connection to the next service that waits for its next call.
struct Line {
    port: u16,
    stream: TcpStream,
    input: Input,
}

struct App {
    name: String,
    next: Next,
    log: Shared,
    /// For calls of other threads; a connection's own thread keeps its own.
    idle: Mutex<Vec<Line>>,
}

pub(super) fn serve(listener: &TcpListener, name: String, next: Next, log: Log) -> io::Result<()> {
    let app = Arc::new(App {
        name,
        next,
        log: Arc::new(log),
        idle: Mutex::default(),
    });
    for stream in listener.incoming().flatten() {
        let app = Arc::clone(&app);
        thread::spawn(move || {
            if let Err(error) = app.connection(stream) {
                eprintln!("hoptrace-chain: {error}");
            }
        });
    }
    Ok(())
}

impl App {
    fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = Input::new(stream.try_clone()?);
        let mut line = None;
        while let Some(head) = input.head()? {
            let order = Order::of(&self.name, |name| head.field(name));
            if !order.wait.is_zero() {
                thread::sleep(order.wait);
            }
            let calls = if order.parallel {
                self.at_once(&order)?
            } else {
                (0..order.calls)
                    .map(|_| self.call(&order, &mut line))
                    .collect::<io::Result<_>>()?
            };
            let done = Done {
                id: order.id,
                read: head.came,
                wrote: now(),
                calls,
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            self.log.note(&done)?;
        }
        Ok(())
    }

    /// The calls of one request, each by a thread of its own.
    fn at_once(&self, order: &Order) -> io::Result<Vec<Called>> {
        thread::scope(|scope| {
            let calls: Vec<_> = (0..order.calls)
                .map(|_| {
                    scope.spawn(|| {
                        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                        let mut line = idle.pop();
                        drop(idle);
                        let span = self.call(order, &mut line)?;
                        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                        idle.extend(line);
                        Ok(span)
                    })
                })
                .collect();
            calls
                .into_iter()
                .map(|call| {
                    let panicked = |_| io::Error::other("a call panicked");
                    call.join().map_err(panicked)?
                })
                .collect()
        })
    }

    fn call(&self, order: &Order, line: &mut Option<Line>) -> io::Result<Called> {
        let (Next::Http(address) | Next::Tcp(address)) = self.next;
        let line = match line {
            Some(line) => line,
            None => line.insert(Line::open(address)?),
        };
        match self.next {
            Next::Http(host) => {
                let head = order.head(host);
                let sent = now();
                line.stream.write_all(head.as_bytes())?;
                let head = line.input.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                if head.status()? != 200 {
                    return Err(io::Error::other("a call was not answered with 200"));
                }
                line.input.drain(head.body(Body::Length(0))?)?;
                Ok(Called {
                    port: line.port,
                    sent,
                    came: head.came,
                })
            }
            Next::Tcp(_) => {
                let query = format!("{:<MESSAGE$}", order.query.as_micros());
                let sent = now();
                line.stream.write_all(query.as_bytes())?;
                let came = line.input.exactly(MESSAGE)?;
                Ok(Called {
                    port: line.port,
                    sent,
                    came: came.ok_or(io::ErrorKind::UnexpectedEof)?,
                })
            }
        }
    }
}

impl Line {
    fn open(address: std::net::SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let input = Input::new(stream.try_clone()?);
        let port = stream.local_addr()?.port();
        Ok(Self {
            port,
            stream,
            input,
        })
    }
}
