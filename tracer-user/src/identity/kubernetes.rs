//! Names from the Kubernetes API.
//!
//! `watch` asks the API in a thread of its own, `objects` prunes what it answers to `facts`, and
//! `store` turns those into names, without I/O. Between the threads there is a queue; whoever asks
//! for a name waits for nobody.

mod addresses;
pub mod api;
pub mod facts;
mod nodes;
mod objects;
mod services;
pub mod status;
pub mod store;
pub mod watch;
mod workload;

use super::IdentityOptions;
use super::naming::{self, CgroupName};
use super::processes::Processes;
use super::tree::CgroupTree;
use crate::memory;
use crate::model::{Gone, Identity, Ktime, Workload};
use facts::{Change, ContainerId, Feed, Uid, Update};
use hashbrown::HashMap;
use status::Status;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::mpsc::Receiver;

/// Cgroups remembered: more than a node has containers.
const MAX_CGROUPS: usize = 32_768;
/// Changes taken at a time, some microseconds each: a list of a large cluster must not keep the
/// ring from being drained.
const BATCH: usize = 4_096;
/// How long after a list what it took is given back: both threads are through with it then.
const GIVE_BACK_AFTER_NS: u64 = 2_000_000_000;
/// How often objects are counted at most.
const COUNT_EVERY_NS: u64 = 1_000_000_000;

/// What a cgroup's path tells.
#[derive(Clone)]
enum Cgroup {
    /// Pods and containers, the innermost first.
    Pod {
        uids: Vec<Uid>,
        containers: Vec<ContainerId>,
        /// Its name while the API does not tell the pod.
        meanwhile: Workload,
    },
    /// A process of the node itself.
    Node(Option<Workload>),
}

/// Names of pods by cgroup and address, as the API tells them; of everything else as without it.
pub struct KubernetesIdentity {
    updates: Receiver<Update>,
    store: Store,
    status: Arc<Status>,
    tree: CgroupTree,
    processes: Processes,
    proxy_uid: u32,
    cgroups: HashMap<u64, Cgroup>,
    /// Since when there are changes that were not counted.
    uncounted: Option<Ktime>,
    /// Cgroups that were named by their path, and since when the API has told their pod.
    meanwhile: HashMap<u64, Option<Ktime>>,
    grace_ns: u64,
    /// When memory is to be given back.
    give_back: Option<Ktime>,
    /// Pods that were told by their uid alone, for one line in the log.
    nameless: bool,
    empty: Arc<str>,
}

impl KubernetesIdentity {
    /// Names from what `updates` tells. `sidecars` are names of containers, `grace` is how long
    /// after its last pod a workload is told to be gone.
    #[must_use]
    pub fn new(
        updates: Receiver<Update>,
        status: Arc<Status>,
        sidecars: Vec<String>,
        grace: Duration,
        options: &IdentityOptions,
    ) -> Self {
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        Self {
            updates,
            store: Store::new(sidecars, grace_ns),
            status,
            tree: CgroupTree::new(options.cgroup_root.clone()),
            processes: Processes::new(options.proc_root.clone(), options.proxy_names.clone()),
            proxy_uid: options.proxy_uid,
            cgroups: HashMap::new(),
            uncounted: None,
            meanwhile: HashMap::new(),
            grace_ns,
            give_back: None,
            nameless: false,
            empty: "".into(),
        }
    }

    /// Whether there is nothing to wait for: every list is here, or the API does not give it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.status.is_settled() && self.updates.is_empty()
    }

    /// Counts the objects of every feed.
    pub fn count(&self) {
        for feed in Feed::ALL {
            let (objects, refused) = (self.store.objects(feed), self.store.refused(feed));
            self.status.set_objects(feed, objects, refused);
        }
    }

    /// Looks for pods that had no name but that of their cgroup.
    fn meet(&mut self, now: Ktime) {
        for (id, since) in &mut self.meanwhile {
            if let Some(Cgroup::Pod {
                uids, containers, ..
            }) = self.cgroups.get(id)
                && pod_of(&self.store, uids, containers).is_some()
            {
                since.get_or_insert(now);
            }
        }
    }

    /// Names by cgroup that nobody has had for the grace time, because the API told better ones.
    fn outgrown(&mut self, now: Ktime) -> Vec<Gone> {
        let grace = self.grace_ns;
        let over = |since: &Option<Ktime>| since.is_some_and(|at| at.saturating_add(grace) <= now);
        let over = self.meanwhile.extract_if(|_, since| over(since));
        let over: Vec<_> = over.map(|(id, _)| id).collect();
        let name = |id| match self.cgroups.get(&id) {
            Some(Cgroup::Pod { meanwhile, .. }) => Some(Gone {
                workload: Arc::new(meanwhile.clone()),
                last: true,
            }),
            _ => None,
        };
        over.into_iter().filter_map(name).collect()
    }

    fn read(&self, path: &str) -> Cgroup {
        let outside = |name: String| Workload::new(name.into(), Arc::clone(&self.empty));
        let mut uids: Vec<_> = naming::pod_uids(path).map(|uid| Uid::new(&uid)).collect();
        uids.dedup();
        let containers: Vec<_> = naming::container_ids(path)
            .filter_map(ContainerId::new)
            .collect();
        match naming::name_of(path) {
            CgroupName::Pod { uid } => Cgroup::Pod {
                uids,
                containers,
                meanwhile: outside(format!("pod-{}", uid.get(..8).unwrap_or(&uid))),
            },
            // A runtime that puts its containers elsewhere: the API knows their ids as well.
            CgroupName::Container(id) => Cgroup::Pod {
                uids,
                containers,
                meanwhile: outside(id),
            },
            CgroupName::Unit(name) => Cgroup::Node(Some(outside(name))),
            CgroupName::Anonymous => Cgroup::Node(None),
        }
    }

    /// Reads the path of a cgroup that is new.
    fn learn(&mut self, id: u64) {
        if self.cgroups.contains_key(&id) {
            return;
        }
        // An unknown id is not remembered here: the tree knows when to look again.
        let Some(path) = self.tree.path(id, Instant::now()) else {
            return;
        };
        if self.cgroups.len() >= MAX_CGROUPS {
            self.cgroups.clear();
        }
        let cgroup = self.read(&path);
        self.cgroups.insert(id, cgroup);
    }

    fn by_process(&mut self, tgid: u32) -> Option<Workload> {
        let name = self.processes.name(tgid, Instant::now())?;
        Some(Workload::new(name, Arc::clone(&self.empty)))
    }
}

/// The pod of a cgroup.
fn pod_of<'s>(store: &'s Store, uids: &[Uid], containers: &[ContainerId]) -> Option<&'s Workload> {
    let by_uid = uids.iter().find_map(|uid| store.by_uid(*uid));
    by_uid.or_else(|| {
        let found = containers.iter().find_map(|id| store.by_container(*id));
        store.by_uid(found?.0)
    })
}

impl Identity for KubernetesIdentity {
    fn by_cgroup(&mut self, cgroup_id: u64, tgid: u32) -> Option<Workload> {
        self.learn(cgroup_id);
        match self.cgroups.get(&cgroup_id) {
            Some(Cgroup::Pod {
                uids,
                containers,
                meanwhile,
            }) => {
                if let Some(workload) = pod_of(&self.store, uids, containers) {
                    return Some(workload.clone());
                }
                if !uids.is_empty() && self.store.is_listed(Feed::NodePods) && !self.nameless {
                    self.nameless = true;
                    tracing::warn!(
                        cgroup = %meanwhile.name,
                        "a pod of this node is not known to the API; it is named by its cgroup. \
                         Is --node-name the name of this node?"
                    );
                }
                if self.meanwhile.len() < MAX_CGROUPS {
                    self.meanwhile.entry(cgroup_id).or_default();
                }
                Some(meanwhile.clone())
            }
            Some(Cgroup::Node(Some(workload))) => Some(workload.clone()),
            Some(Cgroup::Node(None)) | None => self.by_process(tgid),
        }
    }

    fn by_ip(&mut self, ip: IpAddr, at: Ktime) -> Option<Workload> {
        self.store.by_ip(ip, at)
    }

    fn service(&mut self, address: SocketAddr, at: Ktime) -> Option<Arc<str>> {
        self.store.service(address, at)
    }

    fn is_proxy(&mut self, cgroup_id: u64, tgid: u32) -> Option<bool> {
        self.learn(cgroup_id);
        let in_pod = match self.cgroups.get(&cgroup_id) {
            Some(Cgroup::Pod { containers, .. }) => {
                let mut known = containers.iter();
                let known = known.find_map(|id| self.store.by_container(*id));
                if let Some((_, true)) = known {
                    return Some(true);
                }
                Some(known.is_some())
            }
            _ => None,
        };
        let now = Instant::now();
        let by_name = self.processes.is_proxy(tgid, now);
        match (by_name, in_pod) {
            (Some(true), _) => Some(true),
            // Its name is not told yet: perhaps it is one all the same.
            (_, Some(false)) => self
                .processes
                .is_uid(tgid, self.proxy_uid, now)
                .filter(|is| *is),
            (by_name, Some(true)) => Some(by_name.unwrap_or(false)),
            (by_name, None) => by_name,
        }
    }

    fn refresh(&mut self, now: Ktime) -> Vec<Gone> {
        for _ in 0..BATCH {
            // Empty, or the watches have ended; either way there is no more.
            let Ok(update) = self.updates.try_recv() else {
                break;
            };
            if update.change == Change::Listed {
                self.give_back = Some(now.saturating_add(GIVE_BACK_AFTER_NS));
            }
            self.store.apply(update, now);
            self.uncounted.get_or_insert(now);
        }
        if self.give_back.is_some_and(|due| due <= now) {
            self.give_back = None;
            memory::give_back_code_too();
        }
        // Counting goes through every pod, so it is done where something has changed.
        let due = |since: Ktime| now.saturating_sub(since) >= COUNT_EVERY_NS;
        if self.uncounted.is_some_and(due) {
            self.uncounted = None;
            self.count();
            self.meet(now);
        }
        let mut gone = self.store.expire(now);
        if !self.meanwhile.is_empty() {
            gone.extend(self.outgrown(now));
        }
        gone
    }
}
