//! Mutual TLS between sidecars, told apart from other TLS by its ALPN names.
//!
//! A trap: the client offers Istio's own names, by which the server's TLS inspector chooses the
//! filter chain; but the server must pick a plain one. Were `istio-h2` picked, Envoy would read
//! HTTP/1 from a peer that speaks HTTP/2, and answer 502.

use serde_json::{Value, json};

use super::{TYPE, file};
use crate::certs::CertFiles;
use crate::topology::Service;

const OFFERED: [&str; 3] = ["istio-http/1.1", "istio", "http/1.1"];
const ACCEPTED: [&str; 3] = ["istio-peer-exchange", "h2", "http/1.1"];
/// Names that only another sidecar offers.
pub(super) const MESH_ONLY: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

impl CertFiles {
    /// To a service: it must show that service's identity.
    pub(super) fn upstream(&self, service: &Service, namespace: &str) -> Value {
        let identity = json!([{
            "san_type": "URI",
            "matcher": {"exact": service.pod.spiffe(namespace)},
        }]);
        let Service { name, port, .. } = service;
        socket(
            "UpstreamTlsContext",
            json!({
                "common_tls_context": self.common(&OFFERED, Some(identity)),
                "sni": format!("outbound_.{port}_._.{name}.{namespace}.svc.cluster.local"),
            }),
        )
    }

    /// From any workload of the mesh.
    pub(super) fn downstream(&self) -> Value {
        socket(
            "DownstreamTlsContext",
            json!({
                "require_client_certificate": true,
                "common_tls_context": self.common(&ACCEPTED, None),
            }),
        )
    }

    fn common(&self, alpn: &[&str], identity: Option<Value>) -> Value {
        let mut validation = json!({"trusted_ca": file(&self.authority)});
        if let (Some(identity), Some(validation)) = (identity, validation.as_object_mut()) {
            validation.insert("match_typed_subject_alt_names".to_owned(), identity);
        }
        json!({
            "tls_certificates": [{
                "certificate_chain": file(&self.chain),
                "private_key": file(&self.key),
            }],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "validation_context": validation,
            "alpn_protocols": alpn,
        })
    }
}

fn socket(message: &str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        let name = format!("{TYPE}.transport_sockets.tls.v3.{message}");
        fields.insert("@type".to_owned(), json!(name));
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": fields})
}
