//! Histograms as they are exposed: cumulative in time and over their buckets.

use std::collections::BTreeMap;

use crate::Series;

/// A histogram, cumulative in time and over its buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations.
    pub count: f64,
    /// Their sum, seconds.
    pub sum: f64,
    /// Observations up to each bound, by the bound's text as exposed.
    pub buckets: BTreeMap<String, f64>,
}

impl Histogram {
    pub(crate) fn put(&mut self, series: &Series, kind: &str) {
        match kind {
            "_count" => self.count += series.value,
            "_sum" => self.sum += series.value,
            _ => {
                let bound = series.label("le").to_owned();
                *self.buckets.entry(bound).or_default() += series.value;
            }
        }
    }

    /// Adds observations of the same buckets.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (bound, value) in &other.buckets {
            *self.buckets.entry(bound.clone()).or_default() += value;
        }
    }

    /// What came since `before`; what became less began again.
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.count <= self.count) else {
            return self.clone();
        };
        let buckets = self.buckets.iter().map(|(bound, value)| {
            let before = before.buckets.get(bound).copied().unwrap_or_default();
            (bound.clone(), value - before)
        });
        Self {
            count: self.count - before.count,
            sum: self.sum - before.sum,
            buckets: buckets.collect(),
        }
    }

    /// Mean in seconds; nothing without observations.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// A quantile in seconds, interpolated within its bucket as Prometheus does it. Beyond the greatest
    /// bound it is that bound.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let buckets = self.sorted();
        let (_, all) = buckets.last().copied().filter(|(_, all)| *all > 0.0)?;
        let rank = quantile * all;
        let mut below = (0.0, 0.0);
        for (bound, value) in buckets {
            if value >= rank {
                if bound.is_infinite() {
                    return Some(below.0);
                }
                let share = (rank - below.1) / (value - below.1).max(f64::MIN_POSITIVE);
                return Some(below.0 + (bound - below.0) * share);
            }
            below = (bound, value);
        }
        None
    }

    /// The bounds of the bucket in which the greatest observation lies, seconds; the second is nothing where
    /// it is above all bounds. An exposition has no exact maximum.
    #[must_use]
    pub fn greatest(&self) -> Option<(f64, Option<f64>)> {
        let mut lower = 0.0;
        for (bound, value) in self.sorted() {
            if value >= self.count && self.count > 0.0 {
                return Some((lower, bound.is_finite().then_some(bound)));
            }
            lower = bound;
        }
        None
    }

    fn sorted(&self) -> Vec<(f64, f64)> {
        let buckets = self.buckets.iter();
        let mut sorted: Vec<(f64, f64)> = buckets
            .filter_map(|(bound, value)| Some((bound.parse().ok()?, *value)))
            .collect();
        sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
        sorted
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_prometheus() {
        let buckets = [
            ("0.001", 10.0),
            ("0.01", 90.0),
            ("0.1", 100.0),
            ("+Inf", 100.0),
        ];
        let histogram = Histogram {
            count: 100.0,
            sum: 1.0,
            buckets: buckets
                .map(|(bound, value)| (bound.to_owned(), value))
                .into(),
        };
        let close = |found: Option<f64>, wanted: f64| {
            assert!((found.unwrap() - wanted).abs() < 1e-9, "{found:?} {wanted}");
        };
        close(histogram.quantile(0.5), 0.001 + 0.009 * 0.5);
        close(histogram.quantile(0.95), 0.055);
        close(
            histogram
                .since(Some(&histogram.clone()))
                .quantile(0.5)
                .or(Some(7.0)),
            7.0,
        );
        assert_eq!(histogram.greatest(), Some((0.01, Some(0.1))));
        assert_eq!(Histogram::default().greatest(), None);
        // An agent that was started again has counted fewer.
        let more = Histogram {
            count: 500.0,
            ..histogram.clone()
        };
        assert_eq!(histogram.since(Some(&more)), histogram);
    }
}
