//! Pairing on one worker: cases are data.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use proptest::prelude::*;
use tracer_user::pair::{Downstream, Upstream, Worker};

/// Read and written.
type Span = (u64, u64);

/// Pairs the upstream spans (written, read) with the downstream ones (read, written); the result
/// names for each upstream its downstream.
fn pair(downstream: &[Span], upstream: &[Span]) -> Vec<Option<usize>> {
    let mut worker = Worker::default();
    for (id, &(read, wrote)) in downstream.iter().enumerate() {
        worker.add_downstream(Downstream { id, read, wrote });
    }
    for (id, &(wrote, read)) in upstream.iter().enumerate() {
        worker.add_upstream(Upstream {
            id,
            wrote,
            read,
            opened: None,
        });
    }
    let mut found = vec![None; upstream.len()];
    worker.pair(u64::MAX, u64::MAX, |down, up| found[up] = Some(down));
    found
}

fn check(what: &str, downstream: &[Span], upstream: &[Span], expected: &[Option<usize>]) {
    assert_eq!(pair(downstream, upstream), expected, "{what}");
}

#[test]
fn cases() {
    check("nothing", &[], &[], &[]);
    check("one in one", &[(10, 90)], &[(20, 80)], &[Some(0)]);
    check("before it was read", &[(30, 90)], &[(20, 80)], &[None]);
    check(
        "answered before the answer",
        &[(10, 70)],
        &[(20, 80)],
        &[None],
    );
    check(
        "a batch keeps its order",
        &[(10, 90), (11, 91), (12, 92)],
        &[(20, 80), (21, 81), (22, 82)],
        &[Some(0), Some(1), Some(2)],
    );
    check(
        "a fast one inside a slow one",
        &[(10, 100), (20, 50)],
        &[(15, 95), (25, 45)],
        &[Some(0), Some(1)],
    );
    check(
        "as many pairs as there can be",
        &[(10, 100), (12, 60)],
        &[(14, 50), (11, 90)],
        &[Some(1), Some(0)],
    );
    check(
        "a retry: the last attempt is the one that is answered with",
        &[(10, 100)],
        &[(20, 30), (50, 90)],
        &[None, Some(0)],
    );
    check(
        "three attempts",
        &[(10, 100)],
        &[(20, 30), (40, 50), (60, 90)],
        &[None, None, Some(0)],
    );
}

proptest! {
    /// Whatever the times: a pair is nested, nobody is paired twice, and sums do not depend on who
    /// is whose.
    #[test]
    fn pairs_are_nested_and_unique(
        spans in prop::collection::vec((0_u64..1000, 0_u64..1000, 0_u64..100, 0_u64..100), 0..40)
    ) {
        let upstream: Vec<Span> = spans.iter().map(|s| (s.0 + 100, s.0 + 100 + s.1)).collect();
        let downstream: Vec<Span> =
            spans.iter().map(|s| (s.0 + 100 - s.2, s.0 + 100 + s.1 + s.3)).collect();
        let found = pair(&downstream, &upstream);
        // Each has a partner in truth, so each gets one.
        prop_assert!(found.iter().all(Option::is_some), "{found:?}");
        let mut seen: Vec<_> = found.iter().flatten().collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), found.len());
        let mut sum = 0;
        for (up, down) in found.iter().enumerate() {
            let (down, up) = (downstream[down.unwrap()], upstream[up]);
            prop_assert!(down.0 <= up.0 && up.1 <= down.1);
            sum += up.0 - down.0;
        }
        prop_assert_eq!(sum, spans.iter().map(|s| s.2).sum::<u64>());
    }
}
