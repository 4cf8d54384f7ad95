//! A wire between the veth of one pod and the bridge: frames are carried by this process, which holds
//! them up. In the node's namespace, so that they pass the veths as always.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hoptrace_lab::{Lab, Pod, netns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than any frame of the lab.
const FRAME: usize = 2048;

/// While it stands, every frame of the pod is late, in both directions.
pub(crate) struct Wire {
    node: String,
    veth: String,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    pub(crate) fn between(lab: &Lab, pod: Pod, delay: Duration) -> Self {
        let node = lab.node_netns();
        let ends = ["ht-near", "ht-far"];
        let devices = netns::within(&node, || Ok(ends.map(tap))).unwrap();
        let veth = format!("veth-{}", pod.short());
        for command in [
            "link add br1 type bridge",
            "link set br1 up",
            "link set ht-near master br0 up",
            "link set ht-far master br1 up",
            &format!("link set {veth} master br1"),
        ] {
            super::ip(&node, command);
        }
        let [near, far] = devices.map(Arc::new);
        let over = Arc::new(AtomicBool::new(false));
        let threads = [(&near, &far), (&far, &near)].into_iter();
        let threads = threads.flat_map(|(from, to)| carry(from, to, delay, &over));
        Self {
            threads: threads.collect(),
            node,
            veth,
            over,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        super::ip(&self.node, &format!("link set {} master br0", self.veth));
        super::ip(&self.node, "link del br1");
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// A TAP device in the namespace of this thread; it goes when its descriptor is closed.
fn tap(name: &str) -> File {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    // SAFETY: plain numbers and unions of such: all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI).unwrap();
    // SAFETY: the descriptor is open, and TUNSETIFF takes a pointer to such a structure.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    device
}

/// One thread takes frames with the time at which they are due, one waits for that.
fn carry(
    from: &Arc<File>,
    to: &Arc<File>,
    delay: Duration,
    over: &Arc<AtomicBool>,
) -> [JoinHandle<()>; 2] {
    let (give, take) = channel();
    let (from, to, over) = (Arc::clone(from), Arc::clone(to), Arc::clone(over));
    [
        thread::spawn(move || receive(&from, &give, delay, &over)),
        thread::spawn(move || send(&to, &take)),
    ]
}

type Frame = (Instant, Vec<u8>);

fn receive(mut from: &File, give: &Sender<Frame>, delay: Duration, over: &AtomicBool) {
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut buffer = [0; FRAME];
    while !over.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(from, PollFlags::IN)];
        if matches!(poll(&mut ready, Some(&look)), Ok(1)) {
            let Ok(count) = from.read(&mut buffer) else {
                return;
            };
            let _ended = give.send((Instant::now() + delay, buffer[..count].to_vec()));
        }
    }
}

fn send(mut to: &File, take: &Receiver<Frame>) {
    for (due, frame) in take {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A device that is down drops it, as a wire would that is cut.
        let _sent = to.write(&frame);
    }
}
