//! Which service an address belongs to.

use super::facts::{Service, ServicePort, Slice, TargetPort, Uid};
use super::store::text;
use crate::model::Workload;
use hashbrown::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Answers of [`Services::of_pod`] that are remembered.
const MAX_ANSWERS: usize = 8_192;

/// An endpoint that a slice holds: address, pod and workload.
type Held = (IpAddr, Uid, Arc<Workload>);

struct ServiceEntry {
    name: Arc<str>,
    namespace: Arc<str>,
    vips: Vec<IpAddr>,
    ports: Vec<ServicePort>,
    selector: Vec<(Arc<str>, Arc<str>)>,
    epoch: u32,
}

struct SliceEntry {
    service: Arc<str>,
    ports: Vec<u16>,
    /// Every address, also of endpoints that are no pods.
    ips: Vec<IpAddr>,
    held: Vec<Held>,
    epoch: u32,
}

/// Services and EndpointSlices.
#[derive(Default)]
pub(super) struct Services {
    services: HashMap<Uid, ServiceEntry>,
    by_namespace: HashMap<Arc<str>, Vec<Uid>>,
    /// By virtual address and port; by port 0 for the address as a whole.
    vips: HashMap<SocketAddr, Uid>,
    node_ports: HashMap<u16, Uid>,
    slices: HashMap<Uid, SliceEntry>,
    /// Slices that hold an address.
    endpoints: HashMap<IpAddr, Vec<Uid>>,
    /// What was found for a pod and a port.
    answers: HashMap<(Uid, u16), Option<Arc<str>>>,
}

impl Services {
    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    pub(super) fn slices(&self) -> usize {
        self.slices.len()
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        self.services.contains_key(&uid)
    }

    pub(super) fn has_slice(&self, uid: Uid) -> bool {
        self.slices.contains_key(&uid)
    }

    /// The service of a virtual address and port; of the address alone where no port matches.
    pub(super) fn by_vip(&self, address: SocketAddr) -> Option<Arc<str>> {
        let whole = SocketAddr::new(address.ip(), 0);
        let uid = self.vips.get(&address).or_else(|| self.vips.get(&whole))?;
        Some(Arc::clone(&self.services.get(uid)?.name))
    }

    /// The service that answers on a port of every node.
    pub(super) fn by_node_port(&self, port: u16) -> Option<Arc<str>> {
        let uid = self.node_ports.get(&port)?;
        Some(Arc::clone(&self.services.get(uid)?.name))
    }

    /// The service that selects a pod. Among several, one that leads to the port, rather one with a
    /// virtual address, and the first by name.
    pub(super) fn of_pod(
        &mut self,
        uid: Uid,
        port: u16,
        namespace: &str,
        labels: &[(Arc<str>, Arc<str>)],
    ) -> Option<Arc<str>> {
        if let Some(answer) = self.answers.get(&(uid, port)) {
            return answer.clone();
        }
        let found = self.by_namespace.get(namespace).into_iter().flatten();
        let selecting = found
            .filter_map(|uid| self.services.get(uid))
            .filter(|service| service.selects(labels));
        let best = selecting.min_by(|a, b| a.rank(port).cmp(&b.rank(port)));
        let answer = best.map(|service| Arc::clone(&service.name));
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.clear();
        }
        self.answers.insert((uid, port), answer.clone());
        answer
    }

    /// The service whose slices hold an address: one that has the port, the first by name.
    pub(super) fn of_endpoint(&self, address: SocketAddr) -> Option<Arc<str>> {
        let uids = self.endpoints.get(&address.ip())?;
        let slices = uids.iter().filter_map(|uid| self.slices.get(uid));
        let named = slices.filter(|slice| !slice.service.is_empty());
        let rank = |slice: &&SliceEntry| {
            let misses = !slice.ports.contains(&address.port());
            (misses, Arc::clone(&slice.service))
        };
        Some(Arc::clone(&named.min_by_key(rank)?.service))
    }

    /// Whether a slice holds this endpoint.
    pub(super) fn has_endpoint(&self, ip: IpAddr, uid: Uid) -> bool {
        let slices = self.endpoints.get(&ip).into_iter().flatten();
        slices
            .filter_map(|slice| self.slices.get(slice))
            .any(|slice| slice.held.iter().any(|held| held.0 == ip && held.1 == uid))
    }

    pub(super) fn put(&mut self, service: Service, epoch: u32, texts: &mut HashSet<Arc<str>>) {
        self.remove(service.uid);
        let name = text(texts, &service.name);
        let namespace = text(texts, &service.namespace);
        let vips: Vec<_> = service.vips.iter().map(IpAddr::to_canonical).collect();
        for ip in &vips {
            let ports = service.ports.iter().map(|port| port.port);
            for port in ports.chain([0]) {
                self.vips.insert(SocketAddr::new(*ip, port), service.uid);
            }
        }
        for port in service.ports.iter().filter(|port| port.node_port != 0) {
            self.node_ports.insert(port.node_port, service.uid);
        }
        let peers = self.by_namespace.entry(Arc::clone(&namespace));
        peers.or_default().push(service.uid);
        let selector = service.selector.iter();
        let entry = ServiceEntry {
            name,
            namespace,
            vips,
            ports: service.ports,
            selector: selector
                .map(|(key, value)| (text(texts, key), text(texts, value)))
                .collect(),
            epoch,
        };
        self.services.insert(service.uid, entry);
    }

    pub(super) fn remove(&mut self, uid: Uid) {
        self.answers.clear();
        let Some(old) = self.services.remove(&uid) else {
            return;
        };
        // Another service may have taken an address since.
        for ip in &old.vips {
            for port in old.ports.iter().map(|port| port.port).chain([0]) {
                let address = SocketAddr::new(*ip, port);
                if self.vips.get(&address) == Some(&uid) {
                    self.vips.remove(&address);
                }
            }
        }
        for port in &old.ports {
            if self.node_ports.get(&port.node_port) == Some(&uid) {
                self.node_ports.remove(&port.node_port);
            }
        }
        if let Some(peers) = self.by_namespace.get_mut(&old.namespace) {
            peers.retain(|peer| *peer != uid);
            if peers.is_empty() {
                self.by_namespace.remove(&old.namespace);
            }
        }
    }

    /// Takes a slice, and returns what its former state held.
    pub(super) fn put_slice(
        &mut self,
        slice: Slice,
        held: Vec<Held>,
        epoch: u32,
        texts: &mut HashSet<Arc<str>>,
    ) -> Vec<Held> {
        let old = self.remove_slice(slice.uid);
        let ips = slice.endpoints.iter().flat_map(|endpoint| &endpoint.ips);
        let ips: Vec<_> = ips.map(IpAddr::to_canonical).collect();
        for ip in &ips {
            let slices = self.endpoints.entry(*ip).or_default();
            if !slices.contains(&slice.uid) {
                slices.push(slice.uid);
            }
        }
        let entry = SliceEntry {
            service: text(texts, &slice.service),
            ports: slice.ports,
            ips,
            held,
            epoch,
        };
        self.slices.insert(slice.uid, entry);
        old
    }

    /// Removes a slice, and returns what it held.
    pub(super) fn remove_slice(&mut self, uid: Uid) -> Vec<Held> {
        let Some(old) = self.slices.remove(&uid) else {
            return Vec::new();
        };
        for ip in &old.ips {
            if let Some(slices) = self.endpoints.get_mut(ip) {
                slices.retain(|slice| *slice != uid);
                if slices.is_empty() {
                    self.endpoints.remove(ip);
                }
            }
        }
        old.held
    }

    /// Forgets what was found for a pod whose labels may have changed.
    pub(super) fn forget_pod(&mut self, uid: Uid) {
        if !self.answers.is_empty() {
            self.answers.retain(|(found, _), _| *found != uid);
        }
    }

    /// Services of a list that is over.
    pub(super) fn older(&self, old: impl Fn(u32) -> bool) -> Vec<Uid> {
        let services = self.services.iter();
        let old = services.filter(|(_, service)| old(service.epoch));
        old.map(|(uid, _)| *uid).collect()
    }

    /// Slices of a list that is over.
    pub(super) fn older_slices(&self, old: impl Fn(u32) -> bool) -> Vec<Uid> {
        let slices = self.slices.iter();
        let old = slices.filter(|(_, slice)| old(slice.epoch));
        old.map(|(uid, _)| *uid).collect()
    }
}

impl ServiceEntry {
    /// A service without a selector has endpoints that somebody else writes.
    fn selects(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|wanted| labels.contains(wanted))
    }

    /// The lower, the better.
    fn rank(&self, port: u16) -> (u8, bool, &str) {
        let leads = |found: &ServicePort| found.target == TargetPort::Number(port);
        let named = |found: &ServicePort| found.target == TargetPort::Name;
        let fit = if self.ports.iter().any(leads) {
            0
        } else if self.ports.iter().any(named) {
            1
        } else {
            2
        };
        (fit, self.vips.is_empty(), &self.name)
    }
}
