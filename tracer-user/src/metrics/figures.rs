//! What was counted of each pair of workloads, in a few numbers: what the page draws its map from. The
//! histograms have the same and far more, but telling it from them takes milliseconds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Hop, Reporter, RequestTimes};

/// Observations and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

impl Sum {
    const fn observe(&mut self, ns: u64) {
        self.count += 1;
        self.ns = self.ns.saturating_add(ns);
    }

    const fn add(&mut self, other: Self) {
        self.count += other.count;
        self.ns = self.ns.saturating_add(other.ns);
    }
}

/// What was counted since the agent started, or since these workloads were first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whole requests by [`Reporter`], in its order.
    pub requests: [Sum; 2],
    /// Those with a status of 500 and above.
    pub errors: u64,
    /// Self times of a request in each hop that it was seen in, in the order of [`Hop::ALL`].
    pub hops: [Sum; Hop::ALL.len()],
}

impl Figures {
    pub(super) fn observe(&mut self, times: &RequestTimes) {
        for &(reporter, ns) in &times.totals {
            if let Some(sum) = self.requests.get_mut(reporter as usize) {
                sum.observe(ns);
            }
        }
        if times.labels.response_code >= 500 {
            self.errors += 1;
        }
        let mut passed = [false; Hop::ALL.len()];
        for time in &times.hops {
            let at = time.hop as usize;
            if let (Some(sum), Some(passed)) = (self.hops.get_mut(at), passed.get_mut(at)) {
                // A hop has several legs and parts, and counts once.
                sum.count += u64::from(!std::mem::replace(passed, true));
                sum.ns = sum.ns.saturating_add(time.duration_ns);
            }
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.requests.iter_mut().zip(other.requests) {
            mine.add(theirs);
        }
        self.errors += other.errors;
        for (mine, theirs) in self.hops.iter_mut().zip(other.hops) {
            mine.add(theirs);
        }
    }

    /// Whole requests as this end saw them.
    #[must_use]
    pub fn requests(&self, reporter: Reporter) -> Sum {
        self.requests
            .get(reporter as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// Who calls whom, by the labels that are exported; what is not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PairName {
    /// Calling workload.
    pub source_workload: String,
    /// Its namespace.
    pub source_workload_namespace: String,
    /// Called workload.
    pub destination_workload: String,
    /// Its namespace.
    pub destination_workload_namespace: String,
    /// Service asked for.
    pub destination_service_name: String,
}

/// Figures by pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub BTreeMap<PairName, Figures>);

impl Pairs {
    pub(super) fn add(&mut self, pair: PairName, figures: &Figures) {
        self.0.entry(pair).or_default().add(figures);
    }
}
