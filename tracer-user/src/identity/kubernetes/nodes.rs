//! Names of nodes by their addresses: told by the nodes themselves, or by the pods on them.

use super::facts::{Node, Uid};
use super::store::text;
use hashbrown::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

struct NodeEntry {
    name: Arc<str>,
    ips: Vec<IpAddr>,
    epoch: u32,
}

/// Nodes, and the addresses that host-network pods share with them.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: HashMap<Uid, NodeEntry>,
    /// Name, and the number of objects that tell so.
    by_ip: HashMap<IpAddr, (Arc<str>, u32)>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        self.nodes.contains_key(&uid)
    }

    /// The node that has an address.
    pub(super) fn name(&self, ip: IpAddr) -> Option<&Arc<str>> {
        Some(&self.by_ip.get(&ip)?.0)
    }

    pub(super) fn put(&mut self, node: Node, epoch: u32, texts: &mut HashSet<Arc<str>>) {
        let name = text(texts, &node.name);
        let ips: Vec<_> = node.ips.iter().map(IpAddr::to_canonical).collect();
        for ip in &ips {
            self.claim(*ip, &name);
        }
        let old = self.nodes.insert(node.uid, NodeEntry { name, ips, epoch });
        self.retract(old);
    }

    pub(super) fn remove(&mut self, uid: Uid) {
        let old = self.nodes.remove(&uid);
        self.retract(old);
    }

    fn retract(&mut self, old: Option<NodeEntry>) {
        if let Some(entry) = old {
            for ip in &entry.ips {
                self.release(*ip, &entry.name);
            }
        }
    }

    /// Nodes of a list that is over.
    pub(super) fn older(&self, old: impl Fn(u32) -> bool) -> Vec<Uid> {
        let nodes = self.nodes.iter();
        let old = nodes.filter(|(_, node)| old(node.epoch));
        old.map(|(uid, _)| *uid).collect()
    }

    /// Notes that one more object tells whose an address is.
    pub(super) fn claim(&mut self, ip: IpAddr, name: &Arc<str>) {
        let nobody = || (Arc::clone(name), 0);
        let entry = self.by_ip.entry(ip).or_insert_with(nobody);
        if entry.0 == *name {
            entry.1 += 1;
        } else {
            // A new node with the address of an old one.
            *entry = (Arc::clone(name), 1);
        }
    }

    /// Takes that back.
    pub(super) fn release(&mut self, ip: IpAddr, name: &Arc<str>) {
        if let Some((found, count)) = self.by_ip.get_mut(&ip)
            && *found == *name
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_ip.remove(&ip);
            }
        }
    }
}
