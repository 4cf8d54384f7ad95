//! What a pod runs beside its app, and how it gets to an agent that listens on the host's loopback address.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::netns;
use crate::spawn::{self, Place};
use crate::topology::{Container, Pod};

/// Root: what is run is a tool of ours, and may have to write its files.
const USER: u32 = 0;

impl Lab {
    /// Starts a program in a pod's app container.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_in(&self, pod: Pod, command: &mut Command) -> Result<Child> {
        let place = Place {
            netns: &pod.netns(&self.state().name),
            cgroup: Some(&self.container_cgroup(pod, Container::App)),
            user: USER,
        };
        spawn::spawn(command, place)
    }

    /// Makes an address of the host one of the pod's own loopback, for as long as what is returned lives.
    ///
    /// # Errors
    /// The pod's namespace cannot be entered.
    pub fn reach(&self, pod: Pod, to: SocketAddr) -> Result<Reach> {
        let netns = pod.netns(&self.state().name);
        let listen =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen in a pod");
        // A socket stays in the namespace in which it was made.
        let listener = netns::within(&netns, listen)?;
        let address = listener
            .local_addr()
            .context("a listener without an address")?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let relay = thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // Who asked sees a closed connection.
                let _failed = client.and_then(|client| pass(&client, to));
            }
        });
        Ok(Reach {
            address,
            netns,
            over,
            relay: Some(relay),
        })
    }
}

/// One question and its answer.
fn pass(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    let (mut question, mut onward) = (client.try_clone()?, server.try_clone()?);
    let asking = thread::spawn(move || {
        let _ended = io::copy(&mut question, &mut onward);
        let _closed = onward.shutdown(Shutdown::Write);
    });
    io::copy(&mut &server, &mut &*client)?;
    let _closed = client.shutdown(Shutdown::Both);
    let _ended = asking.join();
    Ok(())
}

/// An address of the host in a pod. Dropping it ends it.
#[derive(Debug)]
pub struct Reach {
    address: SocketAddr,
    netns: String,
    over: Arc<AtomicBool>,
    relay: Option<JoinHandle<()>>,
}

impl Reach {
    /// As the pod has it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let address = self.address;
        let wake = || TcpStream::connect(address).context("the relay is gone");
        let woken = netns::within(&self.netns, wake).is_ok();
        if let (true, Some(relay)) = (woken, self.relay.take()) {
            let _ended = relay.join();
        }
    }
}
