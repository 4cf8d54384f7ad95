//! Connection managers, routes, and the fault filter that delays on purpose.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Endpoints, Sidecar, extension, seconds};
use crate::topology::{Pod, SERVICES, Service};

const FAULT: &str = "envoy.filters.http.fault";
const FAULT_MESSAGE: &str = "filters.http.fault.v3.HTTPFault";

/// Where the traffic of a connection manager goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

impl Sidecar {
    /// The connection manager for one port and direction.
    pub(super) fn http(&self, direction: Direction, port: u16) -> Value {
        let (name, short, hosts, fault) = match direction {
            Direction::Inbound => (
                format!("inbound_0.0.0.0_{port}"),
                "in",
                vec![inbound_host(port)],
                self.inbound_fault.map(delay),
            ),
            Direction::Outbound => (
                format!("outbound_0.0.0.0_{port}"),
                "out",
                self.outbound_hosts(port),
                // What is delayed is for the routes to say.
                self.outbound_fault.map(|_| json!({})),
            ),
        };
        let mut filters = Vec::new();
        if let Some(fault) = fault {
            filters.push(extension(FAULT, FAULT_MESSAGE, fault));
        }
        filters.push(router());
        let mut manager = json!({
            // Dots would break the labels of Envoy's Prometheus output.
            "stat_prefix": name.replace('.', "_"),
            "codec_type": "AUTO",
            "use_remote_address": false,
            "generate_request_id": true,
            // The lab asks for one identifier from end to end.
            "preserve_external_request_id": true,
            "normalize_path": true,
            "stream_idle_timeout": "0s",
            "server_name": "istio-envoy",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"name": name, "validate_clusters": false, "virtual_hosts": hosts},
            "http_filters": filters,
        });
        let loggers = self.access_loggers(short);
        if let (false, Some(manager)) = (loggers.is_empty(), manager.as_object_mut()) {
            manager.insert("access_log".to_owned(), json!(loggers));
        }
        connection_manager(manager)
    }

    fn outbound_hosts(&self, port: u16) -> Vec<Value> {
        let services = self.services().filter(|service| service.port == port);
        let mut hosts: Vec<_> = services
            .map(|service| self.outbound_host(&service))
            .collect();
        hosts.push(json!({
            "name": "allow_any",
            "domains": ["*"],
            "routes": [route("PassthroughCluster")],
        }));
        hosts
    }

    fn outbound_host(&self, service: &Service) -> Value {
        let Service { name, port, .. } = service;
        let mut route = route(&service.cluster(self.namespace));
        if let (Some(fault), Pod::Info, Some(route)) =
            (self.outbound_fault, service.pod, route.as_object_mut())
        {
            let config = extension(FAULT, FAULT_MESSAGE, delay(fault));
            let message = config.get("typed_config").cloned().unwrap_or_default();
            route.insert(
                "typed_per_filter_config".to_owned(),
                json!({FAULT: message}),
            );
        }
        let bare = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let mut names = vec![(*name).to_owned()];
        for suffix in ["", ".svc", ".svc.cluster.local"] {
            names.push(format!("{name}.{}{suffix}", self.namespace));
        }
        if self.endpoints == Endpoints::OfLab {
            names.push(bare(service.vip));
            names.push(bare(service.endpoint().ip()));
        }
        let domains: Vec<_> = names
            .into_iter()
            .flat_map(|name| [format!("{name}:{port}"), name])
            .collect();
        json!({"name": format!("{name}:{port}"), "domains": domains, "routes": [route]})
    }

    /// Services it knows: those of IPv6 only where IPv6 is redirected to it.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> + use<> {
        let ipv6 = self.ipv6;
        SERVICES
            .into_iter()
            .filter(move |service| ipv6 || !service.is_v6())
    }
}

fn inbound_host(port: u16) -> Value {
    json!({
        "name": format!("inbound|http|{port}"),
        "domains": ["*"],
        "routes": [route(&format!("inbound|{port}||"))],
    })
}

fn route(cluster: &str) -> Value {
    json!({
        "name": "default",
        "match": {"prefix": "/"},
        "route": {"cluster": cluster, "timeout": "0s"},
    })
}

fn delay(duration: Duration) -> Value {
    json!({"delay": {
        "fixed_delay": seconds(duration),
        "percentage": {"numerator": 100, "denominator": "HUNDRED"},
    }})
}

pub(super) fn router() -> Value {
    extension(
        "envoy.filters.http.router",
        "filters.http.router.v3.Router",
        json!({}),
    )
}

pub(super) fn connection_manager(fields: Value) -> Value {
    extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        fields,
    )
}
