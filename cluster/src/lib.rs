//! A real Kubernetes of one node: etcd, API server, controller manager, scheduler, containerd,
//! kubelet and kube-proxy, in a network namespace, a mount namespace and control groups of their
//! own. When the last process of it has ended, the kernel removes its mounts and networks.

mod capture;
mod cluster;
mod components;
mod config;
mod cri;
mod helm;
mod kubectl;
mod layout;
mod node;
mod permitted;
mod pki;
mod state;
mod teardown;
mod tools;

pub use cluster::{Cluster, Options};
pub use components::Component;
pub use helm::Helm;
pub use kubectl::Kubectl;
pub use layout::{NODE_ADDRESS, NODE_NAME, NODE_NETNS, PODS};
pub use permitted::check as check_permitted;
pub use state::{ClusterState, clean_stale, status};
pub use tools::{KUBERNETES_PROGRAMS, KUBERNETES_VERSION, TOOL_PROGRAMS, Tools};
