//! The histograms of the requests: one set of children for each set of common labels.

use super::figures::{Figures, PairName, Pairs};
use super::label_set::{LabelSet, Projection, ResponseCode};
use super::names::{self, CommonLabel};
use crate::http2::GRPC_CODES_LAST;
use crate::model::{
    Gone, GrpcStatus, Hop, HopTime, Leg, Part, Reporter, RequestLabels, RequestTimes, Workload,
};
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use prometheus::local::LocalHistogram;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// Parts that every hop may have; those of the pod boundary are the network's only.
const USUAL_PARTS: usize = Part::Whole as usize + 1;
/// One histogram for each hop, leg and part.
const HOP_CHILDREN: usize =
    Leg::ALL.len() * (Hop::ALL.len() * USUAL_PARTS + Part::ALL.len() - USUAL_PARTS);
const REPORTERS: [Reporter; 2] = [Reporter::Source, Reporter::Destination];

/// gRPC's status codes, and the one that is not known.
const GRPC_CODES: usize = GRPC_CODES_LAST as usize + 2;

/// The families that requests are observed in.
pub(super) struct Families {
    hop: HistogramVec,
    request: HistogramVec,
    rtt: HistogramVec,
    grpc: IntCounterVec,
}

impl Families {
    pub(super) fn register(
        registry: &Registry,
        labels: LabelSet,
        buckets: &[f64],
    ) -> Result<Self, prometheus::Error> {
        let labels = |family: names::Family| -> Vec<_> {
            let own = family.labels.iter().copied();
            own.chain(labels.names()).collect()
        };
        let family = |family: names::Family| {
            let labels = labels(family);
            let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
            let histogram = HistogramVec::new(options, &labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        Ok(Self {
            hop: family(names::HOP_DURATION)?,
            request: family(names::REQUEST_DURATION)?,
            rtt: family(names::TCP_RTT)?,
            grpc: {
                let family = names::GRPC_RESPONSES;
                let options = Opts::new(family.name, family.help);
                let counters = IntCounterVec::new(options, &labels(family))?;
                registry.register(Box::new(counters.clone()))?;
                counters
            },
        })
    }
}

/// Children of one label set. They count without atomics and are flushed before a scrape.
struct Series {
    labels: RequestLabels,
    /// Values of the common labels, kept to make and to remove children.
    values: Vec<String>,
    hops: [Option<LocalHistogram>; HOP_CHILDREN],
    requests: [Option<LocalHistogram>; REPORTERS.len()],
    rtt: Option<LocalHistogram>,
    figures: Figures,
    /// By reporter and status, made with the first call of gRPC.
    grpc: Option<Box<[[Option<IntCounter>; GRPC_CODES]; REPORTERS.len()]>>,
    touched: bool,
    last_touched: Option<Instant>,
}

impl Series {
    fn new(projection: &Projection<'_>) -> Box<Self> {
        Box::new(Self {
            labels: projection.labels().clone(),
            values: projection.values(),
            hops: [const { None }; HOP_CHILDREN],
            requests: [const { None }; REPORTERS.len()],
            rtt: None,
            figures: Figures::default(),
            grpc: None,
            touched: true,
            last_touched: None,
        })
    }

    fn observe(&mut self, families: &Families, times: &RequestTimes) {
        self.touched = true;
        self.figures.observe(times);
        let values = &self.values;
        for time in &times.hops {
            let own = || [time.hop.as_str(), time.leg.as_str(), time.part.as_str()];
            let child = self.hops.get_mut(hop_index(time));
            observe(child, &families.hop, own, values, time.duration_ns);
        }
        for &(reporter, duration_ns) in &times.totals {
            let child = self.requests.get_mut(reporter as usize);
            observe(
                child,
                &families.request,
                || [reporter.as_str()],
                values,
                duration_ns,
            );
        }
        if let Some(rtt_ns) = times.tcp_rtt_ns {
            observe(Some(&mut self.rtt), &families.rtt, || [], values, rtt_ns);
        }
        if let Some(status) = times.grpc {
            self.count_grpc(families, times, status);
        }
    }

    /// Counts how a call ended, once for each end that reports it.
    fn count_grpc(&mut self, families: &Families, times: &RequestTimes, status: GrpcStatus) {
        let code = match status {
            GrpcStatus::Code(code) => usize::from(code),
            GrpcStatus::Unknown => GRPC_CODES - 1,
        };
        let counters = self.grpc.get_or_insert_default();
        for &(reporter, _) in &times.totals {
            let row = counters.get_mut(reporter as usize);
            let Some(counter) = row.and_then(|row| row.get_mut(code)) else {
                continue;
            };
            if counter.is_none() {
                let status = grpc_status(code);
                let own = [reporter.as_str(), status.as_str()].into_iter();
                let values: Vec<_> = own.chain(self.values.iter().map(String::as_str)).collect();
                *counter = families.grpc.get_metric_with_label_values(&values).ok();
            }
            if let Some(counter) = counter {
                counter.inc();
            }
        }
    }

    fn flush(&self) {
        let children = self.hops.iter().chain(&self.requests).chain([&self.rtt]);
        children.flatten().for_each(LocalHistogram::flush);
    }

    /// Removes every child from its family, so that the next scrape does not show them.
    fn remove(self, families: &Families) {
        self.flush();
        let forget = |family: &HistogramVec, own: &[&str]| {
            let values: Vec<_> = own
                .iter()
                .copied()
                .chain(self.values.iter().map(String::as_str))
                .collect();
            // A child that was never made is not there to be removed.
            let _absent = family.remove_label_values(&values);
        };
        for hop in Hop::ALL {
            for leg in Leg::ALL {
                for part in Part::ALL {
                    forget(&families.hop, &[hop.as_str(), leg.as_str(), part.as_str()]);
                }
            }
        }
        for reporter in REPORTERS {
            forget(&families.request, &[reporter.as_str()]);
        }
        forget(&families.rtt, &[]);
        if self.grpc.is_none() {
            return;
        }
        for reporter in REPORTERS {
            for code in 0..GRPC_CODES {
                let status = grpc_status(code);
                let own = [reporter.as_str(), status.as_str()].into_iter();
                let values: Vec<_> = own.chain(self.values.iter().map(String::as_str)).collect();
                let _absent = families.grpc.remove_label_values(&values);
            }
        }
    }
}

/// Value of the `grpc_response_status` label (Istio's).
fn grpc_status(code: usize) -> String {
    if code < GRPC_CODES - 1 {
        code.to_string()
    } else {
        names::UNKNOWN_CODE.to_owned()
    }
}

/// Place of a hop's histogram among the children of a label set.
fn hop_index(time: &HopTime) -> usize {
    let (hop, leg, part) = (time.hop as usize, time.leg as usize, time.part as usize);
    match part.checked_sub(USUAL_PARTS) {
        None => (hop * Leg::ALL.len() + leg) * USUAL_PARTS + part,
        Some(part) => (Hop::ALL.len() * USUAL_PARTS + part) * Leg::ALL.len() + leg,
    }
}

/// Observes in the child, making it the first time.
fn observe<const N: usize>(
    child: Option<&mut Option<LocalHistogram>>,
    family: &HistogramVec,
    own: impl Fn() -> [&'static str; N],
    common: &[String],
    duration_ns: u64,
) {
    let Some(child) = child else { return };
    if child.is_none() {
        let values: Vec<_> = own()
            .into_iter()
            .chain(common.iter().map(String::as_str))
            .collect();
        // The number of values is the number of labels of the family, the only way to fail.
        *child = family
            .get_metric_with_label_values(&values)
            .ok()
            .map(|made| made.local());
    }
    if let Some(histogram) = child {
        // A division is rounded correctly, so 10 µs falls into the bucket of 1e-5 s.
        histogram.observe(duration_ns as f64 / 1e9);
    }
}

/// The series of a request; `None` when it has none yet and the table is full.
fn find_or_make<'t>(
    table: &'t mut HashTable<Box<Series>>,
    hasher: &DefaultHashBuilder,
    projection: &Projection<'_>,
    cap: usize,
) -> Option<&'t mut Series> {
    let full = table.len() >= cap;
    let found = table.entry(
        hasher.hash_one(projection),
        |series| projection.matches(&series.labels),
        |series| hasher.hash_one(projection.of(&series.labels)),
    );
    match found {
        Entry::Occupied(entry) => Some(entry.into_mut()),
        Entry::Vacant(_) if full => None,
        Entry::Vacant(entry) => Some(entry.insert(Series::new(projection)).into_mut()),
    }
}

/// Every label set seen, never more than the cap, and those that hide the workloads beyond it.
pub(super) struct Table {
    families: Families,
    hasher: DefaultHashBuilder,
    series: HashTable<Box<Series>>,
    /// At most one for each protocol, status class and security policy.
    overflow: HashTable<Box<Series>>,
    set: LabelSet,
    shown: ResponseCode,
    cap: usize,
}

impl Table {
    pub(super) fn new(families: Families, set: LabelSet, shown: ResponseCode, cap: usize) -> Self {
        Self {
            families,
            hasher: DefaultHashBuilder::default(),
            series: HashTable::new(),
            overflow: HashTable::new(),
            set,
            shown,
            cap,
        }
    }

    /// Observes a request; `false` when the cap sent it to the overflow set.
    pub(super) fn observe(&mut self, times: &RequestTimes) -> bool {
        let Self {
            families,
            hasher,
            series,
            overflow,
            set,
            shown,
            cap,
        } = self;
        let projection = Projection::new(*set, *shown, &times.labels);
        if let Some(found) = find_or_make(series, hasher, &projection, *cap) {
            found.observe(families, times);
            return true;
        }
        // Classes even where codes are shown: this table has to stay small whatever comes.
        let labels = projection.overflow_labels();
        let hidden = Projection::new(*set, ResponseCode::Class, &labels);
        if let Some(found) = find_or_make(overflow, hasher, &hidden, usize::MAX) {
            found.observe(families, times);
        }
        false
    }

    /// Hands everything observed to the families.
    pub(super) fn flush(&self) {
        self.series
            .iter()
            .chain(&self.overflow)
            .for_each(|series| series.flush());
    }

    /// What was counted, by pair of workloads.
    pub(super) fn pairs(&self) -> Pairs {
        let names: Vec<_> = self.set.iter().collect();
        let mut pairs = Pairs::default();
        for series in self.series.iter().chain(&self.overflow) {
            let value = |wanted: CommonLabel| {
                let at = names.iter().position(|name| *name == wanted);
                let value = at.and_then(|at| series.values.get(at));
                value.cloned().unwrap_or_default()
            };
            let pair = PairName {
                source_workload: value(CommonLabel::SourceWorkload),
                source_workload_namespace: value(CommonLabel::SourceWorkloadNamespace),
                destination_workload: value(CommonLabel::DestinationWorkload),
                destination_workload_namespace: value(CommonLabel::DestinationWorkloadNamespace),
                destination_service_name: value(CommonLabel::DestinationServiceName),
            };
            pairs.add(pair, &series.figures);
        }
        pairs
    }

    /// Number of label sets, those of the overflow not counted.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Forgets the label sets of a workload, on whichever side it stands.
    pub(super) fn forget(&mut self, gone: &Gone) {
        let revisions = self.set.tells_revisions();
        let of = |found: &Workload| {
            let Gone { workload, last } = gone;
            let same = found.name == workload.name && found.namespace == workload.namespace;
            // Where revisions are not shown, those that are left are counted in the same series.
            same && (*last || revisions && found.canonical == workload.canonical)
        };
        let of =
            |series: &mut Box<Series>| of(&series.labels.source) || of(&series.labels.destination);
        for series in self.series.extract_if(of) {
            series.remove(&self.families);
        }
    }

    /// Forgets label sets without an observation for `idle`: workloads come and go.
    pub(super) fn expire(&mut self, now: Instant, idle: Duration) {
        let gone = self.series.extract_if(|series| {
            if std::mem::take(&mut series.touched) {
                series.last_touched = Some(now);
            }
            let last = *series.last_touched.get_or_insert(now);
            now.saturating_duration_since(last) >= idle
        });
        for series in gone {
            series.remove(&self.families);
        }
    }
}
