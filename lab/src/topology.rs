//! Who is in the mesh: pods, containers, addresses, and names derived from the lab's name alone,
//! so that a lab can be taken down by somebody who knows nothing but that name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The Kubernetes namespace everything pretends to be in.
pub const NAMESPACE: &str = "default";
/// Where capitol-info listens.
pub const INFO_PORT: u16 = 8080;
/// Where NGINX of capitol-client listens.
pub const CLIENT_PORT: u16 = 8000;
/// Where the database of a chain listens, on the node.
pub const DATABASE_PORT: u16 = 9000;
/// The node's end of the bridge, every pod's default gateway.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The same for IPv6.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

/// How the services are meshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No sidecars, no redirection.
    None,
    /// Sidecars, clear text between them.
    Plain,
    /// Sidecars, mutual TLS between them.
    Mtls,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Plain => "plain",
            Self::Mtls => "mtls",
        })
    }
}

/// A pod: one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pod {
    /// `load`: where the load generator runs.
    Load,
    /// `capitol-client`: NGINX, a page at `/` and a gateway at `/api/` to capitol-info.
    Client,
    /// `capitol-info`: the service with the database.
    Info,
}

impl Pod {
    /// Every pod.
    pub const ALL: [Self; 3] = [Self::Load, Self::Client, Self::Info];

    /// The name of its workload, and of its service.
    #[must_use]
    pub fn workload(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Client => "capitol-client",
            Self::Info => "capitol-info",
        }
    }

    /// What distinguishes names of kernel objects and files of one lab.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Client => "client",
            Self::Info => "info",
        }
    }

    fn host(self) -> u8 {
        match self {
            Self::Load => 2,
            Self::Client => 3,
            Self::Info => 4,
        }
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ip_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.host())
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ip_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.host().into())
    }

    /// Where its app listens; the load generator does not.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Load => None,
            Self::Client => Some(CLIENT_PORT),
            Self::Info => Some(INFO_PORT),
        }
    }

    /// The identity in its certificate, in a Kubernetes namespace.
    pub(crate) fn spiffe(self, namespace: &str) -> String {
        let account = self.workload();
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
    }

    /// Its `metadata.uid`, the same for labs of the same name.
    #[must_use]
    pub fn uid(self, lab: &str) -> String {
        let hex = digest(&[lab, self.short()]);
        let part = |range| hex.get(range).unwrap_or_default();
        [
            part(0..8),
            part(8..12),
            part(12..16),
            part(16..20),
            part(20..32),
        ]
        .join("-")
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn netns(self, lab: &str) -> String {
        format!("ht-{lab}-{}", self.short())
    }

    /// Its container's cgroup below the lab's root, as a kubelet with the systemd driver and
    /// containerd name it.
    pub(crate) fn cgroup(self, lab: &str, container: Container) -> String {
        let uid = self.uid(lab).replace('-', "_");
        let id = digest(&[lab, self.short(), container.name()]);
        format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/\
             cri-containerd-{id}.scope"
        )
    }
}

/// A container of a pod: one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// The app: NGINX, capitol-info, or the load generator while it runs.
    App,
    /// Envoy.
    Sidecar,
}

impl Container {
    /// Both.
    pub const ALL: [Self; 2] = [Self::App, Self::Sidecar];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Sidecar => "sidecar",
        }
    }
}

/// Something to send requests to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// capitol-info itself.
    Info,
    /// The gateway of capitol-client, which forwards to capitol-info.
    Gateway,
    /// The page of capitol-client, served without asking anybody.
    Page,
    /// capitol-info over IPv6.
    InfoV6,
}

/// A service with a virtual address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) vip: IpAddr,
    /// Who serves it.
    pub(crate) pod: Pod,
    pub(crate) port: u16,
}

/// Every service; one whose virtual address is IPv6 leads to the pod's IPv6 address.
pub(crate) const SERVICES: [Service; 3] = [
    Service {
        name: "capitol-client",
        vip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
        pod: Pod::Client,
        port: CLIENT_PORT,
    },
    Service {
        name: "capitol-info",
        vip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)),
        pod: Pod::Info,
        port: INFO_PORT,
    },
    Service {
        name: "capitol-info-v6",
        vip: IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x11)),
        pod: Pod::Info,
        port: INFO_PORT,
    },
];

impl Service {
    pub(crate) fn is_v6(&self) -> bool {
        self.vip.is_ipv6()
    }

    /// Where a meshed pod sends requests to.
    pub(crate) fn virtual_address(&self) -> SocketAddr {
        SocketAddr::new(self.vip, self.port)
    }

    /// Where they end up.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        let ip: IpAddr = if self.is_v6() {
            self.pod.ip_v6().into()
        } else {
            self.pod.ip_v4().into()
        };
        SocketAddr::new(ip, self.port)
    }
}

/// The name of the node's network namespace, which holds the bridge.
pub(crate) fn node_netns(lab: &str) -> String {
    format!("ht-{lab}-node")
}

/// Every network namespace of a lab.
pub(crate) fn all_netns(lab: &str) -> Vec<String> {
    let pods = Pod::ALL.iter().map(|pod| pod.netns(lab));
    pods.chain([node_netns(lab)]).collect()
}

/// The name of the lab's root in the cgroup v2 hierarchy.
pub(crate) fn cgroup_name(lab: &str) -> String {
    format!("hoptrace-lab-{lab}")
}

/// 64 hexadecimal digits.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shape_of_the_kubelets() {
        let uid = Pod::Info.uid("a");
        let lengths: Vec<_> = uid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        let path = Pod::Info.cgroup("a", Container::Sidecar);
        let leaf = path.rsplit('/').next().unwrap();
        assert_eq!(leaf.len(), "cri-containerd-".len() + 64 + ".scope".len());
        assert!(path.contains(&uid.replace('-', "_")));
        assert_ne!(path, Pod::Info.cgroup("a", Container::App));
        assert_ne!(uid, Pod::Info.uid("b"));
    }

    #[test]
    fn a_v6_service_leads_to_a_v6_endpoint() {
        for service in SERVICES {
            assert_eq!(service.is_v6(), service.endpoint().is_ipv6());
            assert_eq!(service.pod.port(), Some(service.port));
        }
    }
}
