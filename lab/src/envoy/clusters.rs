//! Where a sidecar connects to.

use serde_json::{Value, json};

use super::{ADMIN_PORT, Endpoints, Sidecar, TYPE, address};
use crate::options::Convention;
use crate::topology::Service;

impl Service {
    /// The name Istio gives the cluster.
    pub(super) fn cluster(&self, namespace: &str) -> String {
        let Self { name, port, .. } = self;
        format!("outbound|{port}||{name}.{namespace}.svc.cluster.local")
    }
}

impl Sidecar {
    pub(super) fn clusters(&self) -> Vec<Value> {
        let mut clusters: Vec<_> = self
            .services()
            .map(|service| self.outbound(&service))
            .collect();
        if let Some(port) = self.pod.port() {
            let mut inbound = self.to_own_pod(&format!("inbound|{port}||"));
            insert(&mut inbound, "typed_extension_protocol_options", http1());
            clusters.push(inbound);
        }
        clusters.push(self.to_own_pod("InboundPassthroughCluster"));
        clusters.push(original_destination("PassthroughCluster"));
        clusters.push(static_endpoint(
            "prometheus_stats",
            address("127.0.0.1", ADMIN_PORT),
        ));
        clusters
    }

    fn outbound(&self, service: &Service) -> Value {
        let name = service.cluster(self.namespace);
        let mut cluster = match self.endpoints {
            Endpoints::OfLab => {
                let endpoint = service.endpoint();
                let mut cluster = static_endpoint(&name, address(endpoint.ip(), endpoint.port()));
                insert(&mut cluster, "lb_policy", json!("LEAST_REQUEST"));
                cluster
            }
            Endpoints::OfCluster => original_destination(&name),
        };
        insert(&mut cluster, "typed_extension_protocol_options", http1());
        if let Some(certs) = &self.certs {
            let socket = certs.upstream(service, self.namespace);
            insert(&mut cluster, "transport_socket", socket);
        }
        cluster
    }

    /// To the app of its own pod, from an address by which the redirection rules tell this
    /// traffic from the app's own.
    fn to_own_pod(&self, name: &str) -> Value {
        let mut cluster = original_destination(name);
        if self.convention == Convention::Linkerd {
            return cluster;
        }
        let mut bind = json!({"source_address": {"address": "127.0.0.6", "port_value": 0}});
        if self.ipv6 {
            let v6 = json!([{"address": {"address": "::6", "port_value": 0}}]);
            insert(&mut bind, "extra_source_addresses", v6);
        }
        insert(&mut cluster, "upstream_bind_config", bind);
        cluster
    }
}

fn original_destination(name: &str) -> Value {
    json!({
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
    })
}

fn static_endpoint(name: &str, address: Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

fn http1() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http_protocol_options": {}},
    }})
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
