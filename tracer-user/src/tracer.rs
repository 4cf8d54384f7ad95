//! A running tracer: hooks, ring, stages and books together, without clocks of its own or I/O
//! beyond the ring. The agent drives it; so do the tests.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tracer_common::{BoundaryLoss, Http2Loss, Loss};

use crate::attribute::Splits;
use crate::books::Books;
use crate::boundary::PassageError;
use crate::http2::{Counts, Event};
use crate::join::{Chain, JoinConfig};
use crate::load::boundary::PodBoundary;
use crate::load::http2::Http2Hooks;
use crate::load::{Hooks, LoadError, LoadOptions, ProgramCost};
use crate::model::{Fate, Gone, Identity, Ktime, Method, RequestTimes};
use crate::pipeline::{Output, Pipeline};
use crate::recording::Recorder;
use crate::ring;
use crate::roles::Sidecars;
use crate::windows::{Change, Schedule};

/// Receives every attributed request.
pub trait Requests {
    /// One request; `chain` is what it was made of.
    fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes);
}

/// A running tracer. Dropping it detaches everything.
pub struct Tracer {
    hooks: Hooks,
    ring: RingBuf<MapData>,
    http2: Option<Http2Hooks>,
    pipeline: Pipeline,
    books: Books,
    attached: Ktime,
    schedule: Schedule,
    /// Number of the last window.
    window: NonZeroU32,
    recorder: Option<Recorder>,
    boundary: Option<PodBoundary>,
    passages: Passages,
}

/// Passages at the pods' veths that came and are not noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passages {
    /// No records.
    pub malformed: u64,
    /// More than are remembered.
    pub evicted: u64,
}

impl Passages {
    /// By the `reason` label.
    pub(crate) fn by_reason(self) -> [(&'static str, u64); 2] {
        [
            ("boundary_parse_error", self.malformed),
            ("boundary_evicted", self.evicted),
        ]
    }

    pub(crate) fn take(&mut self, noted: Result<(), PassageError>) {
        match noted {
            Ok(()) => {}
            Err(PassageError::Full) => self.evicted += 1,
            Err(_) => self.malformed += 1,
        }
    }
}

impl Tracer {
    /// Attaches the hooks.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays attached then.
    pub fn start(
        options: &LoadOptions,
        join: JoinConfig,
        identity: Box<dyn Identity>,
    ) -> Result<Self, LoadError> {
        // First: what the others see of a connection, these have seen.
        let http2 = options
            .http2
            .then(|| Http2Hooks::attach(options))
            .transpose()?;
        let (mut hooks, ring) = Hooks::attach(options)?;
        let window = NonZeroU32::MIN;
        look(&mut hooks, Some(window));
        let attached = monotonic_now();
        let mut pipeline = Pipeline::new(join, identity);
        pipeline.begin(attached);
        if http2.is_some() {
            pipeline.follow_http2();
        }
        Ok(Self {
            hooks,
            ring,
            http2,
            pipeline,
            books: Books::default(),
            attached,
            schedule: Schedule::new(options.windows, join.hold_ns, attached),
            window,
            recorder: None,
            boundary: None,
            passages: Passages::default(),
        })
    }

    /// When the last hook was attached.
    #[must_use]
    pub const fn attached(&self) -> Ktime {
        self.attached
    }

    /// For sidecars other than Istio's; to be told before the first record is taken.
    pub fn expect(&mut self, sidecars: Sidecars) {
        self.pipeline.expect(sidecars);
    }

    /// Splits the time between pods from now on; to be told before the first record is taken.
    pub fn watch(&mut self, boundary: PodBoundary) {
        self.boundary = Some(boundary);
        self.pipeline.watch_boundary();
    }

    /// Records from now on: `recorder` listens to the names of this tracer's identity.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Stops recording; what was written stays.
    pub fn stop_recording(&mut self) {
        self.recorder = None;
    }

    /// Whether it records.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        let recorder = self.recorder.as_ref();
        recorder.is_some_and(|recorder| !recorder.is_over())
    }

    /// Hands what the eBPF programs logged to the agent's log.
    pub fn flush_log(&mut self) {
        self.hooks.flush_log();
    }

    /// Takes up to [`ring::BATCH`] records; true when more may be waiting.
    ///
    /// # Errors
    /// When the recorder fails; the records of the batch are settled all the same.
    pub fn drain(&mut self, requests: &mut impl Requests) -> io::Result<bool> {
        let Self {
            ring,
            http2,
            pipeline,
            books,
            recorder,
            ..
        } = self;
        let mut batch = Batch {
            pipeline,
            settle: Settle { books, requests },
            recorder: recorder.as_mut(),
            recorded: Ok(()),
        };
        let mut more_frames = batch.frames(http2.as_mut());
        let more = ring::drain(ring, |bytes| {
            // What frames told of its connection was told before.
            more_frames |= batch.frames(http2.as_mut());
            batch.exchange(bytes);
        });
        batch.recorded.map(|()| more || more_frames)
    }

    /// Takes what became known of names at `now`; returns workloads that are gone.
    pub fn refresh(&mut self, now: Ktime) -> Vec<Gone> {
        self.pipeline.refresh(now)
    }

    /// Settles what is old enough at `now`: a moment before the ring was last found empty
    /// ([`monotonic_now`]), so that nothing is settled without what completed before it.
    ///
    /// # Errors
    /// When the recorder fails; everything is settled all the same.
    pub fn advance(&mut self, now: Ktime, requests: &mut impl Requests) -> io::Result<()> {
        self.turn_window(now);
        let noted = self.note_passages();
        self.pipeline.advance(
            now,
            &mut Settle {
                books: &mut self.books,
                requests,
            },
        );
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        noted?;
        let lost = || {
            let hooks = |loss: Loss| (loss.reason(), self.hooks.lost(loss));
            Loss::ALL
                .into_iter()
                .map(hooks)
                .chain(lost_at(self.boundary.as_ref()))
                .chain(lost_of_http2(self.http2.as_ref(), self.pipeline.http2()))
                .map(|(reason, lost)| (reason.to_owned(), lost))
                .collect()
        };
        recorder.settled(now, lost)
    }

    /// Opens or closes a window, where one of both is due.
    fn turn_window(&mut self, now: Ktime) {
        match self.schedule.due(now) {
            Some(Change::Open) => {
                self.window = self.window.checked_add(1).unwrap_or(NonZeroU32::MIN);
                look(&mut self.hooks, Some(self.window));
                self.pipeline.begin(monotonic_now());
            }
            Some(Change::End) => self.pipeline.end(now),
            Some(Change::Rest) => look(&mut self.hooks, None),
            None => {}
        }
    }

    /// For how long requests that began were told.
    #[must_use]
    pub fn traced(&self) -> Duration {
        Duration::from_nanos(self.schedule.traced_ns(monotonic_now()))
    }

    /// Takes what passed the veths: what is settled next may be split by it.
    fn note_passages(&mut self) -> io::Result<()> {
        let Self {
            boundary: Some(boundary),
            pipeline,
            passages,
            recorder,
            ..
        } = self
        else {
            return Ok(());
        };
        let mut recorded = Ok(());
        boundary.drain(|bytes| {
            passages.take(pipeline.note_passage(bytes));
            if let Some(recorder) = recorder
                && recorded.is_ok()
            {
                recorded = recorder.passage(bytes);
            }
        });
        recorded
    }

    /// Detaches, takes the last records and settles everything; the books are then final.
    ///
    /// # Errors
    /// When the recorder fails.
    pub fn finish(&mut self, requests: &mut impl Requests) -> io::Result<Books> {
        self.hooks.detach();
        if let Some(http2) = &mut self.http2 {
            http2.detach();
        }
        if let Some(boundary) = &mut self.boundary {
            boundary.detach();
        }
        while self.drain(requests)? {}
        self.advance(Ktime::MAX, requests)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.stop()?;
        }
        Ok(self.books())
    }

    /// The books as of now.
    pub fn books(&mut self) -> Books {
        self.books.read_kernel(&self.hooks);
        self.books.missed = self.pipeline.missed();
        self.books.pending = u64::try_from(self.pipeline.pending()).unwrap_or(u64::MAX);
        self.books.clone()
    }

    /// The pods' veths, where they are watched.
    #[must_use]
    pub const fn boundary(&self) -> Option<&PodBoundary> {
        self.boundary.as_ref()
    }

    /// How often the time between two pods was split, by verdict; all 0 where nothing is watched.
    #[must_use]
    pub const fn splits(&self) -> Splits {
        self.pipeline.splits()
    }

    /// What was lost of what passed the veths, by reason.
    pub fn passages_lost(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        lost_at(self.boundary.as_ref()).chain(self.passages.by_reason())
    }

    /// What became of HTTP/2, where it is followed.
    #[must_use]
    pub fn http2(&self) -> Option<Counts> {
        self.pipeline.http2()
    }

    /// What was lost of HTTP/2, by reason.
    pub fn frames_lost(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        lost_of_http2(self.http2.as_ref(), self.http2())
    }

    /// The kernel's accounting of each attached program; all zero unless it is switched on.
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static str, ProgramCost)> {
        let mut costs = self.hooks.costs();
        costs.extend(self.http2.iter().flat_map(Http2Hooks::costs));
        costs.extend(self.boundary.iter().flat_map(PodBoundary::costs));
        costs
    }

    /// The hooks, for their counters and costs.
    #[must_use]
    pub const fn hooks(&self) -> &Hooks {
        &self.hooks
    }
}

/// Records on their way through the stages, and into a recording.
struct Batch<'a, R> {
    pipeline: &'a mut Pipeline,
    settle: Settle<'a, R>,
    recorder: Option<&'a mut Recorder>,
    /// The first failure of the recorder, which is told nothing after that.
    recorded: io::Result<()>,
}

impl<R: Requests> Batch<'_, R> {
    fn exchange(&mut self, bytes: &[u8]) {
        let taken = self.pipeline.take(bytes, &mut self.settle);
        self.settle.books.take(taken);
        if let Some(recorder) = &mut self.recorder
            && self.recorded.is_ok()
        {
            self.recorded = recorder.record(bytes);
        }
    }

    /// Takes what the HTTP/2 programs told; true when more may be waiting.
    fn frames(&mut self, hooks: Option<&mut Http2Hooks>) -> bool {
        let Self {
            pipeline,
            settle,
            recorder,
            recorded,
        } = self;
        let Some(hooks) = hooks else { return false };
        hooks.drain(|bytes| {
            let record = |event: &Event| {
                if let Some(recorder) = recorder
                    && recorded.is_ok()
                {
                    *recorded = recorder.http2(event);
                }
            };
            // What is no frame is counted where the others are.
            let _counted = pipeline.take_http2(bytes, settle, record);
        })
    }
}

/// What was lost of HTTP/2, by the kernel side and by the agent.
fn lost_of_http2(
    hooks: Option<&Http2Hooks>,
    counts: Option<Counts>,
) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let lost = move |loss| hooks.map_or(0, |hooks| hooks.lost(loss));
    Http2Loss::ALL
        .into_iter()
        .map(move |loss| (loss.reason(), lost(loss)))
        .chain(counts.unwrap_or_default().by_reason())
}

/// Lets the hooks look or rest. They go on as before where the kernel does not take it: then nothing is
/// measured for a period, or the node pays for one more.
fn look(hooks: &mut Hooks, window: Option<NonZeroU32>) {
    if let Err(error) = hooks.look(window) {
        tracing::error!(%error, ?window, "the hooks cannot be told whether to look");
    }
}

/// What the kernel side lost at the pods' veths, by reason.
fn lost_at(boundary: Option<&PodBoundary>) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    BoundaryLoss::ALL.into_iter().map(move |loss| {
        let lost = boundary.map_or(0, |boundary| boundary.lost(loss));
        (loss.reason(), lost)
    })
}

/// Where the stages' findings go.
pub(crate) struct Settle<'a, R> {
    pub(crate) books: &'a mut Books,
    pub(crate) requests: &'a mut R,
}

impl<R: Requests> Output for Settle<'_, R> {
    fn request(&mut self, chain: &Chain<'_>, times: &RequestTimes) {
        self.requests.request(chain, times);
    }

    fn fate(&mut self, fate: Fate, method: Method) {
        self.books.settle(fate, method);
    }

    fn stream(&mut self) {
        self.books.stream();
    }
}

/// The clock of every stamp, nanoseconds.
#[must_use]
pub fn monotonic_now() -> Ktime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
