//! The access log of a sidecar: everything Envoy knows about time in one request, in microseconds
//! where it can (`COMMON_DURATION`, Envoy's access log documentation). `access.rs` reads it.

use serde_json::{Map, Value, json};

use super::{Sidecar, extension};

const FIELDS: [(&str, &str); 27] = [
    ("start_us", "%START_TIME(%s%6f)%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("code", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("traceparent", "%REQ(TRACEPARENT)%"),
    ("ds_total_us", "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%"),
    ("req_leg_us", "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%"),
    ("us_wait_us", "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%"),
    ("us_total_us", "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%"),
    ("resp_leg_us", "%COMMON_DURATION(US_RX_BEG:DS_TX_BEG:us)%"),
    ("us_connect_us", "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%"),
    (
        "us_handshake_us",
        "%COMMON_DURATION(US_CX_END:US_HS_END:us)%",
    ),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_connection", "%UPSTREAM_CONNECTION_ID%"),
    ("downstream_local", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("downstream_connection", "%CONNECTION_ID%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("tls", "%DOWNSTREAM_TLS_VERSION%"),
    ("upstream_tls", "%UPSTREAM_TLS_VERSION%"),
    ("peer", "%DOWNSTREAM_PEER_URI_SAN%"),
];

impl Sidecar {
    /// Loggers of one direction, `in` or `out`; none when the log is off.
    pub(super) fn access_loggers(&self, direction: &str) -> Vec<Value> {
        let Some(path) = &self.access_log else {
            return Vec::new();
        };
        let mut format: Map<_, _> = FIELDS
            .iter()
            .map(|(name, command)| ((*name).to_owned(), json!(command)))
            .collect();
        format.insert("direction".to_owned(), json!(direction));
        vec![extension(
            "envoy.access_loggers.file",
            "access_loggers.file.v3.FileAccessLog",
            json!({"path": path, "log_format": {"json_format": format}}),
        )]
    }
}
