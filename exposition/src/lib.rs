//! What an agent exposes to Prometheus, read again: series with their labels, and what they add up to.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

mod coverage;
mod histogram;
mod totals;
mod words;

pub use coverage::Coverage;
pub use histogram::Histogram;
pub use totals::{Pair, PairTotals, Step, Totals};
pub use words::{Hop, Leg, Part, Reporter};

/// One series: its name, its labels, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// With the ending of a histogram's parts: `_bucket`, `_count`, `_sum`.
    pub name: String,
    /// Values by name.
    pub labels: BTreeMap<String, String>,
    /// As it was at the moment of the scrape.
    pub value: f64,
}

impl Series {
    /// A label; empty where it has none of this name.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether it may only grow.
    #[must_use]
    pub fn is_counter(&self) -> bool {
        ["_total", "_count", "_sum", "_bucket"]
            .iter()
            .any(|end| self.name.ends_with(end))
    }
}

/// Prometheus' text format: everything an agent tells at one moment.
#[derive(Clone, Debug, Default)]
pub struct Exposition(Vec<Series>);

impl FromIterator<Series> for Exposition {
    fn from_iter<I: IntoIterator<Item = Series>>(series: I) -> Self {
        Self(series.into_iter().collect())
    }
}

impl Exposition {
    /// Reads the text format; lines that are no series are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(series).collect())
    }

    /// Every series.
    pub fn iter(&self) -> impl Iterator<Item = &Series> {
        self.0.iter()
    }

    /// Sum over all series of a metric.
    ///
    /// # Errors
    /// There is none of this name: the agent is older or newer than this program.
    pub fn sum(&self, name: &str) -> Result<f64> {
        let mut found = self.named(name).map(|series| series.value).peekable();
        found
            .peek()
            .with_context(|| format!("the agent exports no {name}"))?;
        Ok(found.sum())
    }

    /// Sum over the series of a metric that have all of these labels; none is 0.
    #[must_use]
    pub fn sum_where(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            let mut labels = labels.iter();
            labels.all(|(label, value)| series.label(label) == *value)
        };
        let found = self.named(name).filter(has);
        found.map(|series| series.value).sum()
    }

    /// The series of a metric as pairs of one label's value and the number.
    pub fn by_label<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.named(name)
            .filter_map(move |series| Some((series.labels.get(label)?.as_str(), series.value)))
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Series> {
        self.iter().filter(move |series| series.name == name)
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
    let mut found = BTreeMap::new();
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
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use super::*;

    fn sample() -> Exposition {
        let text = "# HELP runs_total Runs.\n# TYPE runs_total counter\n\
                    runs_total{program=\"read\"} 7\nruns_total{program=\"egress\"} 1e3\n\
                    runs_total_other 5\nup 1\n";
        Exposition::parse(text)
    }

    #[test]
    fn series_are_summed() {
        let sample = sample();
        assert_eq!(sample.sum("runs_total").unwrap(), 1007.0);
        assert_eq!(sample.sum("up").unwrap(), 1.0);
        assert!(sample.sum("down").unwrap_err().to_string().contains("down"));
    }

    #[test]
    fn series_are_summed_by_their_labels() {
        let exposition = Exposition::parse(
            "hops{hop=\"app\",part=\"queue\"} 1\nhops{hop=\"app\",part=\"processing\"} 2\n\
             hops{hop=\"network\",part=\"whole\"} 4\nhops{last_hop=\"app\"} 8\n",
        );
        let sum = |labels: &[_]| exposition.sum_where("hops", labels);
        assert_eq!(sum(&[("hop", "app")]), 3.0);
        assert_eq!(sum(&[("hop", "app"), ("part", "queue")]), 1.0);
        assert_eq!(sum(&[]), 15.0);
        assert_eq!(sum(&[("hop", "ap")]), 0.0);
    }

    #[test]
    fn series_are_told_apart_by_a_label() {
        let sample = sample();
        let found: Vec<_> = sample.by_label("runs_total", "program").collect();
        assert_eq!(found, [("read", 7.0), ("egress", 1000.0)]);
    }

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"\"} 2\na{x=\"2\",y=\"3\"} 5e0\nb 7\n";
        let read = Exposition::parse(text);
        assert_eq!(read.sum_where("a", &[]), 7.0);
        assert_eq!(read.sum_where("a", &[("x", "2"), ("y", "3")]), 5.0);
        assert_eq!(read.sum_where("a", &[("y", "")]), 2.0);
        assert_eq!(read.sum_where("b", &[]), 7.0);
    }
}
