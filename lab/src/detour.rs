//! A detour between two pods: what they send each other goes through this process, which holds it up
//! when asked to.
//!
//! Each pod gets a TUN device and a route through it to the other. Packets are carried from one device to
//! the other as they are, so connections keep their addresses and ports, and those that are open stay open.
//! The kernel removes devices and routes when their descriptors are closed, however this process ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::Lab;
use crate::netns;
use crate::topology::Pod;

/// The name of both devices.
const DEVICE: &str = "ht-detour";
/// The largest packet that a device hands over.
const MTU: usize = 1500;
/// Packets on their way in one direction; beyond, they are dropped as any router would, and counted.
const QUEUE: usize = 4096;
/// How long the end of a detour may go unnoticed.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// While it stands, packets between two pods are carried by this process.
#[derive(Debug)]
pub struct Detour {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Of each packet, nanoseconds.
    delay: AtomicU64,
    over: AtomicBool,
    carried: AtomicU64,
    dropped: AtomicU64,
}

impl Lab {
    /// Leads IPv4 packets between two pods through this process, until the guard is dropped.
    ///
    /// # Errors
    /// There is no `/dev/net/tun`, or devices and routes cannot be made.
    pub fn detour(&self, one: Pod, other: Pod) -> Result<Detour> {
        let device = |from: Pod, to: Pod| {
            let netns = from.netns(&self.state.name);
            let device = netns::within(&netns, open)
                .with_context(|| format!("cannot make a TUN device in {netns}"))?;
            // A redirection to the sidecar goes to the address of the device that a packet came by
            // (`nf_nat_redirect_ipv4` in net/netfilter/nf_nat_redirect.c), so it has the pod's too.
            netns::batch(
                Some(&netns),
                &format!(
                    "addr add {}/32 dev {DEVICE}\n\
                     link set {DEVICE} mtu {MTU} up\n\
                     route add {}/32 dev {DEVICE} src {}\n",
                    from.ip_v4(),
                    to.ip_v4(),
                    from.ip_v4()
                ),
            )?;
            Ok::<_, anyhow::Error>(Arc::new(device))
        };
        let (one, other) = (device(one, other)?, device(other, one)?);
        let shared = Arc::new(Shared::default());
        let threads = [(&one, &other), (&other, &one)]
            .into_iter()
            .flat_map(|(from, to)| carry(from, to, &shared))
            .collect();
        Ok(Detour { shared, threads })
    }
}

impl Detour {
    /// From now on every packet, in either direction, arrives so much later.
    pub fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.shared.delay.store(delay, Ordering::Relaxed);
    }

    /// Packets that arrived so far, and packets that were dropped.
    #[must_use]
    pub fn packets(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.carried), count(&self.shared.dropped))
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("warning: a thread of the detour panicked");
            }
        }
    }
}

/// A TUN device in the network namespace of this thread, without the extra header.
fn open() -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    // SAFETY: the structure is plain numbers and unions of such: all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // Both fit: see linux/if_tun.h.
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF takes a pointer to such a structure, which lives
    // until the call returns.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error()).context("TUNSETIFF");
    }
    Ok(file)
}

/// Two threads for one direction: one takes packets with the time at which they are due, one waits for that
/// and hands them over. In order, as on a wire.
fn carry(from: &Arc<File>, to: &Arc<File>, shared: &Arc<Shared>) -> [JoinHandle<()>; 2] {
    let (give, take) = mpsc::sync_channel(QUEUE);
    let reading = (Arc::clone(from), Arc::clone(shared));
    let writing = (Arc::clone(to), Arc::clone(shared));
    [
        thread::spawn(move || receive(&reading.0, &give, &reading.1)),
        thread::spawn(move || send(&writing.0, &take, &writing.1)),
    ]
}

type Packet = (Instant, Vec<u8>);

fn receive(mut from: &File, give: &SyncSender<Packet>, shared: &Shared) {
    let mut buffer = [0; MTU];
    while !shared.over.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(from, PollFlags::IN)];
        if !matches!(poll(&mut ready, Some(&LOOK)), Ok(1)) {
            continue;
        }
        // The device is gone when its namespace is: then there is nothing more to carry.
        let Ok(count) = from.read(&mut buffer) else {
            return;
        };
        let packet = buffer.get(..count).unwrap_or_default();
        if packet.first().is_none_or(|first| first >> 4 != 4) {
            // What IPv6 says on a new device is for nobody.
            continue;
        }
        let delay = Duration::from_nanos(shared.delay.load(Ordering::Relaxed));
        if give
            .try_send((Instant::now() + delay, packet.to_vec()))
            .is_err()
        {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn send(mut to: &File, take: &Receiver<Packet>, shared: &Shared) {
    // Ends when the other thread did.
    for (due, packet) in take {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::sleep(left);
        }
        let counter = match to.write_all(&packet) {
            Ok(()) => &shared.carried,
            Err(_) => &shared.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
