//! An exposition as numbers: every series with its labels.

use std::collections::BTreeMap;

/// Labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

/// One series: its name, its labels, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) value: f64,
}

impl Series {
    /// A label; empty where it has none of this name.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether it may only grow.
    pub(super) fn is_counter(&self) -> bool {
        ["_total", "_count", "_sum", "_bucket"]
            .iter()
            .any(|end| self.name.ends_with(end))
    }
}

/// Everything an agent tells at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposition(pub(super) Vec<Series>);

impl Exposition {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(series).collect())
    }

    /// Sum over the series of a name whose labels are these.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .iter()
            .filter(|series| {
                series.name == name
                    && labels
                        .iter()
                        .all(|(label, value)| series.label(label) == *value)
            })
            .map(|series| series.value)
            .sum()
    }

    /// What is in the books on one side and not on the other; 0 when they balance.
    pub(super) fn imbalance(&self) -> f64 {
        let lost = |reason| self.sum("hoptrace_records_lost_total", &[("reason", reason)]);
        self.sum("hoptrace_records_total", &[])
            - lost("ring_full")
            - lost("parse_error")
            - lost("unknown_socket")
            - self.sum("hoptrace_exchanges_total", &[])
            - self.sum("hoptrace_exchanges_pending", &[])
    }
}

/// `name{a="b",c="d"} 1`; comments and what is no series are `None`.
fn series(line: &str) -> Option<Series> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut found = Labels::new();
    let mut rest = labels;
    while let Some((label, after)) = rest.split_once("=\"") {
        // No value of ours has a quotation mark in it.
        let (text, after) = after.split_once('"')?;
        found.insert(label.trim_start_matches(',').to_owned(), text.to_owned());
        rest = after;
    }
    Some(Series {
        name: name.to_owned(),
        labels: found,
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"\"} 2\na{x=\"2\",y=\"3\"} 5e0\nb 7\n";
        let read = Exposition::parse(text);
        assert_eq!(read.sum("a", &[]), 7.0);
        assert_eq!(read.sum("a", &[("x", "2"), ("y", "3")]), 5.0);
        assert_eq!(read.sum("a", &[("y", "")]), 2.0);
        assert_eq!(read.sum("b", &[]), 7.0);
    }

    #[test]
    fn books_balance_or_do_not() {
        let text = |total: u32| {
            format!(
                "hoptrace_records_total {total}\n\
                 hoptrace_records_lost_total{{reason=\"ring_full\"}} 1\n\
                 hoptrace_records_lost_total{{reason=\"request_unseen\"}} 9\n\
                 hoptrace_exchanges_total{{result=\"paired\"}} 5\nhoptrace_exchanges_pending 2\n"
            )
        };
        assert_eq!(Exposition::parse(&text(8)).imbalance(), 0.0);
        assert_eq!(Exposition::parse(&text(9)).imbalance(), 1.0);
    }
}
