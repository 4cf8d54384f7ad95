//! The programs of the node, in the order in which they are started, and their arguments.

use serde::{Deserialize, Serialize};

use crate::layout::{API_PORT, NODE_ADDRESS, NODE_NAME, PODS, SERVICES, in_node};

const ETCD_CLIENTS: &str = "http://127.0.0.1:23790";
const ETCD_PEERS: &str = "http://127.0.0.1:23800";
const RUNTIME: &str = "unix:///run/containerd/containerd.sock";

/// One program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The API server's store.
    Etcd,
    /// The container runtime.
    Containerd,
    /// The API.
    Apiserver,
    /// Deployments, endpoints, service accounts …
    ControllerManager,
    /// Pods to nodes.
    Scheduler,
    /// Pods of the node.
    Kubelet,
    /// Services' addresses, by iptables.
    Proxy,
}

impl Component {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::Containerd,
        Self::Apiserver,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
    ];

    /// Its name, also that of its log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }

    /// Its program, as the node sees it.
    pub(crate) fn program(self) -> String {
        let name = self.name();
        match self {
            Self::Etcd | Self::Containerd => in_node(&format!("tools/bin/{name}")),
            _ => in_node(&format!("kubernetes/{name}")),
        }
    }

    /// Its arguments.
    pub(crate) fn arguments(self) -> Vec<String> {
        let kubeconfig = format!(
            "--kubeconfig={}",
            in_node(&format!("pki/{}.kubeconfig", self.name()))
        );
        match self {
            Self::Etcd => vec![
                "--data-dir=/var/lib/etcd".into(),
                format!("--listen-client-urls={ETCD_CLIENTS}"),
                format!("--advertise-client-urls={ETCD_CLIENTS}"),
                format!("--listen-peer-urls={ETCD_PEERS}"),
                format!("--initial-advertise-peer-urls={ETCD_PEERS}"),
                format!("--initial-cluster=default={ETCD_PEERS}"),
                // The data does not outlive the cluster.
                "--unsafe-no-fsync".into(),
            ],
            Self::Containerd => vec![format!("--config={}", in_node("etc/containerd.toml"))],
            Self::Apiserver => apiserver(),
            Self::ControllerManager => vec![
                kubeconfig,
                "--bind-address=127.0.0.1".into(),
                "--port=0".into(),
                format!("--cluster-cidr={PODS}"),
                // One node, which has its addresses already.
                "--controllers=*,-nodeipam,-ttl,-cloud-node-lifecycle".into(),
                "--leader-elect=false".into(),
                format!("--root-ca-file={}", in_node("pki/ca.crt")),
                format!(
                    "--service-account-private-key-file={}",
                    in_node("pki/service-accounts.key")
                ),
                "--use-service-account-credentials=true".into(),
            ],
            Self::Scheduler => vec![
                kubeconfig,
                "--bind-address=127.0.0.1".into(),
                "--leader-elect=false".into(),
                "--port=0".into(),
            ],
            Self::Kubelet => vec![
                kubeconfig,
                format!("--config={}", in_node("etc/kubelet.json")),
                "--container-runtime=remote".into(),
                format!("--container-runtime-endpoint={RUNTIME}"),
                format!("--image-service-endpoint={RUNTIME}"),
                format!("--hostname-override={NODE_NAME}"),
                format!("--node-ip={NODE_ADDRESS}"),
                "--root-dir=/var/lib/kubelet".into(),
                "--v=2".into(),
            ],
            Self::Proxy => vec![
                kubeconfig,
                format!("--hostname-override={NODE_NAME}"),
                format!("--cluster-cidr={PODS}"),
                "--proxy-mode=iptables".into(),
                // Limits of the machine, which are not the node's to set.
                "--conntrack-max-per-core=0".into(),
                "--metrics-bind-address=127.0.0.1".into(),
            ],
        }
    }
}

fn apiserver() -> Vec<String> {
    let pki = |name: &str| in_node(&format!("pki/{name}"));
    vec![
        format!("--etcd-servers={ETCD_CLIENTS}"),
        format!("--bind-address={NODE_ADDRESS}"),
        format!("--advertise-address={NODE_ADDRESS}"),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("admin.crt")),
        format!("--kubelet-client-key={}", pki("admin.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            pki("service-accounts.key")
        ),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--api-audiences=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        "--event-ttl=1h".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_program_and_arguments() {
        for component in Component::ALL {
            assert!(component.program().ends_with(component.name()));
            assert!(!component.arguments().is_empty());
        }
    }
}
