//! Envoy as a sidecar, configured as Istio would.
//!
//! The bootstrap is static and follows what `istioctl proxy-config` shows of a real mesh: a
//! listener on 15001 for what the app sends and one on 15006 for what it receives, both told the
//! original destination by the kernel; one virtual listener and one route table a port; clusters
//! named `outbound|8080||name.default.svc.cluster.local` and `inbound|8080||`.

mod access_log;
mod clusters;
mod http;
mod listeners;
mod tls;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::certs::CertFiles;
use crate::options::Convention;
use crate::pinned::Pinned;
use crate::topology::Pod;

/// The release of Envoy, out of the wheel that setup fetches.
pub const ENVOY: Pinned = Pinned {
    name: "envoy",
    version: "1.40.0",
    sha256: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
    size: 106_905_560,
    variable: "HOPTRACE_ENVOY",
};

/// The Envoy to use: `$HOPTRACE_ENVOY`, else the one that setup fetched.
///
/// # Errors
/// It is missing, or setup's is not the release.
pub fn find() -> Result<PathBuf> {
    ENVOY.find()
}

/// Envoy's own administration interface, inside the pod.
pub(crate) const ADMIN_PORT: u16 = 15000;
/// Readiness, as Istio's agent answers it.
pub(crate) const READY_PORT: u16 = 15021;
const STATS_PORT: u16 = 15090;

/// Envoy's configuration names its messages by type.
const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// Where a service's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoints {
    /// To the one pod there is, by its address.
    OfLab,
    /// To where the app sent them, the service's virtual address: whoever balances the cluster's
    /// services takes them on.
    OfCluster,
}

/// What the bootstrap of one pod's Envoy depends on.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    pub(crate) pod: Pod,
    /// The Kubernetes namespace of all services.
    pub(crate) namespace: &'static str,
    pub(crate) endpoints: Endpoints,
    /// Certificates when traffic between sidecars is encrypted.
    pub(crate) certs: Option<CertFiles>,
    pub(crate) access_log: Option<PathBuf>,
    /// Delays every request it receives.
    pub(crate) inbound_fault: Option<Duration>,
    /// Delays every request its app sends to capitol-info.
    pub(crate) outbound_fault: Option<Duration>,
    /// Listens on IPv6 as well.
    pub(crate) ipv6: bool,
    /// Whose ports it has.
    pub(crate) convention: Convention,
}

impl Sidecar {
    /// The whole bootstrap.
    pub(crate) fn bootstrap(&self) -> Value {
        let Self { pod, namespace, .. } = self;
        let workload = pod.workload();
        let ip = match self.endpoints {
            Endpoints::OfLab => pod.ip_v4(),
            // Many pods have one bootstrap.
            Endpoints::OfCluster => Ipv4Addr::UNSPECIFIED,
        };
        json!({
            "node": {
                "id": format!("sidecar~{ip}~{workload}.{namespace}~{namespace}.svc.cluster.local"),
                "cluster": format!("{workload}.{namespace}"),
            },
            "admin": {"address": address("127.0.0.1", ADMIN_PORT)},
            "static_resources": {
                "listeners": self.listeners(),
                "clusters": self.clusters(),
            },
        })
    }
}

fn address(ip: impl ToString, port: u16) -> Value {
    json!({"socket_address": {"address": ip.to_string(), "port_value": port}})
}

/// An extension: its name, the type of its message, and the message's fields.
fn extension(name: &str, message: &str, mut fields: Value) -> Value {
    if let Value::Object(fields) = &mut fields {
        fields.insert("@type".to_owned(), json!(format!("{TYPE}.{message}")));
    }
    json!({"name": name, "typed_config": fields})
}

fn file(path: &Path) -> Value {
    json!({"filename": path})
}

/// A protobuf duration.
fn seconds(duration: Duration) -> String {
    format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::NAMESPACE;

    fn sidecar() -> Sidecar {
        Sidecar {
            pod: Pod::Client,
            namespace: NAMESPACE,
            endpoints: Endpoints::OfLab,
            certs: Some(CertFiles::of(Path::new("/c"), Pod::Client)),
            access_log: Some("/log".into()),
            inbound_fault: None,
            outbound_fault: Some(Duration::from_millis(20)),
            ipv6: true,
            convention: Convention::Istio,
        }
    }

    #[test]
    fn clusters_are_named_as_in_istio_and_once() {
        let bootstrap = sidecar().bootstrap();
        let clusters = bootstrap["static_resources"]["clusters"]
            .as_array()
            .unwrap();
        let mut names: Vec<_> = clusters
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"outbound|8080||capitol-info.default.svc.cluster.local"));
        assert!(names.contains(&"inbound|8000||"));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn linkerds_sidecar_reaches_its_app_without_an_address_of_its_own() {
        let linkerd = Sidecar {
            convention: Convention::Linkerd,
            ..sidecar()
        };
        let text = linkerd.bootstrap().to_string();
        for port in [4140, 4143] {
            assert!(text.contains(&format!("\"port_value\":{port}")), "{port}");
        }
        for istios in ["15001", "15006", "127.0.0.6", "upstream_bind_config"] {
            assert!(!text.contains(istios), "{istios}");
            assert!(
                sidecar().bootstrap().to_string().contains(istios),
                "{istios}"
            );
        }
    }

    #[test]
    fn only_routes_to_capitol_info_are_delayed() {
        let text = sidecar().bootstrap().to_string();
        // Its IPv4 and its IPv6 service.
        assert_eq!(text.matches("0.020000000s").count(), 2, "{text}");
        let plain = Sidecar {
            outbound_fault: None,
            ..sidecar()
        };
        assert!(!plain.bootstrap().to_string().contains(".fault."));
    }

    #[test]
    fn without_certificates_there_is_no_tls() {
        let plain = Sidecar {
            certs: None,
            access_log: None,
            ..sidecar()
        };
        let text = plain.bootstrap().to_string();
        assert!(!text.contains("TlsContext") && !text.contains("access_log"));
    }

    #[test]
    fn durations_are_those_of_protobuf() {
        assert_eq!(seconds(Duration::from_micros(1_500)), "0.001500000s");
    }
}
