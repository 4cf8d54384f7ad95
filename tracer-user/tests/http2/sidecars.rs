//! The sidecars' ports for servers that speak HTTP/2.

use hoptrace_lab::Pod;
use serde_json::{Value, json};

use crate::envoy;
use crate::programs::{NODE, PYTHON};

/// Ports beside that of capitol-info, with HTTP/2 to whatever is behind them.
pub(crate) fn patch(_pod: Pod, bootstrap: &mut Value) {
    for server in [NODE, PYTHON] {
        envoy::port(bootstrap, server.port);
        let port = format!("|{}|", server.port);
        let clusters = &mut bootstrap["static_resources"]["clusters"];
        for cluster in clusters.as_array_mut().unwrap() {
            if cluster["name"].as_str().unwrap().contains(&port) {
                let text = cluster.to_string();
                let text = text.replace("\"http_protocol_options\"", "\"http2_protocol_options\"");
                *cluster = serde_json::from_str(&text).unwrap();
                let tls = "/transport_socket/typed_config/common_tls_context/alpn_protocols";
                if let Some(names) = cluster.pointer_mut(tls) {
                    // Istio's for HTTP/2 (its filter istio.alpn).
                    *names = json!(["istio-h2", "istio", "h2"]);
                }
            }
        }
    }
}
