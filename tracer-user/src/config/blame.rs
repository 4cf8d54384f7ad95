//! Which line of a TOML file is wrong, in one sentence instead of a picture.

use std::ops::Range;

/// Number (from 1) and text of the line a span of the file begins in.
pub(crate) fn line(text: &str, span: Option<Range<usize>>) -> (usize, String) {
    let before = span
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let index = before.matches('\n').count();
    let shown = text.lines().nth(index).unwrap_or_default().trim();
    // A line can be of any length; its beginning holds the key.
    (index + 1, shown.chars().take(120).collect())
}

/// The message of a TOML error without its picture.
pub(crate) fn reason(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(", ")
}
