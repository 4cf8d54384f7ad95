//! Writing a recording while the agent runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::frame::{End, Frame, Reason, Settings};
use super::names::NameLog;
use super::stream::RecordedStream;
use super::{LAYOUT, LONGEST_BODY, LONGEST_FILE, MAGIC, VERSION};
use crate::decode::{self, Http};
use crate::http2::Event;
use crate::lock::lock;
use crate::model::Ktime;
use tracer_common::record::ANNOUNCED_LEN;

/// Nanoseconds between two looks at what the kernel side lost.
const LOSSES_EVERY: Ktime = 1_000_000_000;

/// Writes what the stages are told. In the order in which they are: names that a record made them
/// ask for come before the record.
pub struct Recorder {
    out: Box<dyn Write + Send>,
    names: Arc<Mutex<NameLog>>,
    heads: bool,
    /// Ids of requests are only ever compared: with this nobody finds out by trying which they are.
    salt: RandomState,
    body: Vec<u8>,
    written: u64,
    limit: u64,
    records: u64,
    lost: BTreeMap<String, u64>,
    lost_at: Ktime,
    ended: bool,
}

impl Recorder {
    /// Begins a file; `names` is the log of the identity that the stages have.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path, settings: Settings, names: Arc<Mutex<NameLog>>) -> io::Result<Self> {
        let file = BufWriter::with_capacity(
            64 << 10,
            File::options()
                .mode(0o600)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?,
        );
        Self::new(Box::new(file), settings, names)
    }

    /// The same to anything; it had better be buffered.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(
        out: Box<dyn Write + Send>,
        settings: Settings,
        names: Arc<Mutex<NameLog>>,
    ) -> io::Result<Self> {
        let mut recorder = Self {
            out,
            names,
            heads: settings.heads,
            salt: RandomState::new(),
            body: Vec::new(),
            written: 0,
            limit: LONGEST_FILE,
            records: 0,
            lost: BTreeMap::new(),
            lost_at: 0,
            ended: false,
        };
        recorder.put(&MAGIC)?;
        recorder.put(&VERSION.to_le_bytes())?;
        recorder.put(&LAYOUT.to_le_bytes())?;
        recorder.frame(&Frame::Settings(settings))?;
        Ok(recorder)
    }

    /// Whether the file was full and recording is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.ended
    }

    /// A record that the stages have just taken.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.news()?;
        self.records += 1;
        if self.heads {
            return self.frame(&Frame::Record(bytes));
        }
        match decode::heads(bytes) {
            Ok(None) => self.frame(&Frame::Record(bytes)),
            Ok(Some((at, told))) => {
                let told = Http {
                    request_id: self.salted(told.request_id),
                    trace_id: self.salted(told.trace_id),
                    ..told
                };
                let rest = bytes.get(..at).unwrap_or(bytes);
                self.frame(&Frame::Headless(told, rest))
            }
            Err(_) => {
                let rest = bytes.get(..ANNOUNCED_LEN).unwrap_or(bytes);
                self.frame(&Frame::NoRecord(rest))
            }
        }
    }

    /// What passed a veth and the stages have just noted.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn passage(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame(&Frame::Passage(bytes))
    }

    /// What records of HTTP/2 made known and the stages have just taken.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn http2(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Follows(cookie) => self.frame(&Frame::Follows(*cookie)),
            Event::Ended(exchange) => {
                self.news()?;
                let heads = self.heads;
                let told = |id| if heads { id } else { self.salted(id) };
                let stream = RecordedStream::of(exchange, told);
                stream.map_or(Ok(()), |stream| {
                    self.frame(&Frame::Stream(Box::new(stream)))
                })
            }
        }
    }

    /// Another hash, that nobody can compare with one of a value that is known.
    fn salted(&self, id: u64) -> u64 {
        match id {
            0 => 0,
            id => self.salt.hash_one(id).max(1),
        }
    }

    /// Everything was settled as of `now`; `lost` tells what the kernel side lost so far.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settled(
        &mut self,
        now: Ktime,
        lost: impl Fn() -> BTreeMap<String, u64>,
    ) -> io::Result<()> {
        self.news()?;
        if now == Ktime::MAX || now.saturating_sub(self.lost_at) >= LOSSES_EVERY {
            self.lost_at = now;
            let lost = lost();
            if lost != self.lost {
                self.frame(&Frame::Lost(lost.clone()))?;
                self.lost = lost;
            }
        }
        self.frame(&Frame::Settled(now))?;
        if self.written >= self.limit {
            self.end(Reason::Full)?;
        }
        self.out.flush()
    }

    /// The agent has settled everything and ends.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn stop(&mut self) -> io::Result<()> {
        self.end(Reason::Stopped)?;
        self.out.flush()
    }

    fn end(&mut self, reason: Reason) -> io::Result<()> {
        let records = self.records;
        self.frame(&Frame::End(End { reason, records }))?;
        self.ended = true;
        Ok(())
    }

    /// Names that were asked for since the last frame.
    fn news(&mut self) -> io::Result<()> {
        let news = lock(&self.names).take();
        news.iter().try_for_each(|frame| self.frame(frame))
    }

    fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let kind = frame.write(&mut body)?;
        let done = self.whole(kind, &body);
        self.body = body;
        done
    }

    fn whole(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        if body.len() > LONGEST_BODY {
            return Err(io::Error::other(format!(
                "a frame of {len} bytes is longer than {LONGEST_BODY}"
            )));
        }
        self.put(&len.to_le_bytes())?;
        self.put(&[kind])?;
        self.put(body)?;
        self.put(&checksum(kind, body).to_le_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// CRC-32 of kind and body.
pub(super) fn checksum(kind: u8, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(body);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::recording::reader::Recording;

    #[test]
    fn a_full_file_ends_and_says_so() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings::of(&Config::default(), 0);
        let mut recorder = Recorder::create(path.path(), settings, Arc::default()).unwrap();
        recorder.limit = 2_000;
        for now in 0..1_000 {
            recorder.record(&[0; 100]).unwrap();
            recorder.settled(now, BTreeMap::new).unwrap();
        }
        assert!(recorder.is_over());
        drop(recorder);
        assert!(std::fs::metadata(path.path()).unwrap().len() < 2_300);
        let mut recording = Recording::open(path.path()).unwrap();
        let mut last = None;
        while let Some(frame) = recording.next().unwrap() {
            if let Frame::End(end) = frame {
                last = Some(end);
            }
        }
        assert_eq!(last.unwrap().reason, Reason::Full);
    }
}
