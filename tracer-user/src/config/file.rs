//! The TOML file: read, checked, and blamed by line when something is wrong with it.

use super::blame;
use super::options::Options;
use super::values::Interval;
use crate::windows::Windows;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// What is wrong with a file of ours.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("cannot read {path}; give --config a file that exists and is readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something that is not an option.
    #[error("{path}:{line}: `{text}`: {reason}; `hoptrace config` shows every key with its value")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The line itself: key and value.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Which of a sidecar's two jobs a socket is for could not be told.
    #[error(
        "--proxy-inbound-port and --proxy-outbound-port are both {0}; a sidecar has a port for each"
    )]
    SamePort(NonZeroU16),
    /// One window would begin before the last is settled.
    #[error(
        "--trace-windows {windows} leaves no time to settle one window before the next: with --hold {hold} a period is {shortest} at least"
    )]
    ShortPeriod {
        /// What was asked for.
        windows: Windows,
        /// How long exchanges wait.
        hold: Interval,
        /// What goes with them.
        shortest: Interval,
    },
    /// A recording has one beginning.
    #[error("--record goes with --trace-windows always only, and not with {0}")]
    RecordedWindows(Windows),
}

/// Reads the options of a file.
pub(super) fn read(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Options, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (line, text) = blame::line(text, error.span());
        ConfigError::Invalid {
            path: path.into(),
            line,
            text,
            reason: blame::reason(&error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let error = parse(Path::new("h.toml"), text)
            .expect_err(text)
            .to_string();
        for part in expected {
            assert!(error.contains(part), "`{part}` is not in `{error}`");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn errors_name_file_line_key_value_and_remedy() {
        check(
            "\nlisten = \"x\"",
            &["h.toml:2:", "listen", "\"x\"", "socket address"],
        );
        check(
            "max_serie = 1",
            &["h.toml:1:", "max_serie", "unknown field", "hoptrace config"],
        );
        check("hold = 5", &["h.toml:1:", "hold = 5", "200ms"]);
        check("buckets = [2.0, 1.0]", &["buckets", "ascending"]);
        check("ring_size = 5000", &["ring_size", "power of two"]);
        check(
            "labels = [\"pod\"]",
            &["labels", "`pod`", "source_workload"],
        );
        check("max_series = 0", &["max_series"]);
        check("identity = \"kube\"", &["identity", "static:FILE"]);
        check("headers = \"all\"", &["headers", "app-legs"]);
        check("hold = ", &["h.toml:1:"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(text in "(([a-z_]{1,12}|max_series|buckets|labels) = [-0-9a-z\"\\[\\],. ]{0,20}\n){0,4}.*") {
            let _answer = parse(Path::new("h.toml"), &text);
        }
    }
}
