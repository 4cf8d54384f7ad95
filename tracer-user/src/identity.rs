//! Who a socket belongs to: a static file, cgroup paths and process names, or the Kubernetes API.

mod file;
pub mod kubernetes;
mod naming;
mod processes;
mod tree;

pub use file::{IdentityError, StaticFile};
pub use naming::{CgroupName, name_of};

use crate::config::{Config, IdentitySpec};
use crate::model::{Identity, Ktime, Workload};
use crate::mounts::{self, MountsError};
use crate::tracer::monotonic_now;
use hashbrown::HashMap;
use kubernetes::KubernetesIdentity;
use kubernetes::status::Status;
use processes::Processes;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tree::CgroupTree;

/// What every source of names needs to know.
#[derive(Clone, Debug)]
pub struct IdentityOptions {
    /// Mount of the cgroup v2 hierarchy, not a directory below it.
    pub cgroup_root: PathBuf,
    /// `/proc` of the node.
    pub proc_root: PathBuf,
    /// Names of sidecar proxies.
    pub proxy_names: Vec<String>,
    /// User that they run as.
    pub proxy_uid: u32,
}

/// Who is who on this node, and how the source of the names is doing.
pub struct Source {
    /// Whom to ask.
    pub identity: Box<dyn Identity>,
    /// How the watches are doing, where there are any.
    pub status: Option<Arc<Status>>,
}

/// How long the agent waits for the first lists before it measures: what is told before has the
/// names of cgroups.
const FIRST_LISTS: Duration = Duration::from_secs(10);
/// How often it looks whether they are here.
const FIRST_LISTS_STEP: Duration = Duration::from_millis(10);

impl IdentityOptions {
    /// The options of the agent on this node.
    ///
    /// # Errors
    /// When no cgroup root is configured and no cgroup v2 hierarchy is mounted.
    pub fn new(config: &Config) -> Result<Self, MountsError> {
        // The mount even where only a part of it is traced: names may stand above that part.
        let cgroup_root = match (mounts::cgroup2(), &config.cgroup_root) {
            (Ok(mount), _) => mount,
            (Err(_), Some(root)) => root.clone(),
            (Err(error), None) => return Err(error),
        };
        Ok(Self {
            cgroup_root,
            proc_root: "/proc".into(),
            proxy_names: config.proxy_names.as_slice().to_vec(),
            proxy_uid: config.proxy_uid,
        })
    }
}

/// The source of names that the configuration asks for. With Kubernetes, the watches have begun,
/// and either told everything that is there or failed for the first time.
///
/// # Errors
/// When the static file or the kubeconfig cannot be used, or the name of the node is missing.
pub async fn start(config: &Config) -> Result<Source, IdentityError> {
    let options = IdentityOptions::new(config)?;
    if config.identity != IdentitySpec::Kubernetes {
        return Ok(Source {
            identity: from_spec(&config.identity, &options)?,
            status: None,
        });
    }
    let watch = kubernetes::watch::WatchOptions {
        api: kubernetes::api::config(config.kubeconfig.as_deref()).await?,
        node: kubernetes::api::node_name(config)?,
        watched: config.peers.into(),
        refused_pause: None,
    };
    let status = Arc::new(Status::default());
    let updates =
        kubernetes::watch::start(watch, Arc::clone(&status)).map_err(IdentityError::Thread)?;
    let mut identity = KubernetesIdentity::new(
        updates,
        Arc::clone(&status),
        config.proxy_containers.as_slice().to_vec(),
        config.series_grace.get(),
        &options,
    );
    let begun = Instant::now();
    while !identity.is_settled() && begun.elapsed() < FIRST_LISTS {
        tokio::time::sleep(FIRST_LISTS_STEP).await;
        let nobody = identity.refresh(monotonic_now());
        debug_assert!(nobody.is_empty(), "what has just come cannot be gone");
    }
    identity.count();
    let degraded = status.degraded();
    if degraded.is_empty() {
        let objects: u64 = status.reports().map(|report| report.objects).sum();
        tracing::info!(objects, took = ?begun.elapsed(), "the API told the names");
    } else {
        tracing::warn!(
            missing = degraded.len(),
            "measuring begins without all names; /readyz tells which"
        );
    }
    Ok(Source {
        identity: Box::new(identity),
        status: Some(status),
    })
}

/// A client of the API for what is no name.
///
/// # Errors
/// When it is not known where the API is.
pub async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, IdentityError> {
    let api = kubernetes::api::config(kubeconfig).await?;
    kube::Client::try_from(api).map_err(|source| IdentityError::Client(Box::new(source)))
}

/// The identity the configuration asks for, without an API.
///
/// # Errors
/// When the static file cannot be read, or holds something that is not an entry.
pub fn from_spec(
    spec: &IdentitySpec,
    options: &IdentityOptions,
) -> Result<Box<dyn Identity>, IdentityError> {
    let file = match spec {
        IdentitySpec::Cgroup | IdentitySpec::Kubernetes => StaticFile::default(),
        IdentitySpec::Static(path) => StaticFile::read(path)?,
    };
    Ok(Box::new(NodeIdentity::new(file, options)))
}

/// Names from a static file, else from cgroup paths, else from processes.
pub struct NodeIdentity {
    file: StaticFile,
    tree: CgroupTree,
    processes: Processes,
    /// By cgroup id; `None` where the path names nobody and the process has to.
    named: HashMap<u64, Option<Workload>>,
    /// Outside Kubernetes there are no namespaces.
    no_namespace: Arc<str>,
}

/// Cgroups whose workload is remembered: more than a node has containers.
const MAX_NAMED: usize = 32_768;

impl NodeIdentity {
    /// Looks at nothing yet. An empty file names nobody.
    #[must_use]
    pub fn new(file: StaticFile, options: &IdentityOptions) -> Self {
        Self {
            file,
            tree: CgroupTree::new(options.cgroup_root.clone()),
            processes: Processes::new(options.proc_root.clone(), options.proxy_names.clone()),
            named: HashMap::new(),
            no_namespace: "".into(),
        }
    }

    /// What the path of a cgroup tells, `None` when it names nobody.
    fn by_path(&self, path: &str) -> Option<Workload> {
        let outside = |name: String| Workload::new(name.into(), Arc::clone(&self.no_namespace));
        self.file.by_path(path).or_else(|| match name_of(path) {
            CgroupName::Unit(name) | CgroupName::Container(name) => Some(outside(name)),
            CgroupName::Pod { uid } => {
                Some(outside(format!("pod-{}", uid.get(..8).unwrap_or(&uid))))
            }
            CgroupName::Anonymous => None,
        })
    }

    fn by_process(&mut self, tgid: u32) -> Option<Workload> {
        let name = self.processes.name(tgid, Instant::now())?;
        Some(Workload::new(name, Arc::clone(&self.no_namespace)))
    }
}

impl Identity for NodeIdentity {
    fn by_cgroup(&mut self, cgroup_id: u64, tgid: u32) -> Option<Workload> {
        if let Some(named) = self.named.get(&cgroup_id) {
            return named.clone().or_else(|| self.by_process(tgid));
        }
        // An unknown id is not remembered here: the tree knows when to look again.
        if let Some(path) = self.tree.path(cgroup_id, Instant::now()) {
            if self.named.len() >= MAX_NAMED {
                self.named.clear();
            }
            let named = self.by_path(&path);
            self.named.insert(cgroup_id, named.clone());
            return named.or_else(|| self.by_process(tgid));
        }
        self.by_process(tgid)
    }

    fn by_ip(&mut self, ip: IpAddr, _at: Ktime) -> Option<Workload> {
        self.file.by_ip(ip)
    }

    fn service(&mut self, address: SocketAddr, _at: Ktime) -> Option<Arc<str>> {
        self.file.service(address)
    }

    fn is_proxy(&mut self, _cgroup_id: u64, tgid: u32) -> Option<bool> {
        self.processes.is_proxy(tgid, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_file_comes_first_then_the_path_then_the_process() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            fs::create_dir_all(root.path().join(path)).unwrap();
            fs::metadata(root.path().join(path)).unwrap().ino()
        };
        let orders = make("cgroup/lab/orders");
        let nginx = make("cgroup/system.slice/nginx.service");
        let pod = make("cgroup/kubepods/pod0a1b2c3d-1111-2222-3333-444455556666/c");
        let user = make("cgroup/user.slice/user-0.slice/session-1.scope");
        make("proc/7");
        fs::write(root.path().join("proc/7/comm"), "envoy\n").unwrap();
        let path = root.path().join("names.toml");
        fs::write(
            &path,
            "[[workload]]\nname = \"o\"\nnamespace = \"shop\"\ncgroups = [\"orders\"]",
        )
        .unwrap();
        let options = IdentityOptions {
            cgroup_root: root.path().join("cgroup"),
            proc_root: root.path().join("proc"),
            proxy_names: vec!["envoy".to_owned()],
            proxy_uid: 1337,
        };
        let mut identity = from_spec(&IdentitySpec::Static(path), &options).unwrap();
        let mut name = |id, tgid| {
            let found = identity.by_cgroup(id, tgid)?;
            Some(format!("{}/{}", found.namespace, found.name))
        };
        for _remembered in 0..2 {
            assert_eq!(name(orders, 0).as_deref(), Some("shop/o"));
            assert_eq!(name(nginx, 7).as_deref(), Some("/nginx"));
            assert_eq!(name(pod, 7).as_deref(), Some("/pod-0a1b2c3d"));
            assert_eq!(name(user, 7).as_deref(), Some("/envoy"));
            assert_eq!(name(user, 0), None);
            assert_eq!(name(u64::MAX, 7).as_deref(), Some("/envoy"));
            assert_eq!(name(u64::MAX, 0), None);
        }
        assert_eq!(identity.is_proxy(orders, 7), Some(true));
        assert_eq!(identity.is_proxy(orders, 8), None);
    }
}
