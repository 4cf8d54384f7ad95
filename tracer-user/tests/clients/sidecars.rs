//! The sidecars' ports for what the test serves.

use hoptrace_lab::Pod;
use serde_json::{Value, json};

use crate::envoy;

/// Tomcat, in the pod capitol-info.
pub(crate) const TOMCAT: u16 = 8082;
/// Node, there.
pub(crate) const NODE: u16 = 8083;

/// Ports beside that of capitol-info. NGINX answers at once, and then a client's own work is more than the
/// answer takes: its requests are delayed by the sidecar that sends them.
pub(crate) fn patch(pod: Pod, bootstrap: &mut Value) {
    for port in [TOMCAT, NODE] {
        envoy::port(bootstrap, port);
    }
    if pod == Pod::Load {
        let listeners = bootstrap["static_resources"]["listeners"]
            .as_array_mut()
            .unwrap();
        let mut listeners = listeners.iter_mut();
        let nginx = listeners.find(|listener| listener["name"] == "0.0.0.0_8000");
        let manager = &mut nginx.unwrap()["filter_chains"][0]["filters"][0]["typed_config"];
        let delay = json!({"fixed_delay": "0.050s", "percentage": {"numerator": 100}});
        let fault = json!({"name": "envoy.filters.http.fault", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": delay}});
        manager["http_filters"]
            .as_array_mut()
            .unwrap()
            .insert(0, fault);
    }
}
