//! What is known of the cluster: changes in, names out. No I/O and no clock.
//!
//! A name is given only to whom it belongs: by the uid in a cgroup's path, which never comes back,
//! or by an address and the moment of the exchange, because addresses do come back.

use super::addresses::{self, Addresses, Claim};
use super::facts::{Change, Container, ContainerId, Feed, Object, Pod, Slice, Uid, Update};
use super::nodes::Nodes;
use super::services::Services;
use crate::model::{Canonical, Gone, Ktime, Workload};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Objects of one feed at most: a cluster is specified for 150,000 pods
/// (kubernetes.io, Considerations for large clusters).
const MAX_OBJECTS: usize = 200_000;
/// A pod of this node that is gone stays known by its uid this long: its last exchanges are told
/// after it.
const TOMBSTONE_NS: u64 = 300 * 1_000_000_000;
/// Changes after which texts that nobody uses are looked for.
const TIDY_EVERY: u32 = 4_096;

/// Labels of a pod, shared by the pods of one template.
type Labels = Box<[(Arc<str>, Arc<str>)]>;

struct PodEntry {
    workload: Arc<Workload>,
    labels: Arc<Labels>,
    ips: [Option<IpAddr>; 2],
    node: Option<(Arc<str>, IpAddr)>,
    /// Of pods of this node alone.
    local: Option<Box<Local>>,
    feed: Feed,
    epoch: u32,
    /// Whether it counts as one of its workload's.
    alive: bool,
}

struct Local {
    alias: Option<Uid>,
    containers: Vec<ContainerId>,
    /// When it went; it is a tombstone then.
    gone: Option<Ktime>,
}

/// How many pods a workload has.
struct Presence {
    pods: u32,
    /// When the last of them went.
    emptied: Ktime,
}

/// What is to be forgotten, and not before when.
enum Forget {
    Pod(Uid),
    Address(IpAddr),
    Workload(Arc<Workload>),
}

/// The objects of every feed, by what they are asked for.
pub struct Store {
    /// How long after its last pod a workload is told to be gone, nanoseconds.
    grace_ns: u64,
    sidecars: Vec<String>,
    texts: HashSet<Arc<str>>,
    label_sets: HashSet<Arc<Labels>>,
    pods: HashMap<Uid, PodEntry>,
    /// Static pods, by the hash that names their cgroup.
    aliases: HashMap<Uid, Uid>,
    /// Containers of this node: their pod, and whether they are sidecars.
    containers: HashMap<ContainerId, (Uid, bool)>,
    workloads: HashMap<Arc<Workload>, Presence>,
    addresses: Addresses,
    services: Services,
    nodes: Nodes,
    due: BTreeMap<Ktime, Vec<Forget>>,
    epochs: [u32; Feed::ALL.len()],
    listed: [bool; Feed::ALL.len()],
    refused: [u64; Feed::ALL.len()],
    untidy: u32,
}

impl Store {
    /// An empty store. `sidecars` are names of containers, `grace_ns` is how long after its last
    /// pod a workload is told to be gone.
    #[must_use]
    pub fn new(sidecars: Vec<String>, grace_ns: u64) -> Self {
        Self {
            grace_ns,
            sidecars,
            texts: HashSet::new(),
            label_sets: HashSet::new(),
            pods: HashMap::new(),
            aliases: HashMap::new(),
            containers: HashMap::new(),
            workloads: HashMap::new(),
            addresses: Addresses::default(),
            services: Services::default(),
            nodes: Nodes::default(),
            due: BTreeMap::new(),
            epochs: [0; Feed::ALL.len()],
            listed: [false; Feed::ALL.len()],
            refused: [0; Feed::ALL.len()],
            untidy: 0,
        }
    }

    /// Takes a change that was heard of at `now`.
    pub fn apply(&mut self, update: Update, now: Ktime) {
        let Update { feed, change } = update;
        match change {
            Change::Restart => {
                if let Some(epoch) = self.epochs.get_mut(feed as usize) {
                    *epoch = epoch.wrapping_add(1);
                }
            }
            Change::Listed => {
                self.set_listed(feed, true);
                self.sweep(feed, Some(self.epoch(feed)), now);
                self.tidy();
            }
            Change::Apply(object) => self.put(feed, object, now),
            Change::Delete(uid) => self.delete(feed, uid, now),
            Change::Forget => {
                self.set_listed(feed, false);
                self.sweep(feed, None, now);
            }
        }
        self.untidy += 1;
        if self.untidy >= TIDY_EVERY {
            self.tidy();
        }
    }

    /// Forgets what is due at `now`, and hands out the workloads without a pod for the grace time.
    pub fn expire(&mut self, now: Ktime) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= now) {
            for forget in first.remove() {
                match forget {
                    Forget::Pod(uid) => self.bury(uid, now),
                    Forget::Address(ip) => self.addresses.expire(ip, now),
                    Forget::Workload(workload) => gone.extend(self.end(workload, now)),
                }
            }
        }
        gone
    }

    /// The workload, when it still has no pod and has had none for long enough.
    fn end(&mut self, workload: Arc<Workload>, now: Ktime) -> Option<Gone> {
        let presence = self.workloads.get(&workload)?;
        if presence.pods > 0 || presence.emptied.saturating_add(self.grace_ns) > now {
            return None;
        }
        self.workloads.remove(&workload);
        // One that never had a pod alive is there as well, and nothing was told of it.
        let mut others = self.workloads.iter();
        let last = !others.any(|(other, presence)| {
            (presence.pods > 0 || presence.emptied > 0)
                && other.name == workload.name
                && other.namespace == workload.namespace
        });
        Some(Gone { workload, last })
    }

    fn forget_later(&mut self, due: Ktime, forget: Forget) {
        self.due.entry(due).or_default().push(forget);
    }

    /// The workload of a pod of this node, by its uid or the hash of its manifest.
    #[must_use]
    pub fn by_uid(&self, uid: Uid) -> Option<&Workload> {
        let found = self.pods.get(&uid);
        let pod = found.or_else(|| self.pods.get(self.aliases.get(&uid)?))?;
        // Names by uid are asked for cgroups of this node alone.
        pod.local.as_ref().map(|_| &*pod.workload)
    }

    /// The pod of a container of this node, and whether the container is a sidecar; `None` until
    /// the kubelet has told its id, some seconds after its start.
    #[must_use]
    pub fn by_container(&self, container: ContainerId) -> Option<(Uid, bool)> {
        self.containers.get(&container).copied()
    }

    /// The workload that had an address at the moment `at`. Addresses of nodes, which host-network
    /// pods share, belong to the node.
    #[must_use]
    pub fn by_ip(&self, ip: IpAddr, at: Ktime) -> Option<Workload> {
        let ip = ip.to_canonical();
        if let Some(node) = self.nodes.name(ip) {
            return Some(Workload::new(Arc::clone(node), "".into()));
        }
        let claim = self.addresses.owner(ip, at)?;
        if let Some(pod) = self.pods.get(&claim.uid) {
            return Some((*pod.workload).clone());
        }
        // Without the nodes it cannot be told which endpoints share the address of their node.
        let known = !claim.by_name || self.is_listed(Feed::Nodes);
        known.then(|| (*claim.workload).clone())
    }

    /// The service behind a virtual address, a node's port or a pod's address.
    #[must_use]
    pub fn service(&mut self, address: SocketAddr, at: Ktime) -> Option<Arc<str>> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if let Some(name) = self.services.by_vip(address) {
            return Some(name);
        }
        if self.nodes.name(address.ip()).is_some() {
            return self.services.by_node_port(address.port());
        }
        let uid = self
            .addresses
            .owner(address.ip(), at)
            .map(|claim| claim.uid);
        let by_labels = uid.and_then(|uid| {
            let pod = self.pods.get(&uid)?;
            let namespace = &pod.workload.namespace;
            self.services
                .of_pod(uid, address.port(), namespace, &pod.labels)
        });
        by_labels.or_else(|| self.services.of_endpoint(address))
    }

    /// Objects of a feed.
    #[must_use]
    pub fn objects(&self, feed: Feed) -> usize {
        match feed {
            Feed::NodePods | Feed::PeerPods => {
                self.pods.values().filter(|pod| pod.is_of(feed)).count()
            }
            Feed::Slices => self.services.slices(),
            Feed::Services => self.services.len(),
            Feed::Nodes => self.nodes.len(),
        }
    }

    /// Objects of a feed left out because there are 200,000 already.
    #[must_use]
    pub fn refused(&self, feed: Feed) -> u64 {
        self.refused.get(feed as usize).copied().unwrap_or(0)
    }

    /// Whether the first list of a feed is complete and it was not refused since.
    #[must_use]
    pub fn is_listed(&self, feed: Feed) -> bool {
        self.listed.get(feed as usize).copied().unwrap_or(false)
    }

    fn set_listed(&mut self, feed: Feed, listed: bool) {
        if let Some(found) = self.listed.get_mut(feed as usize) {
            *found = listed;
        }
    }

    fn epoch(&self, feed: Feed) -> u32 {
        self.epochs.get(feed as usize).copied().unwrap_or(0)
    }

    fn put(&mut self, feed: Feed, object: Object, now: Ktime) {
        let epoch = self.epoch(feed);
        let (known, objects) = match &object {
            Object::Pod(pod) => (self.pods.contains_key(&pod.uid), self.pods.len()),
            Object::Service(service) => (self.services.has(service.uid), self.services.len()),
            Object::Slice(slice) => (self.services.has_slice(slice.uid), self.services.slices()),
            Object::Node(node) => (self.nodes.has(node.uid), self.nodes.len()),
        };
        if objects >= MAX_OBJECTS && !known {
            if let Some(refused) = self.refused.get_mut(feed as usize) {
                *refused += 1;
            }
            return;
        }
        match object {
            Object::Pod(pod) => self.put_pod(feed, epoch, *pod, now),
            Object::Service(service) => self.services.put(*service, epoch, &mut self.texts),
            Object::Slice(slice) => self.put_slice(slice, epoch, now),
            Object::Node(node) => self.nodes.put(node, epoch, &mut self.texts),
        }
    }

    fn delete(&mut self, feed: Feed, uid: Uid, now: Ktime) {
        match feed {
            Feed::NodePods | Feed::PeerPods => {
                // A pod that got its node has moved to the other feed already.
                if self.pods.get(&uid).is_some_and(|pod| pod.is_of(feed)) {
                    self.remove_pod(uid, now);
                }
            }
            Feed::Services => self.services.remove(uid),
            Feed::Slices => self.remove_slice(uid, now),
            Feed::Nodes => self.nodes.remove(uid),
        }
    }

    /// Deletes what is not of this list; everything when there is none.
    fn sweep(&mut self, feed: Feed, epoch: Option<u32>, now: Ktime) {
        let old = |found: u32| epoch != Some(found);
        let uids: Vec<Uid> = match feed {
            Feed::NodePods | Feed::PeerPods => {
                let pods = self.pods.iter();
                let old = pods.filter(|(_, pod)| pod.is_of(feed) && old(pod.epoch));
                old.map(|(uid, _)| *uid).collect()
            }
            Feed::Services => self.services.older(old),
            Feed::Slices => self.services.older_slices(old),
            Feed::Nodes => self.nodes.older(old),
        };
        for uid in uids {
            self.delete(feed, uid, now);
        }
    }

    fn put_pod(&mut self, feed: Feed, epoch: u32, pod: Pod, now: Ktime) {
        let local = feed == Feed::NodePods;
        // A pod stays on its node: this is an older state of it, which the other feed told later.
        if !local
            && self
                .pods
                .get(&pod.uid)
                .is_some_and(|pod| pod.local.is_some())
        {
            return;
        }
        // Of a peer that is not placed yet, or is over, nothing will be asked.
        if !local && (pod.ended || (pod.ips.is_empty() && pod.node_ips.is_empty())) {
            self.delete(feed, pod.uid, now);
            return;
        }
        let canonical = Some((pod.service.as_str(), pod.revision.as_str()));
        let workload = self.workload(&pod.workload, &pod.namespace, canonical);
        let labels = self.labels(&pod.labels);
        let mut ips = [None; 2];
        if !pod.ended {
            for (slot, ip) in ips.iter_mut().zip(&pod.ips) {
                *slot = Some(ip.to_canonical());
            }
        }
        let node = pod.node_ips.first().map(|ip| {
            let name = text(&mut self.texts, &pod.node);
            (name, ip.to_canonical())
        });
        let node = node.filter(|(name, _)| !name.is_empty());
        if let Some((name, ip)) = &node {
            self.nodes.claim(*ip, name);
        }
        if !pod.ended {
            self.count(&workload);
        }
        let entry = PodEntry {
            workload: Arc::clone(&workload),
            labels,
            ips,
            node,
            local: local.then(|| self.local(&pod)),
            feed,
            epoch,
            alive: !pod.ended,
        };
        if let Some(old) = self.pods.insert(pod.uid, entry) {
            self.retract(pod.uid, &old, &ips, now);
        }
        if let Some(alias) = pod.alias.filter(|_| local) {
            self.aliases.insert(alias, pod.uid);
        }
        if local {
            self.name_containers(pod.uid, &pod.containers);
        }
        let claim = Claim {
            uid: pod.uid,
            workload,
            created: pod.created,
            by_name: false,
        };
        for ip in ips.into_iter().flatten() {
            self.addresses.claim(ip, claim.clone(), now);
        }
    }

    fn local(&self, pod: &Pod) -> Box<Local> {
        let ids = pod.containers.iter().flat_map(|container| container.ids);
        Box::new(Local {
            alias: pod.alias,
            containers: ids.flatten().collect(),
            gone: None,
        })
    }

    fn name_containers(&mut self, uid: Uid, containers: &[Container]) {
        for container in containers {
            let sidecar = self.sidecars.contains(&container.name);
            for id in container.ids.into_iter().flatten() {
                self.containers.insert(id, (uid, sidecar));
            }
        }
    }

    /// Takes back what a former state of a pod had, but for the addresses that it keeps.
    fn retract(&mut self, uid: Uid, old: &PodEntry, kept: &[Option<IpAddr>], now: Ktime) {
        for ip in old.ips.into_iter().flatten() {
            if !kept.contains(&Some(ip)) {
                self.release(ip, uid, now);
            }
        }
        if let Some((name, ip)) = &old.node {
            self.nodes.release(*ip, name);
        }
        if old.alive {
            self.uncount(&old.workload, now);
        }
        if let Some(local) = &old.local {
            for id in &local.containers {
                self.containers.remove(id);
            }
            // A mirror pod that was made anew has the same.
            if let Some(alias) = local.alias
                && self.aliases.get(&alias) == Some(&uid)
            {
                self.aliases.remove(&alias);
            }
        }
        self.services.forget_pod(uid);
    }

    fn remove_pod(&mut self, uid: Uid, now: Ktime) {
        let Some(mut pod) = self.pods.remove(&uid) else {
            return;
        };
        // What is told of it later, and its sidecars, are known by uid for a while.
        if let Some(local) = pod.local.take() {
            self.retract(uid, &pod, &[], now);
            let tombstone = PodEntry {
                ips: [None; 2],
                node: None,
                alive: false,
                local: Some(Box::new(Local {
                    gone: Some(now),
                    ..*local
                })),
                ..pod
            };
            self.pods.insert(uid, tombstone);
            self.forget_later(now.saturating_add(TOMBSTONE_NS), Forget::Pod(uid));
        } else {
            self.retract(uid, &pod, &[], now);
        }
    }

    /// Removes a tombstone, unless the pod has come back from a list that had missed it.
    fn bury(&mut self, uid: Uid, now: Ktime) {
        let gone = |pod: &PodEntry| {
            let gone = pod.local.as_ref().and_then(|local| local.gone);
            gone.is_some_and(|gone| gone.saturating_add(TOMBSTONE_NS) <= now)
        };
        if self.pods.get(&uid).is_some_and(gone)
            && let Some(pod) = self.pods.remove(&uid)
        {
            self.retract(uid, &pod, &[], now);
        }
    }

    fn put_slice(&mut self, slice: Slice, epoch: u32, now: Ktime) {
        let mut claims = Vec::with_capacity(slice.endpoints.len());
        for endpoint in &slice.endpoints {
            let (Some(uid), Some(name)) = (endpoint.pod, &endpoint.workload) else {
                continue;
            };
            let workload = self.workload(name, &slice.namespace, None);
            for ip in &endpoint.ips {
                claims.push((ip.to_canonical(), uid, Arc::clone(&workload)));
            }
        }
        for (_, _, workload) in &claims {
            self.count(workload);
        }
        for (ip, uid, workload) in &claims {
            let claim = Claim {
                uid: *uid,
                workload: Arc::clone(workload),
                created: 0,
                by_name: true,
            };
            self.addresses.claim(*ip, claim, now);
        }
        let old = self
            .services
            .put_slice(slice, claims, epoch, &mut self.texts);
        self.retract_slice(old, now);
    }

    fn remove_slice(&mut self, uid: Uid, now: Ktime) {
        let old = self.services.remove_slice(uid);
        self.retract_slice(old, now);
    }

    fn retract_slice(&mut self, old: Vec<(IpAddr, Uid, Arc<Workload>)>, now: Ktime) {
        for (ip, uid, workload) in old {
            self.uncount(&workload, now);
            // Another slice may still hold the endpoint, and so may the pod itself.
            let pod = self.pods.get(&uid);
            let has = pod.is_some_and(|pod| pod.ips.contains(&Some(ip)));
            if !has && !self.services.has_endpoint(ip, uid) {
                self.release(ip, uid, now);
            }
        }
    }

    fn release(&mut self, ip: IpAddr, uid: Uid, now: Ktime) {
        self.addresses.release(ip, uid, now);
        let due = now.saturating_add(addresses::HISTORY_NS);
        self.forget_later(due, Forget::Address(ip));
    }

    fn count(&mut self, workload: &Arc<Workload>) {
        if let Some(presence) = self.workloads.get_mut(workload) {
            presence.pods += 1;
        }
    }

    fn uncount(&mut self, workload: &Arc<Workload>, now: Ktime) {
        let Some(presence) = self.workloads.get_mut(workload) else {
            return;
        };
        presence.pods = presence.pods.saturating_sub(1);
        if presence.pods == 0 {
            presence.emptied = now;
            let due = now.saturating_add(self.grace_ns);
            self.forget_later(due, Forget::Workload(Arc::clone(workload)));
        }
    }

    /// The shared form of a workload.
    fn workload(
        &mut self,
        name: &str,
        namespace: &str,
        canonical: Option<(&str, &str)>,
    ) -> Arc<Workload> {
        let mut shared = |shown| text(&mut self.texts, shown);
        let canonical = canonical.map(|(service, revision)| Canonical {
            service: shared(service),
            revision: shared(revision),
        });
        let workload = Workload {
            canonical: canonical.map(Arc::new),
            ..Workload::new(shared(name), shared(namespace))
        };
        if let Some((found, _)) = self.workloads.get_key_value(&workload) {
            return Arc::clone(found);
        }
        let workload = Arc::new(workload);
        let nobody = Presence {
            pods: 0,
            emptied: 0,
        };
        self.workloads.insert(Arc::clone(&workload), nobody);
        workload
    }

    fn labels(&mut self, labels: &[(String, String)]) -> Arc<Labels> {
        let labels: Labels = labels
            .iter()
            .map(|(key, value)| (text(&mut self.texts, key), text(&mut self.texts, value)))
            .collect();
        if let Some(found) = self.label_sets.get(&labels) {
            return Arc::clone(found);
        }
        let labels = Arc::new(labels);
        self.label_sets.insert(Arc::clone(&labels));
        labels
    }

    /// Forgets shared values that nobody shares any more.
    fn tidy(&mut self) {
        self.untidy = 0;
        self.label_sets
            .retain(|labels| Arc::strong_count(labels) > 1);
        // One that never had a pod alive is in no queue.
        self.workloads
            .retain(|workload, presence| presence.pods > 0 || Arc::strong_count(workload) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

impl PodEntry {
    /// Whether it is one of a feed's objects; tombstones are not.
    fn is_of(&self, feed: Feed) -> bool {
        let gone = |local: &Local| local.gone.is_some();
        self.feed == feed && !self.local.as_deref().is_some_and(gone)
    }
}

/// The shared form of a text.
pub(super) fn text(texts: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    Arc::clone(texts.get_or_insert_with(text, |text| Arc::from(text)))
}
