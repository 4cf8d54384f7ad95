//! Reading a sidecar's access log; `envoy/access_log.rs` says what Envoy writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Which side of a sidecar a request passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessDirection {
    /// To the app of the pod.
    In,
    /// From it.
    Out,
}

/// One request as one sidecar saw it. Durations are microseconds, and `None` where the moment
/// they end at did not come; text is empty where Envoy writes `-`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AccessEntry {
    /// `in` or `out`.
    pub direction: AccessDirection,
    /// First byte of the request, microseconds since 1970.
    #[serde(deserialize_with = "number_or_zero")]
    pub start_us: u64,
    /// `GET`, `POST` …
    #[serde(deserialize_with = "text")]
    pub method: String,
    /// Path and query.
    #[serde(deserialize_with = "text")]
    pub path: String,
    /// `HTTP/1.1` …
    #[serde(deserialize_with = "text")]
    pub protocol: String,
    /// Status; 0 when there was none.
    #[serde(deserialize_with = "number_or_zero")]
    pub code: u64,
    /// Envoy's `RESPONSE_FLAGS`: `DI` for a delay on purpose, `UF` for a failed connection …
    #[serde(deserialize_with = "text")]
    pub flags: String,
    /// `x-request-id`.
    #[serde(deserialize_with = "text")]
    pub request_id: String,
    /// `traceparent`.
    #[serde(deserialize_with = "text")]
    pub traceparent: String,
    /// First byte of the request read to last byte of the response written.
    #[serde(deserialize_with = "number")]
    pub ds_total_us: Option<u64>,
    /// First byte of the request read to first byte of it written: the proxy's request leg.
    #[serde(deserialize_with = "number")]
    pub req_leg_us: Option<u64>,
    /// Last byte of the request written to first byte of the response read.
    #[serde(deserialize_with = "number")]
    pub us_wait_us: Option<u64>,
    /// First byte of the request written to last byte of the response read.
    #[serde(deserialize_with = "number")]
    pub us_total_us: Option<u64>,
    /// First byte of the response read to first byte of it written: the proxy's response leg.
    #[serde(deserialize_with = "number")]
    pub resp_leg_us: Option<u64>,
    /// Connecting to the upstream, when this request had to.
    #[serde(deserialize_with = "number")]
    pub us_connect_us: Option<u64>,
    /// The TLS handshake with it, when this request had to.
    #[serde(deserialize_with = "number")]
    pub us_handshake_us: Option<u64>,
    /// Address the request went to.
    #[serde(deserialize_with = "text")]
    pub upstream_host: String,
    /// Envoy's own address on that connection.
    #[serde(deserialize_with = "text")]
    pub upstream_local: String,
    /// Cluster it went to.
    #[serde(deserialize_with = "text")]
    pub upstream_cluster: String,
    /// Number of that connection.
    #[serde(deserialize_with = "number")]
    pub upstream_connection: Option<u64>,
    /// Address the request came to, before redirection.
    #[serde(deserialize_with = "text")]
    pub downstream_local: String,
    /// Address it came from.
    #[serde(deserialize_with = "text")]
    pub downstream_remote: String,
    /// Number of that connection.
    #[serde(deserialize_with = "number")]
    pub downstream_connection: Option<u64>,
    /// Bytes of the request's body.
    #[serde(deserialize_with = "number_or_zero")]
    pub bytes_received: u64,
    /// Bytes of the response's body.
    #[serde(deserialize_with = "number_or_zero")]
    pub bytes_sent: u64,
    /// TLS version of the connection it came on: `TLSv1.3`, or empty.
    #[serde(deserialize_with = "text")]
    pub tls: String,
    /// TLS version of the connection it went on.
    #[serde(deserialize_with = "text")]
    pub upstream_tls: String,
    /// SPIFFE identity of who sent it.
    #[serde(deserialize_with = "text")]
    pub peer: String,
}

impl Default for AccessEntry {
    fn default() -> Self {
        Self {
            direction: AccessDirection::In,
            start_us: 0,
            method: String::new(),
            path: String::new(),
            protocol: String::new(),
            code: 0,
            flags: String::new(),
            request_id: String::new(),
            traceparent: String::new(),
            ds_total_us: None,
            req_leg_us: None,
            us_wait_us: None,
            us_total_us: None,
            resp_leg_us: None,
            us_connect_us: None,
            us_handshake_us: None,
            upstream_host: String::new(),
            upstream_local: String::new(),
            upstream_cluster: String::new(),
            upstream_connection: None,
            downstream_local: String::new(),
            downstream_remote: String::new(),
            downstream_connection: None,
            bytes_received: 0,
            bytes_sent: 0,
            tls: String::new(),
            upstream_tls: String::new(),
            peer: String::new(),
        }
    }
}

/// Every whole line of a log; a last one without its end is still being written.
///
/// # Errors
/// The file cannot be read, or a line is not an entry.
pub(crate) fn read(path: &Path) -> Result<Vec<AccessEntry>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("{}: no access log entry: {line}", path.display()))
        })
        .collect()
}

/// Envoy writes a number, a number as text, `-`, or null.
fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

fn number_or_zero<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    Ok(number(input)?.unwrap_or(0))
}

fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) if text != "-" => text,
        _ => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_value_is_read() {
        let line = r#"{"direction":"out","start_us":"1767000000123456","code":200,"flags":"-",
            "req_leg_us":57,"resp_leg_us":"41","us_connect_us":null,"tls":"TLSv1.3","new":1}"#;
        let entry: AccessEntry = serde_json::from_str(line).unwrap();
        assert_eq!(entry.direction, AccessDirection::Out);
        assert_eq!(entry.start_us, 1_767_000_000_123_456);
        assert_eq!((entry.code, entry.flags.as_str()), (200, ""));
        assert_eq!((entry.req_leg_us, entry.resp_leg_us), (Some(57), Some(41)));
        assert_eq!((entry.us_connect_us, entry.us_wait_us), (None, None));
        assert_eq!(entry.tls, "TLSv1.3");
    }
}
