//! Counting what the test harness and the tests themselves say.

use std::collections::BTreeMap;
use std::fmt;

/// Totals over every test binary.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    ignored: BTreeMap<String, String>,
    /// Tests that found they cannot run here; the harness counts them as passed.
    skipped: BTreeMap<String, String>,
    failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of output.
    pub(super) fn line(&mut self, line: &str) {
        if let Some((passed, failed)) = line.strip_prefix("test result: ").and_then(result) {
            self.passed += passed;
            self.failed += failed;
        } else if let Some((name, reason)) = skip(line) {
            self.skipped.insert(name.to_owned(), reason.to_owned());
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            if let Some(reason) = outcome.strip_prefix("ignored") {
                let reason = reason.trim_start_matches(", ");
                let reason = if reason.is_empty() {
                    "marked #[ignore]"
                } else {
                    reason
                };
                self.ignored.insert(name.to_owned(), reason.to_owned());
            } else if outcome.ends_with("FAILED") {
                self.failures.push(name.to_owned());
            }
        }
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// A phase failed without a failing test: it did not compile, or a test binary died.
    pub(super) fn broken(&mut self, what: &str) {
        self.failed += 1;
        self.failures
            .push(format!("{what}: did not compile, or died; see above"));
    }

    /// Things that tests made and did not take away; the check counts as one test.
    pub(super) fn left_behind(&mut self, things: Vec<String>) {
        if things.is_empty() {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        self.failures.extend(
            things
                .into_iter()
                .map(|thing| format!("left behind: {thing}")),
        );
    }

    pub(super) fn is_failure(&self) -> bool {
        self.failed > 0
    }

    /// One line a skip, then one line a failure.
    pub(super) fn print_details(&self) {
        for (name, reason) in self.skipped.iter().chain(&self.ignored) {
            println!("skipped {name}: {reason}");
        }
        for failure in &self.failures {
            println!("failed {failure}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.skipped.len());
        let skipped = self.skipped.len() + self.ignored.len();
        write!(
            f,
            "{passed} passed, {} failed, {skipped} skipped",
            self.failed
        )
    }
}

/// `ok. 3 passed; 0 failed; …` to (3, 0).
fn result(text: &str) -> Option<(usize, usize)> {
    let count = |word: &str| {
        let (before, _) = text.split_once(word)?;
        before.trim_end().rsplit([' ', ';']).next()?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

/// `SKIP name: reason`, at the start of a line or behind the harness's `test name ... `.
fn skip(line: &str) -> Option<(&str, &str)> {
    let said = match line.split_once(" ... ") {
        Some((start, rest)) if start.starts_with("test ") => rest,
        _ => line,
    };
    let (name, reason) = said.strip_prefix("SKIP ")?.split_once(": ")?;
    Some((name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: &str) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.line(line));
        assert_eq!(tally.to_string(), expected, "{lines:?}");
    }

    #[test]
    fn totals() {
        const TWO: &str = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 9 filtered";
        const ONE: &str = "test result: FAILED. 1 passed; 10 failed; 1 ignored; 0 measured";
        check(&[], "0 passed, 0 failed, 0 skipped");
        check(&[TWO, ONE], "3 passed, 10 failed, 0 skipped");
        check(
            &["test a ... ignored, slow", "test b ... ignored", TWO],
            "2 passed, 0 failed, 2 skipped",
        );
        // Said twice, on standard output and in the file, a skip is one skip.
        let skips = ["SKIP ring: no BTF", "test ring ... SKIP ring: no BTF", TWO];
        check(&skips, "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn what_is_left_behind_fails() {
        let mut tally = Tally::default();
        tally.left_behind(vec!["network namespace ht-a".to_owned()]);
        assert!(tally.is_failure());
    }
}
