//! What of an object is kept: the words between the watches and the store.

use std::net::IpAddr;

/// What is watched. Each is listed and watched apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    /// Pods of this node, in full.
    NodePods,
    /// Pods of the other nodes.
    PeerPods,
    /// EndpointSlices of every service.
    Slices,
    /// Services.
    Services,
    /// Nodes, for their addresses.
    Nodes,
}

impl Feed {
    /// Every feed.
    pub const ALL: [Self; 5] = [
        Self::NodePods,
        Self::PeerPods,
        Self::Slices,
        Self::Services,
        Self::Nodes,
    ];

    /// Value of the `resource` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodePods => "node_pods",
            Self::PeerPods => "peer_pods",
            Self::Slices => "endpointslices",
            Self::Services => "services",
            Self::Nodes => "nodes",
        }
    }

    /// The resource as a ClusterRole names it.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::NodePods | Self::PeerPods => "pods",
            Self::Slices => "endpointslices.discovery.k8s.io",
            Self::Services => "services",
            Self::Nodes => "nodes",
        }
    }

    /// What there is not without it.
    #[must_use]
    pub const fn gives(self) -> &'static str {
        match self {
            Self::NodePods => "names of this node's pods and which containers are sidecars",
            Self::PeerPods => "names of pods on other nodes",
            Self::Slices => "names of endpoints on other nodes",
            Self::Services => "destination_service_name",
            Self::Nodes => "names of node addresses, and of endpoints, which may share them",
        }
    }
}

/// An object's uid, or the hash of a static pod's manifest: 128 bits in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    /// Reads a uid with dashes or without; any other text gets a number of its own.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self::hex(text).unwrap_or_else(|| Self(fnv(text)))
    }

    /// Reads 32 hexadecimal digits, dashes left out.
    #[must_use]
    pub fn hex(text: &str) -> Option<Self> {
        let mut value: u128 = 0;
        let mut digits = 0;
        for digit in text.chars().filter(|c| *c != '-') {
            value = value << 4 | u128::from(digit.to_digit(16)?);
            digits += 1;
        }
        (digits == 32).then_some(Self(value))
    }
}

/// 128-bit FNV-1a. Uids that the API server makes up are version 4 UUIDs; this is for the others.
fn fnv(text: &str) -> u128 {
    let step = |hash: u128, byte: u8| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    text.bytes()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step)
}

/// The first 32 digits of a container's id, which is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContainerId(u128);

impl ContainerId {
    /// Reads `containerd://<id>` as well as the bare id.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let id = text.rsplit_once("://").map_or(text, |(_runtime, id)| id);
        u128::from_str_radix(id.get(..32)?, 16).ok().map(Self)
    }
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id, and that of its life before the last restart.
    pub ids: [Option<ContainerId>; 2],
    /// Name.
    pub name: String,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Uid.
    pub uid: Uid,
    /// Hash of a static pod's manifest: its cgroup is named by that.
    pub alias: Option<Uid>,
    /// Namespace.
    pub namespace: String,
    /// Workload, by the owner chain.
    pub workload: String,
    /// Canonical service, by its labels.
    pub service: String,
    /// Canonical revision, by its labels.
    pub revision: String,
    /// Addresses of its own; none of a host-network pod.
    pub ips: Vec<IpAddr>,
    /// Node it runs on.
    pub node: String,
    /// Addresses of that node.
    pub node_ips: Vec<IpAddr>,
    /// Seconds since 1970 of its creation.
    pub created: i64,
    /// Whether every process of it is over: it has no address any more.
    pub ended: bool,
    /// Labels, sorted.
    pub labels: Vec<(String, String)>,
    /// Containers whose ids are known; of pods of this node only.
    pub containers: Vec<Container>,
}

/// The port that a service hands connections to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container's port.
    Name,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port of the virtual address.
    pub port: u16,
    /// Port of the pods.
    pub target: TargetPort,
    /// Port of every node, 0 for none.
    pub node_port: u16,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Uid.
    pub uid: Uid,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster addresses, external ones and those of load balancers; none of a headless service.
    pub vips: Vec<IpAddr>,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// Labels that pods must have; empty where endpoints are kept by hand.
    pub selector: Vec<(String, String)>,
}

/// An address that belongs to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Workload of the pod behind it, as far as its name tells.
    pub workload: Option<String>,
    /// Uid of that pod.
    pub pod: Option<Uid>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Uid.
    pub uid: Uid,
    /// Namespace of service and pods.
    pub namespace: String,
    /// Service, empty where nothing tells.
    pub service: String,
    /// Ports of the pods.
    pub ports: Vec<u16>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Uid.
    pub uid: Uid,
    /// Name.
    pub name: String,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

/// An object as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod.
    Pod(Box<Pod>),
    /// A service.
    Service(Box<Service>),
    /// An EndpointSlice.
    Slice(Slice),
    /// A node.
    Node(Node),
}

/// What happened in a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A list begins; what it does not hold is gone when it ends.
    Restart,
    /// The list is complete.
    Listed,
    /// An object is so now.
    Apply(Object),
    /// An object is gone.
    Delete(Uid),
    /// The API refuses to tell: nothing of this feed is known to be true any more.
    Forget,
}

/// A change and the feed it happened in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Where.
    pub feed: Feed,
    /// What.
    pub change: Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_the_same_however_they_are_written() {
        let uid = Uid::new("0a1b2c3d-1111-2222-3333-444455556666");
        assert_eq!(Uid::hex("0A1B2C3D111122223333444455556666"), Some(uid));
        assert_eq!(Uid::hex("0a1b2c3d-1111-2222-3333-44445555666"), None);
        assert_eq!(Uid::hex("0a1b2c3d-1111-2222-3333-4444555566667"), None);
        assert_eq!(Uid::hex(""), None);
        assert_ne!(Uid::new("x"), Uid::new("y"));
    }

    #[test]
    fn container_ids_come_with_their_runtime_or_without() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let bare = ContainerId::new(id);
        assert!(bare.is_some());
        assert_eq!(ContainerId::new(&format!("containerd://{id}")), bare);
        assert_eq!(ContainerId::new(&format!("cri-o://{id}")), bare);
        assert_eq!(ContainerId::new("docker://"), None);
        assert_eq!(ContainerId::new(""), None);
    }
}
