//! A request as a line of JSON: what `/requests` sends, and `hoptrace requests` reads.
//!
//! Names are those of the metrics' labels. Fields may be added; readers take what they know.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Request, SOCKETS};
use crate::metrics::names::SECURITY_POLICIES;
use crate::model::{Hop, Ktime, Leg, Part};

/// One line of the stream.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Line<'a> {
    /// A request.
    #[serde(borrow)]
    Request(Box<Told<'a>>),
    /// The reader was too slow for so many requests, which are not told.
    Dropped {
        /// How many.
        dropped: u64,
    },
}

/// One request. Times are nanoseconds, and but for `at` since the first byte that was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Told<'a> {
    /// When that was (RFC 3339, UTC).
    pub at: Cow<'a, str>,
    /// Calling workload.
    pub source_workload: Cow<'a, str>,
    /// Its namespace.
    pub source_workload_namespace: Cow<'a, str>,
    /// Called workload.
    pub destination_workload: Cow<'a, str>,
    /// Its namespace.
    pub destination_workload_namespace: Cow<'a, str>,
    /// Service asked for.
    pub destination_service_name: Cow<'a, str>,
    /// `http` or `tcp`.
    pub request_protocol: Cow<'a, str>,
    /// Method of HTTP, when one was seen.
    pub request_method: Option<Cow<'a, str>>,
    /// Status, when one was seen.
    pub response_code: Option<u16>,
    /// `mutual_tls` or `none`.
    pub connection_security_policy: Cow<'a, str>,
    /// First byte of the request to first byte of the response, at the outermost socket that was seen.
    pub duration_ns: u64,
    /// Which of the six sockets were seen.
    pub sockets: Vec<Cow<'a, str>>,
    /// t1 to t12, those that were seen.
    pub stamps_ns: [Option<i64>; 2 * SOCKETS.len()],
    /// Self times.
    pub hops: Vec<HopLine>,
    /// Calls of the called app that are not in its self time, and how long they took.
    pub calls: u64,
    /// See `calls`.
    pub calls_ns: u64,
    /// The pieces of the way, one behind the other.
    pub stages: Vec<StageLine>,
}

/// A self time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HopLine {
    /// Where.
    pub hop: Hop,
    /// Which way.
    pub leg: Leg,
    /// Which part.
    pub part: Part,
    /// How long.
    pub ns: u64,
}

/// A piece of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StageLine {
    /// Where; nothing where no socket of this node is.
    pub hop: Option<Hop>,
    /// Which way.
    pub leg: Leg,
    /// Its beginning.
    pub from_ns: u64,
    /// When the bytes were read, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_ns: Option<u64>,
    /// Its end.
    pub to_ns: u64,
}

/// Two clocks at one moment, to tell when something was.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// That of the stamps.
    pub monotonic: Ktime,
    /// That of people.
    pub wall: SystemTime,
}

impl Clocks {
    /// A stamp in people's time.
    #[must_use]
    pub fn wall_at(&self, stamp: Ktime) -> SystemTime {
        let ago = Duration::from_nanos(self.monotonic.saturating_sub(stamp));
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

impl<'a> Told<'a> {
    /// What is told of a request.
    #[must_use]
    pub fn of(request: &'a Request, clocks: Clocks) -> Self {
        let labels = &request.labels;
        let at = clocks.wall_at(request.began);
        let [none, mutual_tls] = SECURITY_POLICIES;
        let sockets = SOCKETS.into_iter().zip(request.sockets);
        let sockets = sockets.filter_map(|(name, seen)| seen.map(|_| name.into()));
        let there = request.sockets.map(|seen| seen.map(|at| at.request_ns));
        let back = request.sockets.map(|seen| seen.map(|at| at.response_ns));
        let mut stamps_ns = [None; 2 * SOCKETS.len()];
        let way = there.into_iter().chain(back.into_iter().rev());
        for (stamp, seen) in stamps_ns.iter_mut().zip(way) {
            *stamp = seen;
        }
        Self {
            at: humantime::format_rfc3339_micros(at).to_string().into(),
            source_workload: (&*labels.source.name).into(),
            source_workload_namespace: (&*labels.source.namespace).into(),
            destination_workload: (&*labels.destination.name).into(),
            destination_workload_namespace: (&*labels.destination.namespace).into(),
            destination_service_name: (&*labels.service).into(),
            request_protocol: labels.protocol.as_str().into(),
            request_method: Some(request.method)
                .filter(|method| !method.is_empty())
                .map(Cow::from),
            response_code: Some(labels.response_code).filter(|code| *code != 0),
            connection_security_policy: if labels.mutual_tls { mutual_tls } else { none }.into(),
            duration_ns: request.duration_ns,
            sockets: sockets.collect(),
            stamps_ns,
            hops: hops(request),
            calls: request.calls,
            calls_ns: request.calls_ns,
            stages: stages(request),
        }
    }

    /// Self time of a hop.
    #[must_use]
    pub fn hop_ns(&self, hop: Hop) -> u64 {
        let of = self.hops.iter().filter(|time| time.hop == hop);
        of.map(|time| time.ns).sum()
    }
}

fn hops(request: &Request) -> Vec<HopLine> {
    let line = |time: &crate::model::HopTime| HopLine {
        hop: time.hop,
        leg: time.leg,
        part: time.part,
        ns: time.duration_ns,
    };
    request.hops.iter().map(line).collect()
}

fn stages(request: &Request) -> Vec<StageLine> {
    let line = |stage: &super::Stage| StageLine {
        hop: stage.hop,
        leg: stage.leg,
        from_ns: stage.from_ns,
        read_ns: stage.read_ns,
        to_ns: stage.to_ns,
    };
    request.stages.iter().map(line).collect()
}
