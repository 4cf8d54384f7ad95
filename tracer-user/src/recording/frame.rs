//! The frames of a recording as values.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::stream::RecordedStream;
use crate::config::{Buckets, Config, Http2, PodBoundary, ProxyAppSource};
use crate::decode::{Http, RequestHead};
use crate::join::JoinConfig;
use crate::metrics::{LabelSet, MetricsConfig, ResponseCode};
use crate::model::{Canonical, Gone, Ktime, Workload};
use crate::roles::Sidecars;

/// What the stages and the metrics were told at the start.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Settings {
    /// Version of the agent.
    pub agent: String,
    /// How long exchanges waited for their neighbours, nanoseconds.
    pub hold_ns: u64,
    /// Greatest number of exchanges that waited.
    pub max_pending: usize,
    /// Where sidecars take what comes for their apps.
    pub inbound_port: u16,
    /// Where they take what their apps send.
    pub outbound_port: u16,
    /// From where they reach their apps.
    pub app_source: ProxyAppSource,
    /// Upper bounds of the histograms, seconds.
    pub buckets: Buckets,
    /// Common labels.
    pub labels: LabelSet,
    /// Status classes or codes.
    pub response_code: ResponseCode,
    /// Greatest number of label sets.
    pub max_series: usize,
    /// Whether plaintext heads are in the records.
    pub heads: bool,
    /// When the last hook was attached; 0 in recordings that do not tell.
    #[serde(default)]
    pub attached: Ktime,
    /// Whether the pods' veths were watched.
    #[serde(default)]
    pub pod_boundary: bool,
    /// Whether HTTP/2 was followed.
    #[serde(default)]
    pub http2: bool,
}

impl Settings {
    /// Those of an agent whose hooks were all attached at `attached`.
    #[must_use]
    pub fn of(config: &Config, attached: Ktime) -> Self {
        Self {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            hold_ns: config.joining().hold_ns,
            max_pending: config.max_pending.get(),
            inbound_port: config.proxy_inbound_port.get(),
            outbound_port: config.proxy_outbound_port.get(),
            app_source: config.proxy_app_source.clone(),
            buckets: config.buckets.clone(),
            labels: config.labels,
            response_code: config.response_code,
            max_series: config.max_series.get(),
            heads: config.record_heads,
            attached,
            pod_boundary: config.pod_boundary == PodBoundary::On,
            http2: config.http2 == Http2::On,
        }
    }

    /// The part that the join needs.
    #[must_use]
    pub const fn join(&self) -> JoinConfig {
        JoinConfig {
            hold_ns: self.hold_ns,
            max_pending: self.max_pending,
        }
    }

    /// The part that the roles need.
    #[must_use]
    pub fn sidecars(&self) -> Sidecars {
        Sidecars {
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            app_source: self.app_source.get(),
        }
    }

    /// The part that the metrics need.
    #[must_use]
    pub fn metrics(&self) -> MetricsConfig {
        MetricsConfig {
            buckets: self.buckets.as_slice().to_vec(),
            labels: self.labels,
            response_code: self.response_code,
            max_series: self.max_series,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame<'a> {
    /// First in every file.
    Settings(Settings),
    /// A record as it came.
    Record(&'a [u8]),
    /// A record without its heads, and what they told.
    Headless(Http, &'a [u8]),
    /// Bytes that are no record, cut where heads would begin.
    NoRecord(&'a [u8]),
    /// What passed a veth, as it came.
    Passage(&'a [u8]),
    /// The streams of the socket with this cookie are followed from here on.
    Follows(u64),
    /// A stream of HTTP/2 that is over.
    Stream(Box<RecordedStream>),
    /// From here on a name is this.
    Name(Name),
    /// From here on no name is known.
    Unnamed,
    /// A workload was gone for long enough when what follows was settled.
    Gone(Gone),
    /// Everything older than this, less the hold time, was settled.
    Settled(Ktime),
    /// What the kernel side lost since the start, by reason.
    Lost(BTreeMap<String, u64>),
    /// Last in a file that was not cut off.
    End(End),
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// The agent did, and settled everything first.
    Stopped,
    /// The file was as long as it may be.
    Full,
}

/// The last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct End {
    pub(super) reason: Reason,
    /// Records in the file.
    pub(super) records: u64,
}

/// An answer about a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Name {
    Cgroup(u64, u32, Option<NamedWorkload>),
    Address(IpAddr, Option<NamedWorkload>),
    Service(SocketAddr, Option<String>),
    Proxy(u64, u32, Option<bool>),
}

/// A workload in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub(super) struct NamedWorkload {
    name: String,
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canonical: Option<(String, String)>,
}

impl From<&Workload> for NamedWorkload {
    fn from(workload: &Workload) -> Self {
        let canonical = workload.canonical.as_deref();
        Self {
            name: workload.name.to_string(),
            namespace: workload.namespace.to_string(),
            canonical: canonical.map(|is| (is.service.to_string(), is.revision.to_string())),
        }
    }
}

impl From<NamedWorkload> for Workload {
    fn from(named: NamedWorkload) -> Self {
        let canonical = named.canonical.map(|(service, revision)| Canonical {
            service: service.into(),
            revision: revision.into(),
        });
        Self {
            canonical: canonical.map(Into::into),
            ..Self::new(named.name.into(), named.namespace.into())
        }
    }
}

/// The kind of a record without heads, and of one that has its trace in front.
const HEADLESS: u8 = 3;
const TRACED: u8 = 12;
/// Bytes before a headless record: kind of the request, probe, status, request id.
const FACTS: usize = 12;

impl<'a> Frame<'a> {
    /// The frame's kind; its body is appended to `body`.
    pub(super) fn write(&self, body: &mut Vec<u8>) -> serde_json::Result<u8> {
        let kind = match self {
            Self::Settings(settings) => {
                serde_json::to_writer(body, settings)?;
                1
            }
            Self::Record(bytes) => {
                body.extend_from_slice(bytes);
                2
            }
            Self::Headless(told, bytes) => {
                let traced = told.trace_id != 0;
                if traced {
                    body.extend_from_slice(&told.trace_id.to_le_bytes());
                }
                body.push(told.request as u8);
                body.push(u8::from(told.probe));
                body.extend_from_slice(&told.status.to_le_bytes());
                body.extend_from_slice(&told.request_id.to_le_bytes());
                body.extend_from_slice(bytes);
                if traced { TRACED } else { HEADLESS }
            }
            Self::NoRecord(bytes) => {
                body.extend_from_slice(bytes);
                4
            }
            Self::Passage(bytes) => {
                body.extend_from_slice(bytes);
                11
            }
            Self::Follows(cookie) => {
                body.extend_from_slice(&cookie.to_le_bytes());
                13
            }
            Self::Stream(stream) => {
                serde_json::to_writer(body, stream)?;
                14
            }
            Self::Name(name) => {
                serde_json::to_writer(body, name)?;
                5
            }
            Self::Unnamed => 6,
            Self::Gone(gone) => {
                let workload = NamedWorkload::from(&*gone.workload);
                serde_json::to_writer(body, &(workload, gone.last))?;
                7
            }
            Self::Settled(at) => {
                body.extend_from_slice(&at.to_le_bytes());
                8
            }
            Self::Lost(lost) => {
                serde_json::to_writer(body, lost)?;
                9
            }
            Self::End(end) => {
                serde_json::to_writer(body, end)?;
                10
            }
        };
        Ok(kind)
    }

    /// Reads a frame back; the error says what is wrong with it.
    pub(super) fn read(kind: u8, body: &'a [u8]) -> Result<Self, String> {
        fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
            serde_json::from_slice(body).map_err(|error| error.to_string())
        }
        Ok(match kind {
            1 => Self::Settings(json(body)?),
            2 => Self::Record(body),
            HEADLESS | TRACED => {
                let short = "a record is shorter than what its heads told";
                let (trace, body) = if kind == TRACED {
                    body.split_first_chunk().ok_or(short)?
                } else {
                    (&[0; 8], body)
                };
                let (facts, bytes) = body.split_first_chunk::<FACTS>().ok_or(short)?;
                let told = Http {
                    trace_id: u64::from_le_bytes(*trace),
                    ..facts_of(facts)?
                };
                Self::Headless(told, bytes)
            }
            4 => Self::NoRecord(body),
            5 => Self::Name(json(body)?),
            6 => Self::Unnamed,
            7 => {
                let (workload, last) = json::<(NamedWorkload, bool)>(body)?;
                Self::Gone(Gone {
                    workload: Workload::from(workload).into(),
                    last,
                })
            }
            8 => {
                let at = body.try_into().map_err(|_| "a time is not 8 bytes long")?;
                Self::Settled(u64::from_le_bytes(at))
            }
            9 => Self::Lost(json(body)?),
            10 => Self::End(json(body)?),
            11 => Self::Passage(body),
            13 => {
                let cookie = body
                    .try_into()
                    .map_err(|_| "a cookie is not 8 bytes long")?;
                Self::Follows(u64::from_le_bytes(cookie))
            }
            14 => Self::Stream(json(body)?),
            other => return Err(format!("there is no frame of kind {other}")),
        })
    }
}

fn facts_of(facts: &[u8; FACTS]) -> Result<Http, String> {
    let [kind, probe, low, high, id @ ..] = *facts;
    let kinds = [
        RequestHead::Absent,
        RequestHead::Http1,
        RequestHead::Http2,
        RequestHead::Continuation,
        RequestHead::Malformed,
    ];
    let request = kinds.into_iter().find(|known| *known as u8 == kind);
    Ok(Http {
        request: request.ok_or_else(|| format!("there is no request of kind {kind}"))?,
        status: u16::from_le_bytes([low, high]),
        request_id: u64::from_le_bytes(id),
        probe: probe != 0,
        ..Http::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_heads_told_comes_back() {
        for trace_id in [0, 7] {
            let told = Http {
                request: RequestHead::Http1,
                method: "",
                status: 404,
                request_id: 5,
                trace_id,
                probe: true,
            };
            let frame = Frame::Headless(told, b"record");
            let mut body = Vec::new();
            let kind = frame.write(&mut body).unwrap();
            assert_eq!(Frame::read(kind, &body), Ok(frame));
            for short in 0..body.len() - b"record".len() {
                assert!(Frame::read(kind, &body[..short]).is_err());
            }
        }
    }
}
