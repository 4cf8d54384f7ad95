//! What the cases ask of Envoy beyond Istio's usual configuration.

use hoptrace_lab::Pod;
use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.extensions";
const INFO: &str = "outbound|8080||capitol-info.default.svc.cluster.local";
const CLIENT: &str = "outbound|8000||capitol-client.default.svc.cluster.local";

/// A second port of the app, and routes that retry, time out, fail, copy.
pub(crate) fn patch(pod: Pod, bootstrap: &mut Value) {
    if pod == Pod::Load {
        routes(bootstrap);
    }
    port(bootstrap, 8081);
}

fn named<'a>(list: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let mut all = list.as_array_mut().unwrap().iter_mut();
    all.find(|entry| entry["name"] == name)
}

fn routes(bootstrap: &mut Value) {
    let resources = &mut bootstrap["static_resources"];
    let clusters = &mut resources["clusters"];
    let mut narrow = named(clusters, INFO).unwrap().clone();
    narrow["name"] = json!("narrow");
    narrow["circuit_breakers"] = json!({"thresholds": [{"max_requests": 1, "max_connections": 1, "max_pending_requests": 1}]});
    let nowhere = json!({
        "name": "nowhere",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "nowhere", "endpoints": [{"lb_endpoints": [{"endpoint":
            {"address": {"socket_address": {"address": "10.77.0.1", "port_value": 9}}}}]}]},
    });
    let list = clusters.as_array_mut().unwrap();
    list.extend([narrow, nowhere]);
    let listener = named(&mut resources["listeners"], "0.0.0.0_8080").unwrap();
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    let fault = |fields: Value| {
        let mut fields = fields;
        fields["@type"] = json!(format!("{TYPE}.filters.http.fault.v3.HTTPFault"));
        fields
    };
    let filters = manager["http_filters"].as_array_mut().unwrap();
    let name = "envoy.filters.http.fault";
    filters.insert(0, json!({"name": name, "typed_config": fault(json!({}))}));
    let hosts = manager["route_config"]["virtual_hosts"]
        .as_array_mut()
        .unwrap();
    let host = hosts
        .iter_mut()
        .find(|host| host["name"] == "capitol-info:8080")
        .unwrap();
    let route = |prefix: &str, cluster: &str, more: Value| {
        let mut action = json!({"cluster": cluster, "timeout": "0s"});
        let fields = more.as_object().unwrap().clone();
        action.as_object_mut().unwrap().extend(fields);
        json!({"match": {"prefix": prefix}, "route": action})
    };
    let mut abort = route("/abort", INFO, json!({}));
    let all = json!({"numerator": 100});
    let delay = json!({"fixed_delay": "0.015s", "percentage": all});
    let aborted = json!({"abort": {"http_status": 418, "percentage": all}, "delay": delay});
    abort["typed_per_filter_config"] = json!({name: fault(aborted)});
    let mut nowhere = route("/nowhere", "nowhere", json!({}));
    // Longer than what the client needs for its own stamps.
    nowhere["typed_per_filter_config"] = json!({name: fault(json!({"delay": delay}))});
    let retry = json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2,
        "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.004s"}}});
    let special = [
        route("/flaky", INFO, retry),
        route("/timeout", INFO, json!({"timeout": "0.030s"})),
        nowhere,
        route("/narrow", "narrow", json!({})),
        route(
            "/mirror",
            INFO,
            json!({"request_mirror_policies": [{"cluster": CLIENT}]}),
        ),
        abort,
    ];
    let routes = host["routes"].as_array_mut().unwrap();
    routes.splice(0..0, special);
}

/// Whatever there is for port 8080 of capitol-info again for another port.
pub(crate) fn port(bootstrap: &mut Value, port: u16) {
    let again = |value: &Value| -> Value {
        let text = value.to_string();
        let text = text
            .replace("8080", &port.to_string())
            .replace("\"v6\"", &format!("\"v6-{port}\""));
        serde_json::from_str(&text).unwrap()
    };
    let resources = &mut bootstrap["static_resources"];
    for (list, names) in [
        ("listeners", ["0.0.0.0_8080", ""]),
        ("clusters", [INFO, "inbound|8080||"]),
    ] {
        for name in names {
            let found = named(&mut resources[list], name).map(|entry| again(entry));
            resources[list].as_array_mut().unwrap().extend(found);
        }
    }
    // Where there are routes to capitol-info over IPv6, their cluster is doubled too.
    let v6 = "outbound|8080||capitol-info-v6.default.svc.cluster.local";
    let found = named(&mut resources["clusters"], v6).map(|entry| again(entry));
    resources["clusters"].as_array_mut().unwrap().extend(found);
    let inbound = named(&mut resources["listeners"], "virtualInbound").unwrap();
    let chains = inbound["filter_chains"].as_array_mut().unwrap();
    let more: Vec<_> = chains
        .iter()
        .filter(|chain| chain["filter_chain_match"]["destination_port"] == 8080)
        .map(again)
        .collect();
    chains.extend(more);
}

/// A gateway made of a sidecar: its cluster and connection manager, without app and redirection.
pub(crate) fn gateway(sidecar: &Value, port: u16) -> Value {
    let mut resources = sidecar["static_resources"].clone();
    let cluster = named(&mut resources["clusters"], INFO).unwrap().clone();
    let listener = named(&mut resources["listeners"], "0.0.0.0_8080").unwrap();
    let mut filter = listener["filter_chains"][0]["filters"][0].clone();
    let manager = &mut filter["typed_config"];
    manager["route_config"] = json!({"virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": INFO, "timeout": "0s"}}]}]});
    json!({
        "node": {"id": "router", "cluster": "gateway"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
        "static_resources": {
            "clusters": [cluster],
            "listeners": [{
                "name": "gateway",
                "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
                "filter_chains": [{"filters": [filter]}],
            }],
        },
    })
}
