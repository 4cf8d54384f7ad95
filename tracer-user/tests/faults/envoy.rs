//! Envoys that hold up the requests which say so.

use hoptrace_lab::Pod;
use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

/// In capitol-client's sidecar what goes out, in capitol-info's what comes in.
pub(crate) fn patch(pod: Pod, bootstrap: &mut Value) {
    let (listener, place) = match pod {
        Pod::Load => return,
        Pod::Client => ("0.0.0.0_8080", "outbound"),
        Pod::Info => ("virtualInbound", "inbound"),
    };
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
    let mut listeners = listeners.unwrap().iter_mut();
    let listener = listeners.find(|found| found["name"] == listener).unwrap();
    for chain in listener["filter_chains"].as_array_mut().unwrap() {
        let manager = &mut chain["filters"][0]["typed_config"];
        let Some(filters) = manager["http_filters"].as_array_mut() else {
            continue;
        };
        let faults = super::DELAYS_MS.map(|ms| {
            json!({"name": format!("fault-{ms}"), "typed_config": {
                "@type": TYPE,
                "delay": {"fixed_delay": format!("0.{ms:03}s"), "percentage": {"numerator": 100}},
                "headers": [{"name": "x-fault", "string_match": {"exact": format!("{place}-{ms}")}}],
            }})
        });
        filters.splice(0..0, faults);
    }
}
