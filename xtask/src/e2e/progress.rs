//! What is done, with the time since the beginning.

use std::time::Instant;

pub(super) struct Progress(Instant);

impl Progress {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn step(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.seconds());
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
