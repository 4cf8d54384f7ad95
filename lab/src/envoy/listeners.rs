//! Where a sidecar is connected to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::http::{Direction, connection_manager, router};
use super::tls::MESH_ONLY;
use super::{READY_PORT, STATS_PORT, Sidecar, address, extension};

impl Sidecar {
    pub(super) fn listeners(&self) -> Vec<Value> {
        let mut listeners = vec![self.virtual_outbound()];
        let ports: BTreeSet<_> = self.services().map(|service| service.port).collect();
        listeners.extend(ports.into_iter().map(|port| self.outbound_port(port)));
        listeners.push(self.virtual_inbound());
        listeners.push(to_admin(
            STATS_PORT,
            "/stats/prometheus",
            "/stats/prometheus",
        ));
        listeners.push(to_admin(READY_PORT, "/healthz/ready", "/ready"));
        listeners
    }

    /// Everything the app sends arrives here and is handed to the listener of its original port.
    fn virtual_outbound(&self) -> Value {
        self.everywhere(
            self.convention.outbound_port(),
            json!({
                "name": "virtualOutbound",
                "traffic_direction": "OUTBOUND",
                "use_original_dst": true,
                "filter_chains": [{"filters": [tcp("PassthroughCluster")]}],
            }),
        )
    }

    fn outbound_port(&self, port: u16) -> Value {
        self.everywhere(
            port,
            json!({
                "name": format!("0.0.0.0_{port}"),
                "traffic_direction": "OUTBOUND",
                "bind_to_port": false,
                "filter_chains": [{"filters": [self.http(Direction::Outbound, port)]}],
            }),
        )
    }

    /// Everything sent to the app arrives here; encrypted by another sidecar or in the clear.
    fn virtual_inbound(&self) -> Value {
        let mut chains = Vec::new();
        if let Some(port) = self.pod.port() {
            let filters = [self.http(Direction::Inbound, port)];
            if let Some(certs) = &self.certs {
                chains.push(json!({
                    "name": format!("0.0.0.0_{port}_mtls"),
                    "filter_chain_match": {
                        "destination_port": port,
                        "transport_protocol": "tls",
                        "application_protocols": MESH_ONLY,
                    },
                    "transport_socket": certs.downstream(),
                    "filters": filters,
                }));
            }
            chains.push(json!({
                "name": format!("0.0.0.0_{port}"),
                "filter_chain_match": {
                    "destination_port": port,
                    "transport_protocol": "raw_buffer",
                },
                "filters": filters,
            }));
        }
        self.everywhere(
            self.convention.inbound_port(),
            json!({
                "name": "virtualInbound",
                "traffic_direction": "INBOUND",
                "listener_filters": [
                    listener_filter("original_dst", "OriginalDst"),
                    listener_filter("tls_inspector", "TlsInspector"),
                    listener_filter("http_inspector", "HttpInspector"),
                ],
                "listener_filters_timeout": "0s",
                "continue_on_listener_filters_timeout": true,
                "filter_chains": chains,
                "default_filter_chain": {
                    "name": "virtualInbound-passthrough",
                    "filters": [tcp("InboundPassthroughCluster")],
                },
            }),
        )
    }

    /// A listener on every address of the pod.
    fn everywhere(&self, port: u16, mut listener: Value) -> Value {
        if let Some(listener) = listener.as_object_mut() {
            listener.insert("address".to_owned(), address("0.0.0.0", port));
            if self.ipv6 {
                let v6 = json!([{"address": address("::", port)}]);
                listener.insert("additional_addresses".to_owned(), v6);
            }
        }
        listener
    }
}

fn listener_filter(name: &str, message: &str) -> Value {
    extension(
        &format!("envoy.filters.listener.{name}"),
        &format!("filters.listener.{name}.v3.{message}"),
        json!({}),
    )
}

fn tcp(cluster: &str) -> Value {
    extension(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        json!({"stat_prefix": cluster, "cluster": cluster}),
    )
}

/// A path of the administration interface, opened to outside the pod.
fn to_admin(port: u16, path: &str, rewritten: &str) -> Value {
    let route = json!({
        "match": {"prefix": path},
        "route": {"cluster": "prometheus_stats", "prefix_rewrite": rewritten},
    });
    let manager = connection_manager(json!({
        "stat_prefix": format!("status_{port}"),
        "route_config": {
            "virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [router()],
    }));
    json!({
        "name": format!("status_{port}"),
        "address": address("0.0.0.0", port),
        "filter_chains": [{"filters": [manager]}],
    })
}
