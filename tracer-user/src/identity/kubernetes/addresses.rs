//! Whose an address was, and when.

use super::facts::Uid;
use crate::model::{Ktime, Workload};
use hashbrown::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How long it is remembered whose an address was: exchanges are told about half a second after
/// they are over, and later when the agent is short of processor time.
pub(super) const HISTORY_NS: u64 = 60 * 1_000_000_000;
/// Former owners of one address that are remembered.
const MAX_HISTORY: usize = 4;

/// Who says that an address is theirs.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// The pod.
    pub(super) uid: Uid,
    /// Its workload.
    pub(super) workload: Arc<Workload>,
    /// Seconds since 1970 of the pod's creation, 0 when unknown.
    pub(super) created: i64,
    /// Whether the workload was read off the pod's name.
    pub(super) by_name: bool,
}

struct Owner {
    claim: Claim,
    /// When it ended; `Ktime::MAX` while it lasts.
    until: Ktime,
}

struct Entry {
    last: Owner,
    /// Earlier owners, the latest last.
    former: Vec<Owner>,
}

/// Owners of pod addresses.
#[derive(Default)]
pub(super) struct Addresses {
    entries: HashMap<IpAddr, Entry>,
}

impl Addresses {
    /// Notes whose an address is. Between two the younger pod has it: the older one is dead, and
    /// the API has not told so yet.
    pub(super) fn claim(&mut self, ip: IpAddr, claim: Claim, now: Ktime) {
        let Some(entry) = self.entries.get_mut(&ip) else {
            let last = Owner {
                claim,
                until: Ktime::MAX,
            };
            let former = Vec::new();
            self.entries.insert(ip, Entry { last, former });
            return;
        };
        if entry.last.claim.uid == claim.uid {
            // It had given it up by mistake: a list that came between two others.
            entry.last.until = Ktime::MAX;
            if !claim.by_name {
                entry.last.claim = claim;
            }
            return;
        }
        let older = claim.created != 0 && claim.created < entry.last.claim.created;
        let outlived = older
            || entry
                .former
                .iter()
                .any(|owner| owner.claim.uid == claim.uid);
        if outlived {
            return;
        }
        let next = Owner {
            claim,
            until: Ktime::MAX,
        };
        let mut old = std::mem::replace(&mut entry.last, next);
        old.until = old.until.min(now);
        if entry.former.len() >= MAX_HISTORY {
            entry.former.remove(0);
        }
        entry.former.push(old);
    }

    /// Notes that an address is a pod's no more.
    pub(super) fn release(&mut self, ip: IpAddr, uid: Uid, now: Ktime) {
        if let Some(entry) = self.entries.get_mut(&ip)
            && entry.last.claim.uid == uid
        {
            entry.last.until = entry.last.until.min(now);
        }
    }

    /// Whose the address was at `at`. What came between the end of one owner and the news of the
    /// next was the next one's: its processes may speak before the API tells their address.
    pub(super) fn owner(&self, ip: IpAddr, at: Ktime) -> Option<&Claim> {
        let entry = self.entries.get(&ip)?;
        let mut owners = entry.former.iter().chain([&entry.last]);
        let owner = owners.find(|owner| at < owner.until)?;
        Some(&owner.claim)
    }

    /// Forgets owners whose time was over [`HISTORY_NS`] before `now`.
    pub(super) fn expire(&mut self, ip: IpAddr, now: Ktime) {
        let Some(entry) = self.entries.get_mut(&ip) else {
            return;
        };
        let over = |owner: &Owner| owner.until.saturating_add(HISTORY_NS) <= now;
        if over(&entry.last) {
            self.entries.remove(&ip);
            return;
        }
        entry.former.retain(|owner| !over(owner));
    }
}
