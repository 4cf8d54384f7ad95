//! What a socket tells once, remembered for the records that do not repeat it.

use hashbrown::HashMap;

use crate::decode::Socket;

/// Sockets by cookie, in two generations: when the young one is full the old one is forgotten and
/// the young one grows old. A socket in use moves back to the young one, so only sockets that were
/// silent for a whole generation are forgotten, and those introduce themselves again.
#[derive(Debug)]
pub struct Sockets {
    young: HashMap<u64, Socket>,
    old: HashMap<u64, Socket>,
    cap: usize,
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new(Self::CAP)
    }
}

impl Sockets {
    /// Sockets of one generation, 72 bytes each: more than a node has in use at a time.
    pub const CAP: usize = 65_536;

    /// An empty table of two generations of `cap` sockets.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            cap,
        }
    }

    /// Notes what a socket told.
    pub fn introduce(&mut self, cookie: u64, socket: Socket) {
        if self.young.len() >= self.cap && !self.young.contains_key(&cookie) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cookie, socket);
    }

    /// What the socket told.
    pub fn find(&mut self, cookie: u64) -> Option<&Socket> {
        if !self.young.contains_key(&cookie) {
            let socket = self.old.remove(&cookie)?;
            self.introduce(cookie, socket);
        }
        self.young.get(&cookie)
    }
}
