//! The running agent: the only module that knows all stages, the clock and the outside.
//!
//! One thread does everything but to make the text of a scrape. It polls the ring (a wake-up for each
//! record would cost the observed node fifty times what the record does) and owns every table. A scrape
//! comes in between two batches to bring the metrics up to date; they are written by another thread.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracer_common::Loss;

use crate::books::Books;
use crate::config::{self, Config};
use crate::http::{self, Exposition, HttpError, Live};
use crate::identity::kubernetes::status::Status;
use crate::identity::{self, IdentityError, Source};
use crate::join::Chain;
use crate::load::boundary::{Attachment, PodBoundary};
use crate::load::{self, LoadError, LoadOptions};
use crate::lock::lock;
use crate::memory;
use crate::metrics::figures::Pairs;
use crate::metrics::{Metrics, MetricsError};
use crate::model::{Fate, Ktime, RequestTimes};
use crate::mounts::MountsError;
use crate::privilege::{self, Capability, Dropped, PrivilegeError};
use crate::recording::{self, Recorder, Settings};
use crate::ring;
use crate::tap::{self, Filter, Listener, Tap, TooMany};
use crate::tracer::{Requests, Tracer, monotonic_now};

/// How often the log tells what was traced, and idle label sets are looked for.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How long the thread that writes the metrics is kept without a scrape. Whoever adds up the processor
/// time of the agent's threads counts on it to stay.
const HELPERS_STAY: Duration = Duration::from_secs(86_400);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A capability is missing, or does not go.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The cgroup root.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// The static file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The address.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The hooks.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel's accounting.
    #[error("cannot switch on bpf_stats: CAP_SYS_ADMIN is needed, or leave it off")]
    Stats(#[source] aya::sys::SyscallError),
    /// The file for a recording.
    #[error("cannot record to {path}: choose a file that can be written")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime or its signals.
    #[error("cannot {step}")]
    Runtime {
        /// What was tried.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs until SIGINT or SIGTERM, then takes the last records and detaches.
///
/// # Errors
/// [`AgentError`]; nothing stays attached then.
pub fn run(config: &Config) -> Result<(), AgentError> {
    on_runtime(serve(config))
}

/// Records to the configuration's file without serving anything: until SIGINT or SIGTERM, for `time`
/// at most, or until the file is full.
///
/// # Errors
/// [`AgentError`]; nothing stays attached then.
pub fn record(config: &Config, time: Option<Duration>) -> Result<(), AgentError> {
    on_runtime(only_record(config, time))
}

fn on_runtime(work: impl Future<Output = Result<(), AgentError>>) -> Result<(), AgentError> {
    memory::keep_large_blocks_apart();
    // One thread: capabilities belong to threads, and they are dropped before any other begins.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One for the scrape that is being written, one for names that are looked up meanwhile.
        .max_blocking_threads(2)
        .thread_keep_alive(HELPERS_STAY)
        .build()
        .map_err(|source| AgentError::Runtime {
            step: "start the runtime",
            source,
        })?;
    runtime.block_on(work)
}

async fn serve(config: &Config) -> Result<(), AgentError> {
    let mut signals = Signals::listen()?;
    let guard = guard(config).await?;
    let listener = http::bind(config.listen).await?;
    let Some(core) = start(config, &mut signals).await? else {
        return Ok(());
    };
    let shared = Arc::new(Shared {
        core: Mutex::new(core),
        ui: config.ui,
        shown: Mutex::new(()),
    });
    let core = &shared.core;
    tracing::info!(address = %config.listen, "serving /metrics, /healthz and /readyz");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let exposition = Arc::clone(&shared);
    let served = tokio::spawn(http::serve(listener, exposition, guard, async {
        // A dropped sender is as good a reason to stop.
        let _ = stopped.await;
    }));
    tokio::select! {
        () = poll(core, config) => {}
        signal = signals.ended() => tracing::info!("{signal}: draining"),
    }
    {
        // What is being written is to be of one moment.
        let _nobody_reads = lock(&shared.shown);
        lock(core).finish();
    }
    let _ = stop.send(());
    if let Err(error) = served.await {
        tracing::warn!(%error, "the HTTP side ended badly");
    }
    Ok(())
}

/// What tells the agent to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, AgentError> {
        let to = |kind, step| signal(kind).map_err(|source| AgentError::Runtime { step, source });
        Ok(Self {
            interrupt: to(SignalKind::interrupt(), "listen for SIGINT")?,
            terminate: to(SignalKind::terminate(), "listen for SIGTERM")?,
        })
    }

    /// Waits until somebody wants the agent to end; returns by which signal.
    async fn ended(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits for the names and attaches the hooks; `None` when a signal came first.
async fn start(config: &Config, signals: &mut Signals) -> Result<Option<Core>, AgentError> {
    privilege::require(&needed(config))?;
    let source = tokio::select! {
        source = identity::start(config) => source?,
        signal = signals.ended() => {
            tracing::info!("{signal}: ended before anything was measured");
            return Ok(None);
        }
    };
    Core::start(config, source).map(Some)
}

async fn only_record(config: &Config, time: Option<Duration>) -> Result<(), AgentError> {
    let mut signals = Signals::listen()?;
    let Some(core) = start(config, &mut signals).await? else {
        return Ok(());
    };
    let core = Mutex::new(core);
    let timer = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let over = async {
        while lock(&core).tracer.is_recording() {
            tokio::time::sleep(config.poll_interval.get()).await;
        }
    };
    tokio::select! {
        () = poll(&core, config) => {}
        () = timer => tracing::info!("the time is over: draining"),
        () = over => {}
        signal = signals.ended() => tracing::info!("{signal}: draining"),
    }
    lock(&core).finish();
    Ok(())
}

/// What stands before `/metrics`.
async fn guard(config: &Config) -> Result<http::Guard, AgentError> {
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(http::Tls::new(certificate, key)?),
        (None, None) => None,
        _ => return Err(HttpError::HalfTls.into()),
    };
    let auth = match &config.auth {
        config::AuthSpec::None => http::Auth::Nobody,
        config::AuthSpec::Basic(file) => http::Auth::basic(file)?,
        config::AuthSpec::TokenReview => {
            http::Auth::token(identity::client(config.kubeconfig.as_deref()).await?)
        }
    };
    Ok(http::Guard { tls, auth })
}

/// Drains the ring now and then, for ever.
async fn poll(core: &Mutex<Core>, config: &Config) {
    let mut tick = tokio::time::interval(config.poll_interval.get());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = Instant::now();
    loop {
        tick.tick().await;
        // Taken first: what completed before this moment is in the ring, however long draining
        // takes.
        let now = monotonic_now();
        // Each batch is bounded, so that a scrape waits for one batch at most. So is their number:
        // a ring refilled faster than it is read must not keep its records from being settled.
        for _ in 0..ring::batches(config.ring_size.get()) {
            if !lock(core).drain() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut core = lock(core);
        core.settle(now);
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            core.report();
        }
    }
}

/// Everything the thread owns.
struct Core {
    tracer: Tracer,
    outlets: Outlets,
    series_ttl: Duration,
    /// How the source of names is doing.
    names: Option<Arc<Status>>,
    /// What the last report told.
    told: Books,
    finished: bool,
    /// The kernel accounts run times while this is open.
    stats: Option<OwnedFd>,
}

impl Core {
    /// Attaches the hooks and drops the capabilities.
    fn start(config: &Config, source: Source) -> Result<Self, AgentError> {
        let options = load_options(config)?;
        let outlets = Outlets {
            metrics: Metrics::new(&config.metrics())?,
            tap: match config.ui {
                config::Ui::On => Tap::keeping_slowest(),
                config::Ui::Off => Tap::default(),
            },
        };
        let mut identity = source.identity;
        let mut recorded = None;
        if let Some(path) = &config.record {
            let (asked, names) = recording::listen(identity);
            identity = asked;
            recorded = Some((path, names));
        }
        let stats = config
            .bpf_stats
            .then(|| aya::sys::enable_stats(aya::sys::Stats::RunTime))
            .transpose()
            .map_err(AgentError::Stats)?;
        let mut tracer = Tracer::start(&options, config.joining(), identity)?;
        tracer.expect(config.sidecars());
        if config.pod_boundary == config::PodBoundary::On {
            tracer.watch(pod_boundary()?);
        }
        if let Some((path, names)) = recorded {
            let settings = Settings::of(config, tracer.attached());
            let made = Recorder::create(path, settings, names);
            tracer.record_to(made.map_err(|source| AgentError::Record {
                path: path.clone(),
                source,
            })?);
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            cgroup_root = %options.cgroup_root.display(),
            "hooks attached"
        );
        for missing in tracer.hooks().degraded() {
            tracing::warn!("{missing}");
        }
        if !config.keep_caps {
            drop_capabilities(&tracer)?;
        }
        memory::give_back_code_too();
        Ok(Self {
            tracer,
            outlets,
            series_ttl: config.series_ttl.get(),
            names: source.status,
            told: Books::default(),
            finished: false,
            stats,
        })
    }

    /// Takes one batch; true when more may be waiting.
    fn drain(&mut self) -> bool {
        match self.tracer.drain(&mut self.outlets) {
            Ok(more) => more,
            Err(error) => {
                self.stop_recording(&error);
                true
            }
        }
    }

    fn stop_recording(&mut self, error: &io::Error) {
        tracing::error!(%error, "the recording ends here, cut off");
        self.tracer.stop_recording();
    }

    fn settle(&mut self, now: Ktime) {
        for gone in self.tracer.refresh(now) {
            self.outlets.metrics.forget(&gone);
        }
        let recorded = self.tracer.is_recording();
        if let Err(error) = self.tracer.advance(now, &mut self.outlets) {
            self.stop_recording(&error);
        } else if recorded && !self.tracer.is_recording() {
            let bytes = recording::LONGEST_FILE;
            tracing::warn!(bytes, "the recording is full and ends here");
        }
        self.tracer.flush_log();
    }

    /// Once a minute: what was traced, and loudly what was lost.
    fn report(&mut self) {
        self.outlets
            .metrics
            .expire_idle(Instant::now(), self.series_ttl);
        let books = self.tracer.books();
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let lost = since(books.lost(), self.told.lost());
        let unpaired = since(books.fate(Fate::Unpaired), self.told.fate(Fate::Unpaired));
        let exchanges = since(books.completed(), self.told.completed());
        if lost > 0 {
            tracing::warn!(
                exchanges,
                lost,
                unpaired,
                "exchanges were lost in the last minute: raise --ring-size (ring_full) or --max-pending (evicted), or give the agent more CPU; hoptrace_records_lost_total tells which"
            );
        } else {
            tracing::info!(exchanges, lost, unpaired, "traced in the last minute");
        }
        self.told = books;
    }

    fn finish(&mut self) {
        self.update();
        match self.tracer.finish(&mut self.outlets) {
            Ok(books) => tracing::info!(balanced = books.balance(), "detached: {books}"),
            Err(error) => tracing::error!(%error, "the recording is cut off at its end"),
        }
        self.finished = true;
        self.update();
        self.outlets.tap.close();
        self.stats = None;
    }

    /// Brings the counters up to date.
    fn update(&mut self) {
        let Self {
            tracer,
            outlets: Outlets { metrics, tap },
            ..
        } = self;
        metrics.set_tap(tap.listeners(), tap.handed());
        let books = tracer.books();
        metrics.show_books(&books);
        metrics.set_traced(tracer.traced());
        for loss in Loss::ALL {
            // The ring's losses as the books have them: the kernel's counter may be ahead by now.
            let total = match loss {
                Loss::RingFull => books.ring_full,
                other => tracer.hooks().lost(other),
            };
            metrics.set_lost(loss.reason(), total);
        }
        for (reason, total) in tracer.passages_lost().chain(tracer.frames_lost()) {
            metrics.set_lost(reason, total);
        }
        if let Some(boundary) = tracer.boundary() {
            metrics.set_splits(Some(tracer.splits()));
            metrics.set_interfaces(boundary.interfaces());
        }
        if let Some(names) = &self.names {
            for report in names.reports() {
                metrics.set_identity(&report);
            }
        }
        if self.stats.is_some() {
            for (program, cost) in tracer.costs() {
                let seconds = Duration::from_nanos(cost.run_time_ns).as_secs_f64();
                metrics.set_bpf(program, seconds, cost.runs);
            }
        }
    }
}

impl Requests for Metrics {
    fn request(&mut self, _chain: &Chain<'_>, times: &RequestTimes) {
        self.observe(times);
    }
}

/// Where requests go.
struct Outlets {
    metrics: Metrics,
    tap: Tap,
}

impl Requests for Outlets {
    fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes) {
        self.metrics.observe(times);
        self.tap.request(chain, times);
    }
}

/// The core as the HTTP side sees it.
struct Shared {
    core: Mutex<Core>,
    /// Whether single requests are shown.
    ui: config::Ui,
    /// Held while the metrics are written: what is shown is of one moment, so its books balance to the
    /// integer. Taken before the core's.
    shown: Mutex<()>,
}

impl Exposition for Shared {
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let _unchanged = lock(&self.shown);
        let shown = {
            let mut core = lock(&self.core);
            core.update();
            core.outlets.metrics.shown()
        };
        let written = shown.write(out);
        // A thousand label sets leave 30 MiB in small pieces; to find them takes 2 ms, and not the
        // thread that empties the ring.
        memory::give_back();
        written
    }

    fn ready(&self) -> Result<String, String> {
        let core = lock(&self.core);
        if core.finished {
            return Err("stopping: the hooks are detached".to_owned());
        }
        // Measuring goes on without names, so this is no reason to be taken for dead.
        let degraded = core.names.as_ref().map(|names| names.degraded());
        let lines = degraded.unwrap_or_default().into_iter();
        Ok(lines.map(|line| format!("degraded: {line}\n")).collect())
    }

    fn live(&self) -> Option<&dyn Live> {
        (self.ui == config::Ui::On).then_some(self)
    }
}

impl Live for Shared {
    fn listen(&self, filter: Filter) -> Result<Listener, TooMany> {
        lock(&self.core).outlets.tap.listen(filter)
    }

    fn slowest(&self) -> Vec<Arc<tap::Request>> {
        lock(&self.core).outlets.tap.slowest(monotonic_now())
    }

    fn pairs(&self) -> Pairs {
        lock(&self.core).outlets.metrics.pairs()
    }
}

/// What this configuration needs, and what for.
fn needed(config: &Config) -> Vec<(Capability, &'static str)> {
    // It stands for both on kernels before 5.8, and still does.
    let admin = privilege::has(Capability::CAP_SYS_ADMIN);
    let mut needed = vec![(
        Capability::CAP_NET_ADMIN,
        "attaching to the sockets of a cgroup",
    )];
    if !admin {
        needed.push((Capability::CAP_BPF, "loading eBPF programs"));
        if config.read_hook != config::ReadHook::Off {
            needed.push((Capability::CAP_PERFMON, "the read hook, a tracing program,"));
        }
    }
    if config.bpf_stats {
        needed.push((Capability::CAP_SYS_ADMIN, "--bpf-stats"));
    }
    needed
}

fn load_options(config: &Config) -> Result<LoadOptions, AgentError> {
    Ok(LoadOptions {
        cgroup_root: config.cgroup_root()?,
        ring_bytes: config.ring_size.get(),
        read_hook: match config.read_hook {
            config::ReadHook::Auto => load::ReadHook::Auto,
            config::ReadHook::TpBtf => load::ReadHook::Required,
            config::ReadHook::Off => load::ReadHook::Off,
        },
        headers: match config.headers {
            config::Headers::AppLegs => load::Headers::AppLegs,
            config::Headers::Loopback => load::Headers::Loopback,
            config::Headers::Off => load::Headers::Off,
        },
        sidecar_inbound_port: config.proxy_inbound_port.get(),
        http2: config.http2 == config::Http2::On,
        windows: config.trace_windows,
        log_level: config.bpf_log as u8,
    })
}

fn pod_boundary() -> Result<PodBoundary, AgentError> {
    let attachment = Attachment::probe();
    let boundary = PodBoundary::attach(attachment)?;
    let veths = boundary.interfaces().attached;
    tracing::info!(veths, ?attachment, "at the boundaries of the pods");
    if veths == 0 {
        tracing::warn!(
            "no veth leads into another network namespace: run the agent in the host's (hostNetwork)"
        );
    }
    Ok(boundary)
}

/// From 5.19 on the descriptors suffice; older kernels ask for CAP_BPF at every look into a map.
fn drop_capabilities(tracer: &Tracer) -> Result<(), PrivilegeError> {
    let hooks = tracer.hooks();
    let works = privilege::works_without_any(|| hooks.readable());
    let keep = (!works).then_some(Capability::CAP_BPF);
    let dropped = privilege::drop_all_but(keep)?;
    match (keep, dropped) {
        (Some(kept), _) => tracing::warn!(%kept, "kept: this kernel needs it to read maps"),
        (None, Dropped::Everything) => tracing::info!("every capability dropped"),
        (None, Dropped::AllButBounding) => {
            tracing::info!("every capability dropped; no_new_privs guards the bounding set");
        }
    }
    Ok(())
}
