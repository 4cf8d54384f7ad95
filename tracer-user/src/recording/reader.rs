//! Reading a recording, frame by frame.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::frame::{Frame, Settings};
use super::writer::checksum;
use super::{LAYOUT, LONGEST_BODY, MAGIC, VERSION};

/// Why a recording is not read, or not to its end. What was read before an offset is good.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("cannot read {path}: give a file that `hoptrace record` wrote")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{path} is no recording: it does not begin with `HOPTRACE`")]
    NoRecording {
        /// The file.
        path: PathBuf,
    },
    /// A recording of another hoptrace.
    #[error(
        "{path} has format {version} with records of layout {layout:08x}, and this hoptrace reads \
         format {VERSION} with layout {LAYOUT:08x}: replay it with the version that wrote it"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
        /// Its records.
        layout: u32,
    },
    /// It ends within a frame, or without its last one.
    #[error(
        "{path} is cut off at byte {offset}: the agent was killed, the disk was full, or it still \
         records"
    )]
    CutOff {
        /// The file.
        path: PathBuf,
        /// Where the frame began that is not whole.
        offset: u64,
    },
    /// A frame that nobody wrote.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system.
    #[error("cannot read {path} behind byte {offset}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// An open recording. Memory: one frame.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    input: BufReader<File>,
    settings: Settings,
    /// Where the frame begins that was read last.
    offset: u64,
    /// Where the next one does.
    next: u64,
    body: Vec<u8>,
    ended: bool,
}

impl Recording {
    /// Opens a file, and reads its settings.
    ///
    /// # Errors
    /// It is no recording, or one of another version.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let input = File::open(path).map_err(|source| ReadError::Open {
            path: path.into(),
            source,
        })?;
        let mut recording = Self {
            path: path.into(),
            input: BufReader::with_capacity(64 << 10, input),
            settings: Settings::of(&crate::config::Config::default(), 0),
            offset: 0,
            next: 0,
            body: Vec::new(),
            ended: false,
        };
        let mut head = [0; 16];
        let whole = recording.fill(&mut head);
        if !head.starts_with(&MAGIC) {
            return Err(ReadError::NoRecording { path: path.into() });
        }
        if !whole? {
            return Err(recording.cut_off());
        }
        let [_, _, _, _, _, _, _, _, rest @ ..] = head;
        let [a, b, c, d, e, f, g, h] = rest;
        let (version, layout) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        if (version, layout) != (VERSION, LAYOUT) {
            return Err(ReadError::Foreign {
                path: path.into(),
                version,
                layout,
            });
        }
        let settings = match recording.next()? {
            Some(Frame::Settings(settings)) => Some(settings),
            _ => None,
        };
        match settings {
            Some(settings) => recording.settings = settings,
            None => return Err(recording.damaged("the first frame is not the settings")),
        }
        Ok(recording)
    }

    /// What the agent was told at its start.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The next frame, `None` behind the last.
    ///
    /// # Errors
    /// There is no whole frame here.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        self.offset = self.next;
        let mut head = [0; 5];
        if self.ended {
            return match self.fill(&mut head[..1]) {
                Ok(false) => Ok(None),
                Ok(true) => Err(self.damaged("something follows its end")),
                Err(error) => Err(error),
            };
        }
        if !self.fill(&mut head)? {
            return Err(self.cut_off());
        }
        let [a, b, c, d, kind] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > LONGEST_BODY {
            return Err(self.damaged(format!(
                "a frame of {len} bytes, and none is longer than {LONGEST_BODY}"
            )));
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(len, 0);
        let mut sum = [0; 4];
        let whole = self.fill(&mut body)? && self.fill(&mut sum)?;
        self.body = body;
        if !whole {
            return Err(self.cut_off());
        }
        if u32::from_le_bytes(sum) != checksum(kind, &self.body) {
            return Err(self.damaged("its checksum is not that of its bytes"));
        }
        match Frame::read(kind, &self.body) {
            Ok(frame) => {
                self.ended = matches!(frame, Frame::End(_));
                Ok(Some(frame))
            }
            Err(reason) => Err(ReadError::Damaged {
                path: self.path.clone(),
                offset: self.offset,
                reason,
            }),
        }
    }

    /// The frame read last cannot be where it is.
    pub(super) fn damaged(&self, reason: impl Into<String>) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            offset: self.offset,
            reason: reason.into(),
        }
    }

    fn cut_off(&self) -> ReadError {
        ReadError::CutOff {
            path: self.path.clone(),
            offset: self.offset,
        }
    }

    /// Fills `bytes`; false when the file ends before.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, ReadError> {
        match self.input.read_exact(bytes) {
            Ok(()) => {
                self.next += bytes.len() as u64;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(ReadError::Read {
                path: self.path.clone(),
                offset: self.offset,
                source,
            }),
        }
    }
}
