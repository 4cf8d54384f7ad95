//! Names, addresses and places. There is one cluster on a machine, so all of them are fixed, and
//! whoever knows this file can take down what another left.
//!
//! The node has a mount namespace of its own, in which `/run`, `/var/lib` and `/var/log` are
//! directories of the work directory. So the node's programs find everything where a real node has
//! it, and the machine sees none of it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The node's name in the API.
pub const NODE_NAME: &str = "hoptrace-node";
/// The node's network namespace.
pub const NODE_NETNS: &str = "ht-cluster";
/// The node's address, and that of everything the control plane listens on.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The API server.
pub(crate) const API_PORT: u16 = 6443;
/// Its address as pods know it: the first of the services.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Addresses of services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// Addresses that pods may have.
pub const PODS: &str = "10.88.0.0/16";
/// The cgroup below which are the node's programs and, in `kubepods`, its pods.
pub(crate) const CGROUP: &str = "hoptrace-cluster";
/// The node's own programs, in it.
pub(crate) const CGROUP_NODE: &str = "node";
/// Our files, as the node sees them.
const IN_NODE: &str = "/run/hoptrace";

/// The directories of a cluster, as the machine sees them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Everything but the logs.
    pub(crate) dir: PathBuf,
    /// One file a component.
    pub(crate) logs: PathBuf,
}

impl Layout {
    /// What the node sees as `/run`, `/var/lib` and `/var/log`.
    pub(crate) fn mounts(&self) -> [(PathBuf, &'static str); 3] {
        [
            (self.dir.join("run"), "/run"),
            (self.dir.join("var-lib"), "/var/lib"),
            (self.dir.join("var-log"), "/var/log"),
        ]
    }

    /// A file of ours, as the machine sees it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join("run/hoptrace").join(name)
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs.join(format!("{component}.log"))
    }

    /// The kubeconfig of who may do everything.
    pub(crate) fn admin(&self) -> PathBuf {
        self.file("pki/admin.kubeconfig")
    }
}

/// A file of ours, as the node sees it.
pub(crate) fn in_node(name: &str) -> String {
    format!("{IN_NODE}/{name}")
}

/// The file that stands for a namespace of the node, `mnt` or `net`; it ends with the holder.
pub(crate) fn namespace(holder: u32, kind: &str) -> PathBuf {
    Path::new("/proc")
        .join(holder.to_string())
        .join("ns")
        .join(kind)
}
