//! The pure stages on a recording instead of a ring.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracer_common::{BoundaryLoss, Http2Loss, Loss};

use super::frame::{End, Frame, Reason, Settings};
use super::names::{Recalled, Told};
use super::reader::{ReadError, Recording};
use crate::attribute::Splits;
use crate::books::Books;
use crate::decode::DecodeError;
use crate::lock::lock;
use crate::metrics::names::HTTP2_LOSS_REASONS;
use crate::metrics::{Metrics, MetricsError};
use crate::model::{Gone, Ktime};
use crate::pipeline::Pipeline;
use crate::tracer::{Passages, Requests, Settle};

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The settings in the file, or those given instead.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// What a recording has in it.
#[derive(Debug)]
pub struct Replayed {
    /// What the agent found.
    pub books: Books,
    /// What the kernel side lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// How often the time between two pods was split, where their veths were watched.
    pub splits: Option<Splits>,
    /// What passed the veths and was not noted.
    pub passages: Passages,
    /// Records read.
    pub records: u64,
    /// Time of the first and the last settlement, nanoseconds.
    pub span: Option<(Ktime, Ktime)>,
    /// Whether recording ended because the file was full.
    pub full: bool,
    /// Why there is no more of it.
    pub broken: Option<ReadError>,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.span.unwrap_or_default();
        let seconds = Duration::from_nanos(last.saturating_sub(first)).as_secs_f64();
        let books = &self.books;
        write!(
            f,
            "{} records of {seconds:.1} s replayed: {books}",
            self.records
        )?;
        if self.full {
            f.write_str("; recording ended because the file was full")?;
        }
        Ok(())
    }
}

/// Runs the stages on a file and prints the metrics that an agent would show.
///
/// # Errors
/// The file is no recording that can be read at all. One that is cut off or damaged later is no error
/// here: what was read until then is told, and [`Replayed::broken`] says where it ended.
pub fn exposition(
    path: &Path,
    change: impl FnOnce(&mut Settings),
) -> Result<(String, Replayed), ReplayError> {
    let mut recording = Recording::open(path)?;
    let mut settings = recording.settings().clone();
    change(&mut settings);
    let mut metrics = Metrics::of_recording(&settings.metrics())?;
    let replayed = run(&mut recording, &settings, &mut metrics, |metrics, gone| {
        metrics.forget(gone);
    });
    metrics.show_books(&replayed.books);
    metrics.set_splits(replayed.splits);
    let reasons = Loss::ALL.into_iter().map(Loss::reason);
    for reason in reasons
        .chain(BoundaryLoss::ALL.into_iter().map(BoundaryLoss::reason))
        .chain(Http2Loss::ALL.into_iter().map(Http2Loss::reason))
        .chain(HTTP2_LOSS_REASONS.iter().copied())
    {
        let total = replayed.lost.get(reason).copied().unwrap_or(0);
        metrics.set_lost(reason, total);
    }
    for (reason, total) in replayed.passages.by_reason() {
        metrics.set_lost(reason, total);
    }
    Ok((metrics.encode(), replayed))
}

/// Runs the stages on a recording to its end, or to where it is broken.
pub fn run<R: Requests>(
    recording: &mut Recording,
    settings: &Settings,
    requests: &mut R,
    forget: impl FnMut(&mut R, &Gone),
) -> Replayed {
    let told = Arc::new(Mutex::new(Told::default()));
    let names = Recalled(Arc::clone(&told));
    let mut pipeline = Pipeline::new(settings.join(), Box::new(names));
    pipeline.expect(settings.sidecars());
    pipeline.begin(settings.attached);
    if settings.pod_boundary {
        pipeline.watch_boundary();
    }
    if settings.http2 {
        pipeline.follow_http2();
    }
    let mut stages = Stages {
        pipeline,
        told,
        gone: Vec::new(),
        replayed: Replayed {
            books: Books::default(),
            lost: BTreeMap::new(),
            splits: settings.pod_boundary.then(Splits::default),
            passages: Passages::default(),
            records: 0,
            span: None,
            full: false,
            broken: None,
        },
        forget,
    };
    loop {
        let taken = recording
            .next()
            .map(|frame| frame.map(|frame| stages.take(frame, requests)));
        let wrong = match taken {
            Ok(None) => break,
            Ok(Some(Ok(()))) => continue,
            Ok(Some(Err(reason))) => recording.damaged(reason),
            Err(error) => error,
        };
        stages.replayed.broken = Some(wrong);
        break;
    }
    stages.finish(requests)
}

struct Stages<F> {
    pipeline: Pipeline,
    told: Arc<Mutex<Told>>,
    gone: Vec<Gone>,
    replayed: Replayed,
    forget: F,
}

/// Workloads that may go in one settlement: more than there can be names.
const MAX_GONE: usize = 65_536;

impl<F> Stages<F> {
    fn take<R: Requests>(&mut self, frame: Frame<'_>, requests: &mut R) -> Result<(), String>
    where
        F: FnMut(&mut R, &Gone),
    {
        match frame {
            Frame::Settings(_) => return Err("the settings come twice".to_owned()),
            Frame::Record(bytes) => {
                self.record(requests, |pipeline, settle| pipeline.take(bytes, settle))
            }
            Frame::Headless(http, bytes) => self.record(requests, |pipeline, settle| {
                pipeline.take_headless(bytes, http, settle)
            }),
            Frame::NoRecord(bytes) => {
                self.record(requests, |_pipeline, _settle| {
                    Err(DecodeError::Short(bytes.len()))
                });
            }
            Frame::Passage(bytes) => {
                let noted = self.pipeline.note_passage(bytes);
                self.replayed.passages.take(noted);
            }
            Frame::Follows(cookie) => self.pipeline.note_http2(cookie),
            Frame::Stream(stream) => {
                let books = &mut self.replayed.books;
                let mut settle = Settle { books, requests };
                self.pipeline.settle_stream((*stream).into(), &mut settle);
            }
            Frame::Name(name) => return lock(&self.told).learn(name),
            Frame::Unnamed => lock(&self.told).forget(),
            Frame::Gone(_) if self.gone.len() >= MAX_GONE => {
                return Err(format!("more than {MAX_GONE} workloads go at a time"));
            }
            Frame::Gone(gone) => self.gone.push(gone),
            Frame::Settled(now) => {
                let first = self.replayed.span.map_or(now, |(first, _)| first);
                if now != Ktime::MAX {
                    self.replayed.span = Some((first, now));
                }
                for gone in self.gone.drain(..) {
                    (self.forget)(requests, &gone);
                }
                let books = &mut self.replayed.books;
                self.pipeline.advance(now, &mut Settle { books, requests });
            }
            Frame::Lost(lost) => self.replayed.lost = lost,
            Frame::End(End { reason, records }) => {
                self.replayed.full = reason == Reason::Full;
                if records != self.replayed.records {
                    return Err(format!(
                        "it says that there are {records} records, and {} came",
                        self.replayed.records
                    ));
                }
            }
        }
        Ok(())
    }

    fn record<R: Requests>(
        &mut self,
        requests: &mut R,
        take: impl FnOnce(&mut Pipeline, &mut Settle<'_, R>) -> Result<(), DecodeError>,
    ) {
        self.replayed.records += 1;
        let books = &mut self.replayed.books;
        let mut settle = Settle { books, requests };
        let taken = take(&mut self.pipeline, &mut settle);
        settle.books.take(taken);
    }

    fn finish<R: Requests>(mut self, requests: &mut R) -> Replayed {
        let mut replayed = self.replayed;
        let books = &mut replayed.books;
        // The agent did so too when it ended, and of a file that is cut off nothing else will come.
        self.pipeline
            .advance(Ktime::MAX, &mut Settle { books, requests });
        books.ring_full = replayed
            .lost
            .get(Loss::RingFull.reason())
            .copied()
            .unwrap_or(0);
        if let Some(splits) = &mut replayed.splits {
            *splits = self.pipeline.splits();
        }
        books.missed = self.pipeline.missed();
        books.pending = u64::try_from(self.pipeline.pending()).unwrap_or(u64::MAX);
        replayed
    }
}
