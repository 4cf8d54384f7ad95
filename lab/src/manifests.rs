//! The lab's configuration as the demo's manifests have it: the same sidecars, redirection and
//! gateway, in pods of a real cluster.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::certs::CertFiles;
use crate::envoy::{Endpoints, Sidecar};
use crate::nginx::Gateway;
use crate::options::Convention;
use crate::redirect;
use crate::topology::Pod;

/// The demo's Kubernetes namespace.
pub const NAMESPACE: &str = "capitol";

/// What an init container puts in place: address and port of capitol-info.
pub const INFO_ADDRESS: &str = "INFO_ADDRESS";

/// Envoy's bootstrap for a pod of the demo: mutual TLS with the certificate of a Secret mounted at
/// `/etc/certs`, the access log on standard output, services by their virtual addresses.
#[must_use]
pub fn bootstrap(pod: Pod) -> Value {
    let certs = Path::new("/etc/certs");
    let sidecar = Sidecar {
        pod,
        namespace: NAMESPACE,
        endpoints: Endpoints::OfCluster,
        certs: Some(CertFiles {
            authority: certs.join("ca.crt"),
            chain: certs.join("tls.crt"),
            key: certs.join("tls.key"),
        }),
        access_log: Some(PathBuf::from("/dev/stdout")),
        inbound_fault: None,
        outbound_fault: None,
        ipv6: false,
        convention: Convention::Istio,
    };
    sidecar.bootstrap()
}

/// The redirection of IPv4 to the sidecar, for iptables-restore.
#[must_use]
pub fn redirection() -> String {
    redirect::rules_ipv4()
}

/// NGINX's configuration, with [`INFO_ADDRESS`] in it.
#[must_use]
pub fn gateway() -> String {
    let gateway = Gateway {
        dir: Path::new("/tmp"),
        error_log: "stderr",
        info: INFO_ADDRESS,
        ipv6: false,
    };
    gateway.config()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_lab_is_left() {
        for pod in [Pod::Client, Pod::Info] {
            let text = bootstrap(pod).to_string();
            assert!(text.contains("outbound|8080||capitol-info.capitol.svc.cluster.local"));
            assert!(text.contains("spiffe://cluster.local/ns/capitol/sa/capitol-info"));
            for of_the_lab in [".default.svc", "ns/default", "10.77.", "10.96.", "-v6"] {
                assert!(!text.contains(of_the_lab), "{of_the_lab}: {text}");
            }
        }
        assert!(gateway().contains("server INFO_ADDRESS;"));
        assert!(redirection().contains("--uid-owner 1337"));
    }
}
