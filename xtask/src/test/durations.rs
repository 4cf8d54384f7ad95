//! Which tests took long: where to look when a run has become slow.

use std::time::{Duration, Instant};

/// How many are named.
const NAMED: usize = 12;
/// What takes less is not worth a line.
const LONG: Duration = Duration::from_secs(10);

/// Times between the lines of tests that run one at a time.
#[derive(Debug, Default)]
pub(super) struct Durations {
    name: String,
    since: Option<Instant>,
    took: Vec<(Duration, String)>,
}

impl Durations {
    /// Takes in one line of output, and when it came.
    pub(super) fn line(&mut self, line: &str, at: Instant) {
        if line.starts_with("running ") {
            self.since = Some(at);
            return;
        }
        // With `--nocapture` the outcome may come behind what the test prints, on a line of its own.
        let named = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        let (name, said) = named.unwrap_or(("", line));
        if !name.is_empty() {
            name.clone_into(&mut self.name);
        }
        if !matches!(said, "ok" | "FAILED") {
            return;
        }
        if let Some(since) = self.since.replace(at) {
            let name = std::mem::take(&mut self.name);
            self.took.push((at.duration_since(since), name));
        }
    }

    /// A line for each long one, the longest first.
    pub(super) fn print(mut self) {
        self.took.retain(|(took, _)| *took >= LONG);
        self.took.sort_by(|one, other| other.cmp(one));
        for (took, name) in self.took.iter().take(NAMED) {
            println!("{:4.0} s  {name}", took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_ends_what_was_named_last() {
        let start = Instant::now();
        let mut durations = Durations::default();
        let lines = [
            (0, "running 3 tests"),
            (2, "test quick ... ok"),
            (3, "test slow ... 12 requests"),
            (9, "100 % exact"),
            (30, "ok"),
            (31, "test wrong ... FAILED"),
            (31, "test result: FAILED. 2 passed; 1 failed"),
        ];
        for (at, line) in lines {
            durations.line(line, start + Duration::from_secs(at));
        }
        let took = [(2, "quick"), (28, "slow"), (1, "wrong")];
        let took = took.map(|(seconds, name)| (Duration::from_secs(seconds), name.to_owned()));
        assert_eq!(durations.took, took);
    }
}
