//! `hoptrace-relay`: an inbound sidecar of one page, where an Envoy is too much.
//!
//! To the tracer it looks like one: it accepts on 15006 and speaks to its app from 127.0.0.6. Each
//! connection has a thread of its own that both reads and writes, as a connection of an Envoy has a
//! worker.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;
use clap::Parser;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Where an inbound sidecar of Istio's speaks to its app from.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// Pass TCP connections on to an app, as an inbound sidecar does.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address and port
    #[arg(long, default_value = "0.0.0.0:15006")]
    listen: SocketAddr,
    /// The app, on a loopback address
    #[arg(long, default_value = "127.0.0.1:8080")]
    app: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let Arguments { listen, app } = Arguments::parse();
    let listener =
        TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    eprintln!("hoptrace-relay listens on {listen}");
    for client in listener.incoming() {
        let client = client.context("cannot accept")?;
        thread::spawn(move || {
            if let Err(error) = relay(client, app) {
                eprintln!("hoptrace-relay: {error:#}");
            }
        });
    }
    Ok(())
}

fn relay(mut client: TcpStream, app: SocketAddr) -> anyhow::Result<()> {
    let mut upstream = dial(app).with_context(|| format!("cannot connect to {app}"))?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut ready = [
            PollFd::new(&client, PollFlags::IN),
            PollFd::new(&upstream, PollFlags::IN),
        ];
        poll(&mut ready, None)?;
        let [from_client, from_app] = ready.map(|fd| !fd.revents().is_empty());
        // Whoever closes first ends both: nobody here half-closes.
        if from_client && !pass(&mut client, &mut upstream, &mut buffer)? {
            return Ok(());
        }
        if from_app && !pass(&mut upstream, &mut client, &mut buffer)? {
            return Ok(());
        }
    }
}

/// Passes on what is there; false at the end.
fn pass(from: &mut TcpStream, to: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<bool> {
    let read = from.read(buffer)?;
    to.write_all(buffer.get(..read).unwrap_or_default())?;
    Ok(read > 0)
}

fn dial(app: SocketAddr) -> rustix::io::Result<TcpStream> {
    let family = AddressFamily::INET;
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::from((FROM, 0)))?;
    connect(&socket, &app)?;
    Ok(socket.into())
}
