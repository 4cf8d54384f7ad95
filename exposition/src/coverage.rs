//! How much of what happened the figures stand on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Exposition;

const EXCHANGES: &str = "hoptrace_exchanges_total";
const LOST: &str = "hoptrace_records_lost_total";

/// Exchanges that are judged by whether they have a neighbour.
const JUDGED: [&str; 3] = ["paired", "unpaired", "evicted"];
/// Losses whose unit is the exchange.
const LOST_EXCHANGES: [&str; 3] = ["ring_full", "parse_error", "unknown_socket"];

/// What became of every exchange, a request and its response on one socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Fate, method, and exchanges; those that are 0 are left out.
    pub exchanges: Vec<(String, String, u64)>,
    /// Reason, then what was lost; those that are 0 are left out.
    pub lost: BTreeMap<String, u64>,
}

impl Coverage {
    /// As an agent tells it.
    #[must_use]
    pub fn of(exposition: &Exposition) -> Self {
        let mut fates: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut coverage = Self::default();
        for series in exposition.iter().filter(|series| series.value > 0.0) {
            let value = series.value as u64;
            if series.name == EXCHANGES {
                let fate = (series.label("result"), series.label("method"));
                *fates.entry(fate).or_default() += value;
            } else if series.name == LOST {
                let reason = series.label("reason").to_owned();
                *coverage.lost.entry(reason).or_default() += value;
            }
        }
        coverage.exchanges = fates
            .into_iter()
            .map(|((fate, method), count)| (fate.to_owned(), method.to_owned(), count))
            .collect();
        coverage
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let exchanges = self.exchanges.iter().map(|(fate, method, now)| {
            let was = before.count(|of, by| (of, by) == (fate, method));
            (fate.clone(), method.clone(), now.saturating_sub(was))
        });
        let lost = self.lost.iter().map(|(reason, now)| {
            let was = before.lost.get(reason).copied().unwrap_or_default();
            (reason.clone(), now.saturating_sub(was))
        });
        Self {
            exchanges: exchanges.filter(|(_, _, count)| *count > 0).collect(),
            lost: lost.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Adds that of another agent, or of another time.
    pub fn add(&mut self, other: &Self) {
        for (fate, method, count) in &other.exchanges {
            let mut mine = self.exchanges.iter_mut();
            match mine.find(|(of, by, _)| of == fate && by == method) {
                Some((_, _, sum)) => *sum += count,
                None => {
                    let fate = (fate.clone(), method.clone(), *count);
                    self.exchanges.push(fate);
                }
            }
        }
        self.exchanges.sort();
        for (reason, count) in &other.lost {
            *self.lost.entry(reason.clone()).or_default() += count;
        }
    }

    /// All exchanges that were told.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.count(|_, _| true)
    }

    /// Those that found their neighbour.
    #[must_use]
    pub fn paired(&self) -> u64 {
        self.count(|fate, _| fate == "paired")
    }

    /// Those that should have found it, with those of which the record was lost.
    #[must_use]
    pub fn judged(&self) -> u64 {
        let lost = |reason: &&str| self.lost.get(*reason);
        let lost: u64 = LOST_EXCHANGES.iter().filter_map(lost).sum();
        self.count(|fate, _| JUDGED.contains(&fate)) + lost
    }

    /// Share of them that found it, 0 to 1; nothing where there was no exchange.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let judged = self.judged();
        (judged > 0).then(|| self.paired() as f64 / judged as f64)
    }

    fn count(&self, fits: impl Fn(&str, &str) -> bool) -> u64 {
        let exchanges = self.exchanges.iter();
        let fitting = exchanges.filter(|(fate, method, _)| fits(fate, method));
        fitting.map(|(_, _, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(paired: u64, unpaired: u64, ring_full: u64) -> Coverage {
        let text = format!(
            "hoptrace_exchanges_total{{method=\"tuple\",result=\"paired\"}} {paired}\n\
             hoptrace_exchanges_total{{method=\"none\",result=\"unpaired\"}} {unpaired}\n\
             hoptrace_exchanges_total{{method=\"none\",result=\"probe\"}} 50\n\
             hoptrace_records_lost_total{{reason=\"ring_full\"}} {ring_full}\n\
             hoptrace_records_lost_total{{reason=\"request_unseen\"}} 7\n"
        );
        Coverage::of(&Exposition::parse(&text))
    }

    #[test]
    fn shares_are_of_what_should_have_a_neighbour() {
        assert_eq!(coverage(90, 10, 0).share(), Some(0.9));
        assert_eq!(coverage(90, 0, 10).share(), Some(0.9));
        assert_eq!(coverage(90, 0, 0).share(), Some(1.0));
        assert_eq!(Coverage::default().share(), None);
        assert_eq!(coverage(90, 10, 0).all(), 150);
    }

    #[test]
    fn differences_and_sums_agree() {
        let (before, now) = (coverage(90, 10, 0), coverage(190, 11, 3));
        let grown = now.since(&before);
        assert_eq!((grown.paired(), grown.judged()), (100, 104));
        let mut sum = before.clone();
        sum.add(&grown);
        assert_eq!((sum.paired(), sum.judged()), (now.paired(), now.judged()));
        assert_eq!(sum.lost, now.lost);
    }

    #[test]
    fn its_metrics_are_exported() {
        let golden = include_str!("../../tracer-user/tests/golden/metrics.txt");
        for name in [EXCHANGES, LOST] {
            assert!(golden.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
