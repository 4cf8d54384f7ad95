//! Requests that had begun when the hooks were attached are told as such, and not as somebody's.
use super::*;
use crate::join::{Chain, Join, JoinConfig, Sink};
use crate::model::{Fate, Method};
use crate::testing;

const MS: u64 = 1_000_000;
const ATTACHED: Ktime = 1_000 * MS;
const CLIENT: &str = "10.0.0.1:4000";
const SERVER: &str = "10.0.0.2:8000";

/// An exchange of one end, in milliseconds after the hooks were attached.
struct Seen {
    side: Side,
    ends: [&'static str; 2],
    role: Role,
    from: i64,
    to: i64,
    seq: u32,
}

const fn client(from: i64, to: i64, seq: u32) -> Seen {
    Seen {
        side: Side::Client,
        ends: [CLIENT, SERVER],
        role: Role::AppClient,
        from,
        to,
        seq,
    }
}

const fn server(from: i64, to: i64, seq: u32) -> Seen {
    Seen {
        side: Side::Server,
        ends: [SERVER, CLIENT],
        role: Role::AppServer,
        from,
        to,
        seq,
    }
}

/// The app behind a sidecar.
const fn inside(from: i64, to: i64) -> Seen {
    Seen {
        ends: [SERVER, "127.0.0.6:5000"],
        ..server(from, to, 7)
    }
}

impl Seen {
    fn exchange(&self) -> Exchange {
        let stamp = |ms: i64| ATTACHED.checked_add_signed(ms * MS as i64).unwrap();
        let times = (stamp(self.from), stamp(self.to));
        Exchange {
            request_seq: self.seq,
            ..testing::exchange(self.side, self.ends, times)
        }
    }
}

#[derive(Default)]
struct Told {
    chains: usize,
    fates: Vec<Fate>,
    untold: usize,
}

impl Sink for Told {
    fn chain(&mut self, _chain: &Chain<'_>) {
        self.chains += 1;
    }

    fn untold(&mut self, _chain: &Chain<'_>) {
        self.untold += 1;
    }

    fn fate(&mut self, fate: Fate, _method: Method) {
        self.fates.push(fate);
    }
}

#[track_caller]
fn check(seen: &[Seen], chains: usize, fates: &[Fate]) {
    let config = JoinConfig {
        hold_ns: 200 * MS,
        max_pending: 100,
    };
    let mut join = Join::new(config);
    join.begin(ATTACHED);
    let mut told = Told::default();
    for one in seen {
        join.push(one.exchange(), one.role, &mut told);
    }
    // As the agent does it, every 50 ms.
    for tick in 0..100 {
        join.advance(ATTACHED + tick * 50 * MS, &mut told);
    }
    assert_eq!((told.chains, told.fates.as_slice()), (chains, fates));
    assert!(join.is_empty());
}

#[test]
fn what_began_later_is_told() {
    check(
        &[server(1, 2, 1), client(0, 3, 1)],
        1,
        &[Fate::Paired, Fate::Paired],
    );
}

#[test]
fn what_had_begun_is_not_told_with_all_that_is_joined_to_it() {
    check(
        &[server(1, 2, 1), client(-1, 3, 1)],
        0,
        &[Fate::Underway, Fate::Underway],
    );
}

/// The answer to request 1 was not seen, so the server's end of request 2 begins with request 1.
#[test]
fn an_end_whose_other_end_had_begun_is_not_told() {
    check(
        &[server(-3, 76, 1), client(75, 77, 2)],
        0,
        &[Fate::Underway, Fate::Underway],
    );
    // The next one is whole again.
    check(
        &[
            server(-3, 76, 1),
            client(75, 77, 2),
            server(91, 92, 3),
            client(90, 93, 3),
        ],
        1,
        &[Fate::Underway, Fate::Underway, Fate::Paired, Fate::Paired],
    );
}

#[test]
fn the_rest_of_a_request_behind_a_sidecar_is_not_told() {
    check(&[inside(1, 9)], 0, &[Fate::Underway]);
    // Long afterwards it is one whose beginning was lost.
    check(&[inside(300, 309)], 1, &[Fate::Unpaired]);
    // From another node it may well come.
    check(&[server(1, 9, 1)], 1, &[Fate::Unpaired]);
}

#[test]
fn what_begins_after_the_end_is_not_told_until_the_next_beginning() {
    let mut join = Join::new(JoinConfig {
        hold_ns: 200 * MS,
        max_pending: 100,
    });
    let mut told = Told::default();
    let window = |join: &mut Join, told: &mut Told, from: i64| {
        // Begun in time and ended late, and begun too late.
        for (begun, ended, seq) in [(9, 60, 1), (11, 13, 2)] {
            let (begun, ended) = (from + begun, from + ended);
            for one in [server(begun + 1, ended - 1, seq), client(begun, ended, seq)] {
                join.push(one.exchange(), one.role, told);
            }
        }
        let from = ATTACHED.checked_add_signed(from * MS as i64).unwrap();
        join.end(from + 10 * MS);
        join.advance(from + 1_000 * MS, told);
    };
    join.begin(ATTACHED);
    window(&mut join, &mut told, 0);
    join.begin(ATTACHED + 2_000 * MS);
    window(&mut join, &mut told, 2_000);
    assert_eq!((told.chains, told.untold), (2, 2));
    let paired = told.fates.iter().filter(|fate| **fate == Fate::Paired);
    assert_eq!((paired.count(), told.fates.len()), (4, 8));
    assert!(join.is_empty());
}
