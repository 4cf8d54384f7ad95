//! Pairing on one worker: cases are data.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use proptest::prelude::*;
use tracer_user::decode::Size;
use tracer_user::pair::{Downstream, Sizes, Upstream, Worker};

/// Read and written.
type Span = (u64, u64);
/// Exchanges of one side.
type Lengthy = Vec<(Span, Size)>;

/// Pairs the upstream spans (written, read) with the downstream ones (read, written); the result
/// names for each upstream its downstream.
fn pair(downstream: &[Span], upstream: &[Span]) -> Vec<Option<usize>> {
    let no_length = |spans: &[Span]| spans.iter().map(|span| (*span, Size::default())).collect();
    pair_sized(
        no_length(downstream),
        no_length(upstream),
        &mut Sizes::default(),
    )
}

/// The same with lengths, and with what was learnt of them before.
fn pair_sized(downstream: Lengthy, upstream: Lengthy, sizes: &mut Sizes) -> Vec<Option<usize>> {
    let mut found = vec![None; upstream.len()];
    let mut worker = Worker::default();
    for (id, ((read, wrote), size)) in downstream.into_iter().enumerate() {
        worker.add_downstream(Downstream {
            id,
            read,
            wrote,
            size,
        });
    }
    for (id, ((wrote, read), size)) in upstream.into_iter().enumerate() {
        worker.add_upstream(Upstream {
            id,
            wrote,
            read,
            opened: None,
            size,
        });
    }
    worker.pair(u64::MAX, u64::MAX, sizes, |down, up| found[up] = Some(down));
    found
}

/// Turns of a worker's loop, each with `BATCH` requests that are written in another order than they were
/// read in, and answered alike. Request `n` has the lengths that `length` tells of it.
const BATCH: u64 = 12;

fn turns(
    count: u64,
    (added_to_request, added_to_response): (u32, u32),
    length: impl Fn(u64) -> (u32, Option<u32>),
) -> (Lengthy, Lengthy) {
    let sized = |n, (request, response): (u32, u32)| {
        let own = length(n);
        Size {
            request: own.0 + request,
            response: own.1.map(|own| own + response),
        }
    };
    let all = || (0..count * BATCH).map(|n| (n, 1_000 * (n / BATCH), n % BATCH));
    let downstream = all().map(|(n, turn, place)| {
        let span = (turn + place, turn + 300 + place);
        (span, sized(n, (0, added_to_response)))
    });
    let upstream = all().map(|(n, turn, place)| {
        // The first first, the others from behind: a heap's order.
        let place = (BATCH - place) % BATCH;
        let span = (turn + 100 + place, turn + 200 + place);
        (span, sized(n, (added_to_request, 0)))
    });
    (downstream.collect(), upstream.collect())
}

/// How many of the pairs are the right ones, of a hundred.
fn right(found: &[Option<usize>]) -> usize {
    let right = found.iter().enumerate();
    let right = right.filter(|(up, down)| **down == Some(*up)).count();
    100 * right / found.len()
}

/// Lengths without a pattern.
fn some_length(n: u64) -> u32 {
    200 + u32::try_from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).unwrap()
}

#[test]
fn lengths_tell_whose_what_is() {
    type Length = fn(u64) -> (u32, Option<u32>);
    let cases: [(&str, Length); 4] = [
        ("of requests and answers", |n| {
            (some_length(n), Some(some_length(!n)))
        }),
        ("of requests", |n| (some_length(n), Some(100))),
        ("of answers", |n| (100, Some(some_length(n)))),
        (
            "of requests; of half of the answers nothing is known",
            |n| (some_length(n), n.is_multiple_of(2).then_some(100)),
        ),
    ];
    for (what, length) in cases {
        let mut sizes = Sizes::default();
        // The first turns are the lesson.
        let (down, up) = turns(40, (22, 7), length);
        let found = right(&pair_sized(
            down.iter()
                .map(|(span, _)| (*span, Size::default()))
                .collect(),
            up.iter()
                .map(|(span, _)| (*span, Size::default()))
                .collect(),
            &mut Sizes::default(),
        ));
        assert!(found < 30, "{what}, by times alone: {found} %");
        pair_sized(down, up, &mut sizes);
        let (down, up) = turns(40, (22, 7), length);
        let found = right(&pair_sized(down, up, &mut sizes));
        assert!(found >= 95, "{what}: {found} %");
        // A new release of the proxy, or of its configuration, adds something else.
        for _ in 0..40 {
            let (down, up) = turns(40, (29, 11), length);
            pair_sized(down, up, &mut sizes);
        }
        let (down, up) = turns(40, (29, 11), length);
        let found = right(&pair_sized(down, up, &mut sizes));
        assert!(found >= 95, "{what}, changed: {found} %");
    }
}

#[test]
fn lengths_that_tell_nothing_change_nothing() {
    type Length = fn(u64) -> (u32, Option<u32>);
    let cases: [(&str, Length); 3] = [
        ("all the same", |_| (100, Some(100))),
        ("unknown", |_| (100, None)),
        ("two, that both sides choose for themselves", |n| {
            (100, Some(100 + u32::from(n.is_multiple_of(3))))
        }),
    ];
    for (what, length) in cases {
        let mut sizes = Sizes::default();
        for _ in 0..4 {
            let (down, up) = turns(40, (22, 7), length);
            let by_time = {
                let spans =
                    |all: &Lengthy| -> Vec<Span> { all.iter().map(|(span, _)| *span).collect() };
                pair(&spans(&down), &spans(&up))
            };
            // As `what` says: the other side's length is another exchange's.
            let lengths: Vec<Size> = up.iter().map(|(_, size)| *size).collect();
            let up = up.iter().enumerate().map(|(n, (span, _))| {
                let other = lengths[(n + 7) % lengths.len()];
                (*span, other)
            });
            assert_eq!(
                pair_sized(down, up.collect(), &mut sizes),
                by_time,
                "{what}"
            );
        }
    }
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
    /// Whatever the times and lengths: a pair is nested, nobody is paired twice, and sums do not depend on who
    /// is whose.
    #[test]
    fn pairs_are_nested_and_unique(
        spans in prop::collection::vec((0_u64..1000, 0_u64..1000, 0_u64..100, 0_u64..100), 0..40),
        lengths in prop::collection::vec((0_u32..4, prop::option::of(0_u32..4)), 80),
    ) {
        let upstream: Vec<Span> = spans.iter().map(|s| (s.0 + 100, s.0 + 100 + s.1)).collect();
        let downstream: Vec<Span> =
            spans.iter().map(|s| (s.0 + 100 - s.2, s.0 + 100 + s.1 + s.3)).collect();
        let size = |at: usize| Size { request: lengths[at].0, response: lengths[at].1 };
        let sized = |spans: &[Span], from: usize| {
            spans.iter().enumerate().map(|(at, span)| (*span, size(from + at))).collect()
        };
        let found = pair_sized(sized(&downstream, 0), sized(&upstream, 40), &mut Sizes::default());
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
