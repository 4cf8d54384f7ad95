//! What a socket tells once, remembered for the records that do not repeat it.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::decode::Socket;

/// Sockets by cookie, in two generations: when the young one is full the old one is forgotten and
/// the young one grows old. A socket in use moves back to the young one, so only sockets that were
/// silent for a whole generation are forgotten, and those introduce themselves again.
#[derive(Debug)]
pub struct Sockets {
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
    cap: usize,
    missed: u64,
}

#[derive(Debug)]
struct Known {
    socket: Arc<Socket>,
    /// Ordinal of the exchange that comes next.
    next: u32,
    /// Stream position at which its last exchange's response ended, as far as was known then.
    end: Option<u32>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new(Self::CAP)
    }
}

impl Sockets {
    /// Sockets of one generation, about 180 bytes each: both are 12 MB when full, with twice the
    /// sockets that a busy node has in use at a time.
    pub const CAP: usize = 32_768;

    /// An empty table of two generations of `cap` sockets.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            cap,
            missed: 0,
        }
    }

    /// Exchanges of known sockets that were counted by the kernel side and never came: what the
    /// ring lost, told by the numbers of those that did come.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Notes what a socket told with its exchange number `index`.
    pub fn introduce(&mut self, cookie: u64, index: u32, socket: Socket) {
        if !self.young.contains_key(&cookie) {
            // Not known there either, or grown young again.
            let _known = self.rejuvenate(cookie);
        }
        if let Some(known) = self.young.get_mut(&cookie) {
            if *known.socket != socket {
                known.socket = Arc::new(socket);
            }
            return;
        }
        self.insert(
            cookie,
            Known {
                socket: Arc::new(socket),
                next: index,
                end: None,
            },
        );
    }

    /// What the socket of exchange number `index` told, and where its last response ended, if that
    /// exchange came too. `end` is where the response of this one ends.
    pub fn find(
        &mut self,
        cookie: u64,
        index: u32,
        end: u32,
    ) -> Option<(Arc<Socket>, Option<u32>)> {
        if !self.young.contains_key(&cookie) {
            self.rejuvenate(cookie)?;
        }
        let known = self.young.get_mut(&cookie)?;
        let last = known.end.replace(end).filter(|_| known.next == index);
        self.missed += u64::from(index.saturating_sub(known.next));
        known.next = index.wrapping_add(1);
        Some((Arc::clone(&known.socket), last))
    }

    /// What a socket told, if it is known.
    #[must_use]
    pub fn peek(&self, cookie: u64) -> Option<&Arc<Socket>> {
        let known = self.young.get(&cookie).or_else(|| self.old.get(&cookie));
        known.map(|known| &known.socket)
    }

    fn rejuvenate(&mut self, cookie: u64) -> Option<()> {
        let known = self.old.remove(&cookie)?;
        self.insert(cookie, known);
        Some(())
    }

    fn insert(&mut self, cookie: u64, known: Known) {
        if self.young.len() >= self.cap {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cookie, known);
    }
}
