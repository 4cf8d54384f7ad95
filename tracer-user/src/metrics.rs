//! Histograms and counters out of finished requests, and their Prometheus exposition.
//!
//! The hot path is [`Metrics::observe`]: it finds the children of a request by its borrowed labels
//! and formats no text. Everything is flushed into the registry when it is scraped.

pub mod figures;
pub mod label_set;
pub mod names;
mod process;
mod series;

pub use label_set::{LabelSet, ResponseCode};

use crate::attribute::Splits;
use crate::books::Books;
use crate::boundary::Verdict;
use crate::identity::kubernetes::status::{FeedReport, Reason};
use crate::load::boundary::Interfaces;
use crate::model::{CallMethod, Dropped, Fate, Gone, Method, RequestTimes};
use crate::tap::Handed;
use names::Family;
use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::io;
use std::time::{Duration, Instant};
use tracer_common::{BoundaryLoss, Http2Loss, Loss};

/// Why the metrics cannot be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A family was refused, for example because of its buckets.
    #[error("cannot register the metrics; check `buckets` and `labels`")]
    Register(#[from] prometheus::Error),
}

/// What of the configuration the metrics need.
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// Upper bounds of the histograms, seconds, ascending.
    pub buckets: Vec<f64>,
    /// Common labels to export.
    pub labels: LabelSet,
    /// Status classes or codes.
    pub response_code: ResponseCode,
    /// Greatest number of sets of common labels.
    pub max_series: usize,
}

/// Every metric of the agent.
pub struct Metrics {
    registry: Registry,
    requests: series::Table,
    exchanges: IntCounterVec,
    /// Children of `exchanges` by fate and method, so that counting looks nothing up.
    exchange: Vec<[Option<IntCounter>; Method::ALL.len()]>,
    records: IntCounter,
    pending: IntGauge,
    traced: Counter,
    lost: IntCounterVec,
    capped: IntCounter,
    dropped: IntCounterVec,
    splits: IntCounterVec,
    interfaces: IntGaugeVec,
    interface_errors: IntCounterVec,
    calls: IntCounterVec,
    tap_requests: IntCounterVec,
    tap_listeners: IntGauge,
    bpf_run_seconds: CounterVec,
    bpf_runs: IntCounterVec,
    identity_synced: IntGaugeVec,
    identity_objects: IntGaugeVec,
    identity_errors: IntCounterVec,
    identity_restarts: IntCounterVec,
}

impl Metrics {
    /// Registers every family; what can be known beforehand starts at 0, so that `rate()` sees
    /// the first increase.
    ///
    /// # Errors
    /// When the buckets or labels make a family that Prometheus does not take.
    pub fn new(config: &MetricsConfig) -> Result<Self, MetricsError> {
        let metrics = Self::of_recording(config)?;
        let process = process::Process::of_this()?;
        metrics.registry.register(Box::new(process))?;
        Ok(metrics)
    }

    /// The same without this process, which is not the one that measured.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn of_recording(config: &MetricsConfig) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = series::Families::register(&registry, config.labels, &config.buckets)?;
        let metrics = Self {
            requests: series::Table::new(
                families,
                config.labels,
                config.response_code,
                config.max_series,
            ),
            exchanges: int_counters(&registry, names::EXCHANGES)?,
            exchange: vec![[const { None }; Method::ALL.len()]; Fate::ALL.len()],
            records: int_counter(&registry, names::RECORDS)?,
            pending: int_gauge(&registry, names::PENDING)?,
            traced: {
                let counter = Counter::with_opts(options(names::TRACED_SECONDS))?;
                register(&registry, counter)?
            },
            lost: int_counters(&registry, names::RECORDS_LOST)?,
            capped: int_counter(&registry, names::LABEL_SETS_CAPPED)?,
            dropped: int_counters(&registry, names::TIMES_DROPPED)?,
            splits: int_counters(&registry, names::NETWORK_SPLITS)?,
            interfaces: int_gauges(&registry, names::POD_INTERFACES)?,
            interface_errors: int_counters(&registry, names::POD_INTERFACE_ERRORS)?,
            calls: int_counters(&registry, names::APP_CALLS)?,
            tap_requests: int_counters(&registry, names::TAP_REQUESTS)?,
            tap_listeners: int_gauge(&registry, names::TAP_LISTENERS)?,
            bpf_run_seconds: {
                let family = names::BPF_RUN_SECONDS;
                register(&registry, CounterVec::new(options(family), family.labels)?)?
            },
            bpf_runs: int_counters(&registry, names::BPF_RUNS)?,
            identity_synced: int_gauges(&registry, names::IDENTITY_SYNCED)?,
            identity_objects: int_gauges(&registry, names::IDENTITY_OBJECTS)?,
            identity_errors: int_counters(&registry, names::IDENTITY_ERRORS)?,
            identity_restarts: int_counters(&registry, names::IDENTITY_RESTARTS)?,
            registry,
        };
        build_info(&metrics.registry)?;
        metrics.start_at_zero()
    }

    fn start_at_zero(mut self) -> Result<Self, MetricsError> {
        for fate in Fate::ALL {
            for method in Method::ALL {
                if (fate == Fate::Paired) != (method == Method::None) {
                    self.count_exchange(fate, method, 0);
                }
            }
        }
        self.set_tap(0, Handed::default());
        for dropped in Dropped::ALL {
            self.count_dropped(dropped, 0);
        }
        for method in CallMethod::ALL {
            self.count_calls(method, 0);
        }
        for reason in Loss::ALL
            .into_iter()
            .map(Loss::reason)
            .chain(names::AGENT_LOSS_REASONS.iter().copied())
            .chain(BoundaryLoss::ALL.into_iter().map(BoundaryLoss::reason))
            .chain(names::PASSAGE_LOSS_REASONS.iter().copied())
            .chain(Http2Loss::ALL.into_iter().map(Http2Loss::reason))
            .chain(names::HTTP2_LOSS_REASONS.iter().copied())
        {
            self.lost.get_metric_with_label_values(&[reason])?;
        }
        Ok(self)
    }

    /// Observes one finished request in every histogram it belongs to.
    pub fn observe(&mut self, times: &RequestTimes) {
        if !self.requests.observe(times) {
            self.capped.inc();
        }
        for dropped in &times.dropped {
            self.count_dropped(*dropped, 1);
        }
        for (method, count) in CallMethod::ALL.into_iter().zip(times.calls) {
            if count > 0 {
                self.count_calls(method, count);
            }
        }
    }

    fn count_calls(&self, method: CallMethod, n: u64) {
        if let Ok(counter) = self.calls.get_metric_with_label_values(&[method.as_str()]) {
            counter.inc_by(n);
        }
    }

    fn count_dropped(&self, dropped: Dropped, n: u64) {
        let values = [dropped.time(), dropped.reason.as_str()];
        if let Ok(counter) = self.dropped.get_metric_with_label_values(&values) {
            counter.inc_by(n);
        }
    }

    /// Counts `n` exchanges with this fate.
    pub fn count_exchange(&mut self, fate: Fate, method: Method, n: u64) {
        if let Some(counter) = self.exchange_counter(fate, method) {
            counter.inc_by(n);
        }
    }

    /// Sets how many exchanges had this fate since the start; totals never go back.
    pub fn set_exchanges(&mut self, fate: Fate, method: Method, total: u64) {
        // What never happened and is not one of the series that start at 0 stays absent.
        if total > 0
            && let Some(counter) = self.exchange_counter(fate, method)
        {
            raise(counter, total);
        }
    }

    fn exchange_counter(&mut self, fate: Fate, method: Method) -> Option<&IntCounter> {
        let child = self
            .exchange
            .get_mut(fate as usize)?
            .get_mut(method as usize)?;
        if child.is_none() {
            let values = [fate.as_str(), method.as_str()];
            *child = self.exchanges.get_metric_with_label_values(&values).ok();
        }
        child.as_ref()
    }

    /// Brings the counters up to what the books say, but for what the kernel side lost.
    pub fn show_books(&mut self, books: &Books) {
        for (fate, method, total) in books.counts() {
            self.set_exchanges(fate, method, total);
        }
        self.set_completed(books.completed());
        self.set_pending(books.pending);
        self.set_lost("parse_error", books.parse_error);
        self.set_lost("unknown_socket", books.unknown_socket);
    }

    /// Sets how often the time between two pods was split, where their boundaries are watched.
    pub fn set_splits(&self, splits: Option<Splits>) {
        for (verdict, total) in Verdict::ALL.into_iter().zip(splits.into_iter().flatten()) {
            if let Ok(counter) = self
                .splits
                .get_metric_with_label_values(&[verdict.as_str()])
            {
                raise(&counter, total);
            }
        }
    }

    /// Sets what became of the pods' veths.
    pub fn set_interfaces(&self, interfaces: Interfaces) {
        if let Ok(gauge) = self.interfaces.get_metric_with_label_values::<&str>(&[]) {
            gauge.set(i64::try_from(interfaces.attached).unwrap_or(i64::MAX));
        }
        for (reason, total) in [
            ("refused", interfaces.refused),
            ("overrun", interfaces.overruns),
        ] {
            if let Ok(counter) = self
                .interface_errors
                .get_metric_with_label_values(&[reason])
            {
                raise(&counter, total);
            }
        }
    }

    /// Sets how much was lost for this reason since the start; totals never go back.
    pub fn set_lost(&mut self, reason: &str, total: u64) {
        if let Ok(counter) = self.lost.get_metric_with_label_values(&[reason]) {
            raise(&counter, total);
        }
    }

    /// Sets how many exchange records the kernel side completed since the start.
    pub fn set_completed(&mut self, total: u64) {
        raise(&self.records, total);
    }

    /// Sets how many exchanges wait for their neighbours.
    pub fn set_pending(&self, exchanges: u64) {
        self.pending
            .set(i64::try_from(exchanges).unwrap_or(i64::MAX));
    }

    /// Sets for how long requests that began were told since the start.
    pub fn set_traced(&self, time: Duration) {
        raise_seconds(&self.traced, time.as_secs_f64());
    }

    /// Sets the kernel's accounting of one of our programs since the start.
    pub fn set_bpf(&mut self, program: &str, run_seconds: f64, runs: u64) {
        if let Ok(counter) = self
            .bpf_run_seconds
            .get_metric_with_label_values(&[program])
        {
            raise_seconds(&counter, run_seconds);
        }
        if let Ok(counter) = self.bpf_runs.get_metric_with_label_values(&[program]) {
            raise(&counter, runs);
        }
    }

    /// Sets how many listen to single requests, and what became of these since the start.
    pub fn set_tap(&self, listeners: usize, handed: Handed) {
        self.tap_listeners
            .set(i64::try_from(listeners).unwrap_or(i64::MAX));
        for (result, total) in handed.by_result() {
            if let Ok(counter) = self.tap_requests.get_metric_with_label_values(&[result]) {
                raise(&counter, total);
            }
        }
    }

    /// Shows how a source of names is doing.
    pub fn set_identity(&mut self, report: &FeedReport) {
        let resource = report.feed.as_str();
        let gauges = [
            (&self.identity_synced, i64::from(report.synced)),
            (
                &self.identity_objects,
                i64::try_from(report.objects).unwrap_or(i64::MAX),
            ),
        ];
        for (family, value) in gauges {
            if let Ok(gauge) = family.get_metric_with_label_values(&[resource]) {
                gauge.set(value);
            }
        }
        let restarts = self
            .identity_restarts
            .get_metric_with_label_values(&[resource]);
        if let Ok(counter) = restarts {
            raise(&counter, report.restarts);
        }
        for (reason, total) in Reason::ALL.into_iter().zip(report.errors) {
            let values = [resource, reason.as_str()];
            if let Ok(counter) = self.identity_errors.get_metric_with_label_values(&values) {
                raise(&counter, total);
            }
        }
    }

    /// Forgets every label set of a workload that is gone.
    pub fn forget(&mut self, gone: &Gone) {
        self.requests.forget(gone);
    }

    /// Forgets label sets without a request for `idle`; call it about once a minute.
    pub fn expire_idle(&mut self, now: Instant, idle: Duration) {
        self.requests.expire(now, idle);
    }

    /// What was counted of each pair of workloads.
    #[must_use]
    pub fn pairs(&self) -> figures::Pairs {
        self.requests.pairs()
    }

    /// Number of sets of common labels in use.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.requests.len()
    }

    /// What there is to show, brought up to date. Making text of it takes much longer, and needs
    /// nothing that is still being counted in.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.requests.flush();
        Shown(self.registry.clone())
    }

    /// The exposition in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = self.shown().write(&mut text) {
            tracing::error!(%error, "the exposition is cut short");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Every metric as of [`Metrics::shown`], as long as nobody brings it up to date again.
pub struct Shown(Registry);

impl Shown {
    /// Writes the exposition in Prometheus' text format, version 0.0.4, in many small pieces.
    ///
    /// # Errors
    /// Those of `out`: a family without a name or without metrics would be one as well, and there
    /// is none among what is gathered.
    pub fn write(&self, mut out: &mut dyn io::Write) -> io::Result<()> {
        let encoder = TextEncoder::new();
        for family in self.0.gather() {
            encoder
                .encode(&[family], &mut out)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// The family nobody counts in.
fn build_info(registry: &Registry) -> Result<(), MetricsError> {
    let family = names::BUILD_INFO;
    let build = register(registry, IntGaugeVec::new(options(family), family.labels)?)?;
    let values = [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH];
    build.get_metric_with_label_values(&values)?.set(1);
    Ok(())
}

fn options(family: Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, MetricsError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn int_counter(registry: &Registry, family: Family) -> Result<IntCounter, MetricsError> {
    register(registry, IntCounter::with_opts(options(family))?)
}

fn int_counters(registry: &Registry, family: Family) -> Result<IntCounterVec, MetricsError> {
    register(
        registry,
        IntCounterVec::new(options(family), family.labels)?,
    )
}

fn int_gauge(registry: &Registry, family: Family) -> Result<IntGauge, MetricsError> {
    register(registry, IntGauge::with_opts(options(family))?)
}

fn int_gauges(registry: &Registry, family: Family) -> Result<IntGaugeVec, MetricsError> {
    register(registry, IntGaugeVec::new(options(family), family.labels)?)
}

/// Raises a counter to a total kept elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// The same for seconds; a total that is not a number changes nothing.
fn raise_seconds(counter: &Counter, total: f64) {
    let missing = total - counter.get();
    if missing > 0.0 && missing.is_finite() {
        counter.inc_by(missing);
    }
}
