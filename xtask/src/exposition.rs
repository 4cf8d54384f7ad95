//! What the agent says about itself: its exposition, as far as benchmark and kernel matrix ask.

use anyhow::{Context, Result};

/// Prometheus' text format, read on demand.
pub(crate) struct Exposition(String);

impl Exposition {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// Sum over all series of a metric.
    ///
    /// # Errors
    /// There is none of this name: the agent is older or newer than this program.
    pub(crate) fn sum(&self, name: &str) -> Result<f64> {
        let mut found = self.series(name).map(|(_, value)| value).peekable();
        found
            .peek()
            .with_context(|| format!("the agent exports no {name}"))?;
        Ok(found.sum())
    }

    /// Sum over the series of a metric that have all of these labels; none is 0.
    pub(crate) fn sum_where(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &str| {
            labels.iter().all(|(label, value)| {
                let pair = format!("{label}=\"{value}\"");
                // A longer label may end with this one.
                ["{", ","]
                    .iter()
                    .any(|before| found.contains(&format!("{before}{pair}")))
            })
        };
        self.series(name)
            .filter(|(found, _)| has(found))
            .map(|(_, value)| value)
            .sum()
    }

    /// The series of a metric as pairs of one label's value and the number.
    pub(crate) fn by_label<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.series(name).filter_map(move |(labels, value)| {
            let (_, rest) = labels.split_once(label)?;
            let (found, _) = rest.strip_prefix("=\"")?.split_once('"')?;
            Some((found, value))
        })
    }

    /// Labels, with their braces, and value of each series.
    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            // A longer name may begin with this one.
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels, value.parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Exposition {
        let text = "# HELP runs_total Runs.\n# TYPE runs_total counter\n\
                    runs_total{program=\"read\"} 7\nruns_total{program=\"egress\"} 1e3\n\
                    runs_total_other 5\nup 1\n";
        Exposition::new(text.to_owned())
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
        let exposition = Exposition::new(
            "hops{hop=\"app\",part=\"queue\"} 1\nhops{hop=\"app\",part=\"processing\"} 2\n\
             hops{hop=\"network\",part=\"whole\"} 4\nhops{last_hop=\"app\"} 8\n"
                .to_owned(),
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
}
