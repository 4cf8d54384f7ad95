//! Medians and their confidence intervals, by a small bootstrap that gives the same answer each time.
//!
//! A handful of runs on a shared machine has no distribution worth a name, and its mean belongs to
//! the worst of them. So: the median, and how far it moves when the runs are drawn again with
//! repetition (Efron's percentile bootstrap).

use serde::Serialize;

/// Draws of the bootstrap.
const RESAMPLES: usize = 10_000;
/// What is cut off at each end of the draws: 95 % stay.
const TAIL: f64 = 0.025;
/// Any number will do, as long as it is the same in every run.
const SEED: u64 = 0x686f_7074_7261_6365;

/// A median with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    /// The median.
    pub(super) median: f64,
    /// Lower end of the interval.
    pub(super) low: f64,
    /// Upper end.
    pub(super) high: f64,
}

impl Estimate {
    /// Of some values, one for each run or pair; none without values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut generator = SplitMix64(SEED);
        let mut resample = Vec::with_capacity(values.len());
        let mut medians = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            resample.clear();
            resample.extend(
                (0..values.len())
                    .filter_map(|_| values.get(generator.below(values.len())).copied()),
            );
            medians.push(median(&mut resample)?);
        }
        medians.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&mut values.to_vec())?,
            low: quantile(&medians, TAIL)?,
            high: quantile(&medians, 1.0 - TAIL)?,
        })
    }
}

impl Estimate {
    /// Like `1.25 [1.20, 1.31]`.
    pub(super) fn show(&self, digits: usize) -> String {
        let Self { median, low, high } = self;
        format!("{median:.digits$} [{low:.digits$}, {high:.digits$}]").replace('-', "−")
    }

    /// A difference, like `+1.2 % [−0.3, +2.6]`.
    pub(super) fn signed(&self, unit: &str) -> String {
        let Self { median, low, high } = self;
        format!("{median:+.1} {unit} [{low:+.1}, {high:+.1}]").replace('-', "−")
    }
}

/// By how much the second differs from the first, in percent of the first.
pub(super) fn percent_more(first: f64, second: f64) -> f64 {
    (second / first - 1.0) * 100.0
}

/// Sorts the values; of an even number, the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile(values, 0.5)
}

/// Of sorted values; between two of them it is interpolated (type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let position = at * sorted.len().checked_sub(1)? as f64;
    let below = *sorted.get(position.floor() as usize)?;
    let above = *sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

/// Steele, Lea and Flood's generator: a few lines, and good enough to draw with.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the bound: the upper half of a product, which needs no division.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
        assert_eq!(quantile(&[0.0, 10.0], 0.25), Some(2.5));
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The reference implementation, seeded with 1234567.
        let mut generator = SplitMix64(1_234_567);
        assert_eq!(generator.next(), 6_457_827_717_110_365_317);
        assert_eq!(generator.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_value_is_drawn_equally_often() {
        let mut generator = SplitMix64(SEED);
        let mut drawn = [0_u32; 5];
        for _ in 0..50_000 {
            drawn[generator.below(5)] += 1;
        }
        assert!(
            drawn.iter().all(|count| (9_600..10_400).contains(count)),
            "{drawn:?}"
        );
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let estimate = Estimate::of(&[2.0; 7]).unwrap();
        assert_eq!(
            (estimate.low, estimate.median, estimate.high),
            (2.0, 2.0, 2.0)
        );
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn few_values_leave_all_of_their_range_and_many_narrow_it() {
        // Three of five draws hit the smallest of five with a probability of 5.8 %, so the lower
        // 2.5 % of the medians are that value itself.
        let few = Estimate::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((few.low, few.median, few.high), (1.0, 3.0, 5.0));
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        let many = Estimate::of(&values).unwrap();
        // Order statistics put it at ranks 41 and 61 of 101.
        assert_eq!(many.median, 50.0);
        assert!((38.0..42.0).contains(&many.low), "{many:?}");
        assert!((58.0..62.0).contains(&many.high), "{many:?}");
    }

    #[test]
    fn differences_have_their_sign() {
        let estimate = Estimate {
            median: 1.25,
            low: -0.31,
            high: 2.6,
        };
        assert_eq!(estimate.signed("%"), "+1.2 % [−0.3, +2.6]");
        assert_eq!(estimate.show(2), "1.25 [−0.31, 2.60]");
    }

    #[test]
    fn one_wild_run_does_not_move_the_median() {
        let estimate = Estimate::of(&[1.0, 1.1, 0.9, 1.0, 80.0]).unwrap();
        assert_eq!(estimate.median, 1.0);
    }

    #[test]
    fn the_same_runs_give_the_same_interval() {
        let values = [0.3, -0.1, 0.7, 0.2, 0.5, 0.1];
        assert_eq!(Estimate::of(&values), Estimate::of(&values));
    }

    #[test]
    fn a_difference_is_in_percent_of_the_first() {
        assert!((percent_more(200.0, 210.0) - 5.0).abs() < 1e-9);
        assert!((percent_more(200.0, 196.0) + 2.0).abs() < 1e-9);
    }
}
