//! Means over runs, and how sure they are.
//!
//! Runs, not calls, are what is counted: calls of one run wait for each other and are no independent
//! samples. The intervals are Student's, for two sides Welch's, since a mesh varies more than what is
//! without one. With three runs a side they are wide: half a width is 2.5 times the standard deviation of
//! the runs.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A figure, and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Half the width of its interval; nothing where there is one run only.
    pub half: Option<f64>,
}

impl Estimate {
    /// Whether 0 is inside of its interval; nothing where there is no interval.
    #[must_use]
    pub fn may_be_nothing(self) -> Option<bool> {
        self.half.map(|half| self.value.abs() <= half)
    }
}

/// Mean and the variance of that mean.
#[derive(Clone, Copy, Debug)]
struct Sample {
    mean: f64,
    /// Of the mean, not of a run; nothing for one run.
    variance: Option<f64>,
    freedom: f64,
}

impl Sample {
    fn of(runs: &[f64]) -> Self {
        let count = runs.len() as f64;
        let mean = runs.iter().sum::<f64>() / count;
        let freedom = count - 1.0;
        let squares: f64 = runs.iter().map(|run| (run - mean).powi(2)).sum();
        let variance = (freedom >= 1.0).then(|| squares / freedom / count);
        Self {
            mean,
            variance,
            freedom,
        }
    }
}

/// Mean of runs; `confidence` is between 0 and 1.
#[must_use]
pub fn mean(runs: &[f64], confidence: f64) -> Estimate {
    let sample = Sample::of(runs);
    let half = |variance: f64| width(variance, sample.freedom, confidence);
    Estimate {
        value: sample.mean,
        half: sample.variance.and_then(half),
    }
}

/// What the runs of one side have more than those of the other.
#[must_use]
pub fn added(without: &[f64], with: &[f64], confidence: f64) -> Estimate {
    let (from, to) = (Sample::of(without), Sample::of(with));
    let half = from
        .variance
        .zip(to.variance)
        .and_then(|(one, other)| welch([(one, from.freedom), (other, to.freedom)], confidence));
    Estimate {
        value: to.mean - from.mean,
        half,
    }
}

/// The same as a share of what is without: 1 is twice as much. The variances of both sides are carried
/// through the quotient to first order.
#[must_use]
pub fn ratio(without: &[f64], with: &[f64], confidence: f64) -> Estimate {
    let (from, to) = (Sample::of(without), Sample::of(with));
    let half = from.variance.zip(to.variance).and_then(|(one, other)| {
        let below = one * to.mean.powi(2) / from.mean.powi(4);
        let above = other / from.mean.powi(2);
        welch([(below, from.freedom), (above, to.freedom)], confidence)
    });
    Estimate {
        value: to.mean / from.mean - 1.0,
        half,
    }
}

/// Half a width from two variances of means and their degrees of freedom (Welch and Satterthwaite).
fn welch(parts: [(f64, f64); 2], confidence: f64) -> Option<f64> {
    let variance: f64 = parts.iter().map(|(variance, _)| variance).sum();
    if variance == 0.0 {
        return Some(0.0);
    }
    let each = parts.iter().map(|(part, freedom)| part.powi(2) / freedom);
    width(variance, variance.powi(2) / each.sum::<f64>(), confidence)
}

fn width(variance: f64, freedom: f64, confidence: f64) -> Option<f64> {
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(student.inverse_cdf(0.5 + confidence / 2.0) * variance.sqrt())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-3, "{found} {wanted}");
    }

    #[test]
    fn intervals_are_students() {
        // Tables of Student's t: 4.303 for 2 degrees of freedom, 2.776 for 4, both for 95 %.
        let found = mean(&[1.0, 2.0, 3.0], 0.95);
        close(found.value, 2.0);
        close(found.half.unwrap(), 4.3027 / 3.0_f64.sqrt());
        // Equal variances and numbers: Welch has the freedom of both together.
        let found = added(&[1.0, 2.0, 3.0], &[11.0, 12.0, 13.0], 0.95);
        close(found.value, 10.0);
        close(found.half.unwrap(), 2.7764 * (2.0_f64 / 3.0).sqrt());
        assert_eq!(found.may_be_nothing(), Some(false));
        assert_eq!(mean(&[7.0], 0.95).half, None);
        assert_eq!(added(&[7.0], &[8.0], 0.95).may_be_nothing(), None);
        assert_eq!(added(&[1.0; 3], &[2.0; 3], 0.95).half, Some(0.0));
        close(ratio(&[10.0; 3], &[15.0; 3], 0.95).value, 0.5);
    }

    fn runs() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(1.0..1e6_f64, 2..8)
    }

    proptest! {
        #[test]
        fn a_longer_way_to_be_sure_is_wider(runs in runs(), other in runs()) {
            for of in [added, ratio] {
                let halves = [0.5, 0.9, 0.99].map(|level| of(&runs, &other, level).half.unwrap());
                prop_assert!(halves.is_sorted(), "{halves:?}");
            }
        }

        #[test]
        fn nothing_is_added_to_itself(runs in runs()) {
            let found = added(&runs, &runs, 0.95);
            prop_assert!(found.value.abs() < 1e-6);
            prop_assert_eq!(found.may_be_nothing(), Some(true));
        }

        #[test]
        fn sides_change_places(one in runs(), other in runs()) {
            let (there, back) = (added(&one, &other, 0.95), added(&other, &one, 0.95));
            prop_assert!((there.value + back.value).abs() < 1e-6);
            prop_assert!((there.half.unwrap() - back.half.unwrap()).abs() <= 1e-6 * there.half.unwrap());
        }

        #[test]
        fn a_share_has_no_unit(one in runs(), other in runs(), unit in 0.001..1000.0_f64) {
            let scaled = |runs: &[f64]| runs.iter().map(|run| run * unit).collect::<Vec<_>>();
            let (plain, changed) = (ratio(&one, &other, 0.95), ratio(&scaled(&one), &scaled(&other), 0.95));
            prop_assert!((plain.value - changed.value).abs() <= 1e-9 * plain.value.abs().max(1.0));
            let (plain, changed) = (plain.half.unwrap(), changed.half.unwrap());
            prop_assert!((plain - changed).abs() <= 1e-6 * plain.max(1.0));
        }
    }
}
