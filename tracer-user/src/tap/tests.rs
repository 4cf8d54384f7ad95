#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

use proptest::prelude::*;

use super::slowest::{KEPT, PERIOD_NS, share};
use super::*;
use crate::attribute::Attribute;
use crate::decode::{Exchange, Side};
use crate::model::{CallMethod, Hop, Identity, Protocol};
use crate::testing;

/// Nobody has a name.
struct Nobody;

impl Identity for Nobody {
    fn by_cgroup(&mut self, _cgroup_id: u64, _tgid: u32) -> Option<Workload> {
        None
    }
    fn by_ip(&mut self, _ip: std::net::IpAddr, _at: Ktime) -> Option<Workload> {
        None
    }
    fn service(&mut self, _address: std::net::SocketAddr, _at: Ktime) -> Option<Arc<str>> {
        None
    }
    fn is_proxy(&mut self, _cgroup_id: u64, _tgid: u32) -> Option<bool> {
        None
    }
}

/// Request, response, and when what arrived was read.
type At = (Ktime, Ktime, Option<Ktime>);

/// The six sockets of a meshed request.
fn sockets(at: [At; 6]) -> [Exchange; 6] {
    let ends = [
        (Side::Client, ["10.0.0.1:4000", "10.1.0.9:80"]),
        (Side::Server, ["127.0.0.1:15001", "10.0.0.1:4000"]),
        (Side::Client, ["10.0.0.1:5000", "10.0.0.2:80"]),
        (Side::Server, ["10.0.0.2:15006", "10.0.0.1:5000"]),
        (Side::Client, ["127.0.0.6:6000", "10.0.0.2:80"]),
        (Side::Server, ["10.0.0.2:80", "127.0.0.6:6000"]),
    ];
    let mut ends = ends.into_iter();
    at.map(|(request, response, read)| {
        let (side, ends) = ends.next().unwrap();
        Exchange {
            read,
            ..testing::exchange(side, ends, (request, response))
        }
    })
}

/// The chain of those that `seen` has.
fn chain(sockets: &[Exchange; 6], seen: [bool; 6]) -> Chain<'_> {
    let [uc, us, n, d, lc, ls] = sockets;
    let [is_uc, is_us, is_n, is_d, is_lc, is_ls] = seen;
    Chain {
        app_client: is_uc.then_some(uc),
        outbound_server: is_us.then_some(us),
        outbound_client: is_n.then_some(n),
        inbound_server: is_d.then_some(d),
        inbound_client: is_lc.then_some(lc),
        app_server: is_ls.then_some(ls),
    }
}

fn tap_it(tap: &mut Tap, chain: &Chain<'_>) {
    let times = Attribute::default().attribute(chain, &mut Nobody);
    tap.request(chain, &times);
}

/// The request that a listener to everything is handed.
fn heard(sockets: &[Exchange; 6], seen: [bool; 6]) -> Option<Arc<Request>> {
    let mut tap = Tap::default();
    let mut listener = tap.listen(Filter::default()).unwrap();
    tap_it(&mut tap, &chain(sockets, seen));
    listener.requests.try_recv().ok()
}

const USUAL: [At; 6] = [
    (1_000, 9_000, Some(9_100)),
    (1_100, 8_900, Some(1_150)),
    (1_300, 8_500, Some(8_600)),
    (1_500, 8_300, Some(1_600)),
    (2_000, 8_000, Some(8_050)),
    (2_100, 7_900, Some(2_500)),
];

#[test]
fn a_request_has_stamps_self_times_and_stages() {
    let sockets = sockets(USUAL);
    let request = heard(&sockets, [true; 6]).unwrap();
    assert_eq!((request.began, request.duration_ns), (1_000, 8_000));
    let stamps = request.sockets.map(|seen| seen.unwrap());
    let way = stamps.map(|at| (at.request_ns, at.response_ns));
    let expected = [
        (0, 8_000),
        (100, 7_900),
        (300, 7_500),
        (500, 7_300),
        (1_000, 7_000),
        (1_100, 6_900),
    ];
    assert_eq!(way, expected);
    let told: u64 = request.hops.iter().map(|time| time.duration_ns).sum();
    assert_eq!(told, 8_000);
    assert_eq!((request.calls, request.calls_ns), (0, 0));
    let stages: Vec<_> = request
        .stages
        .iter()
        .map(|stage| (stage.hop.unwrap(), stage.read_ns, stage.to_ns))
        .collect();
    let expected = [
        (Hop::Loopback, None, 100),
        (Hop::SidecarOutbound, Some(150), 300),
        (Hop::Network, None, 500),
        (Hop::SidecarInbound, Some(600), 1_000),
        (Hop::Loopback, None, 1_100),
        (Hop::App, Some(1_500), 6_900),
        (Hop::Loopback, None, 7_000),
        (Hop::SidecarInbound, Some(7_050), 7_300),
        (Hop::Network, None, 7_500),
        (Hop::SidecarOutbound, Some(7_600), 7_900),
        (Hop::Loopback, None, 8_000),
    ];
    assert_eq!(stages, expected);
}

#[test]
fn what_another_node_saw_has_no_name() {
    let sockets = sockets(USUAL);
    let request = heard(&sockets, [true, true, true, false, false, false]).unwrap();
    let hops: Vec<_> = request.stages.iter().map(|stage| stage.hop).collect();
    let (lo, out) = (Some(Hop::Loopback), Some(Hop::SidecarOutbound));
    assert_eq!(hops, [lo, out, None, out, lo]);
    // Two sockets with others in between that were not seen.
    let request = heard(&sockets, [true, false, true, false, false, false]).unwrap();
    let hops: Vec<_> = request.stages.iter().map(|stage| stage.hop).collect();
    assert_eq!(hops, [None, None, None]);
    assert_eq!(heard(&sockets, [false; 6]), None);
}

#[test]
fn a_queue_is_bounded_and_what_does_not_fit_is_counted() {
    let sockets = sockets(USUAL);
    let mut tap = Tap::default();
    tap_it(&mut tap, &chain(&sockets, [true; 6]));
    assert_eq!(tap.handed(), Handed::default());
    let mut slow = tap.listen(Filter::default()).unwrap();
    let mut quick = tap.listen(Filter::default()).unwrap();
    let sent = QUEUE + 10;
    for _ in 0..sent {
        tap_it(&mut tap, &chain(&sockets, [true; 6]));
        quick.requests.try_recv().unwrap();
    }
    assert_eq!((slow.take_missed(), slow.take_missed()), (10, 0));
    assert_eq!(quick.take_missed(), 0);
    let expected = Handed {
        delivered: u64::try_from(QUEUE + sent).unwrap(),
        dropped: 10,
    };
    assert_eq!((tap.handed(), tap.listeners()), (expected, 2));
    drop(quick);
    assert_eq!(tap.listeners(), 1);
    // The end comes behind what waits.
    tap.close();
    let waiting = std::iter::from_fn(|| slow.requests.try_recv().ok()).count();
    assert_eq!(waiting, QUEUE);
    assert!(slow.requests.is_closed());
}

#[test]
fn only_so_many_listen() {
    let mut tap = Tap::default();
    let listen = |tap: &mut Tap| tap.listen(Filter::default());
    let mut all: Vec<_> = (0..MOST_LISTENERS)
        .map(|_| listen(&mut tap).unwrap())
        .collect();
    assert_eq!(listen(&mut tap).unwrap_err(), TooMany);
    all.pop();
    listen(&mut tap).unwrap();
}

fn labels(source: &str, destination: &str) -> RequestLabels {
    RequestLabels {
        source: Workload::new(source.into(), "shop".into()),
        destination: Workload::new(destination.into(), "stock".into()),
        service: "vip".into(),
        protocol: Protocol::Http,
        response_code: 200,
        mutual_tls: false,
    }
}

#[test]
fn filters_take_names_and_times() {
    let labels = labels("web", "orders");
    for (text, least_ns, taken) in [
        ("", 0, true),
        ("", 5, true),
        ("", 6, false),
        ("web", 5, true),
        ("orders", 0, true),
        ("web.shop", 0, true),
        ("b.sh", 0, true),
        ("orders.shop", 0, false),
        ("stock", 0, true),
        ("vip", 0, true),
        ("vip", 6, false),
        ("Web", 0, false),
    ] {
        let filter = Filter {
            workload: text.into(),
            least_ns,
        };
        assert_eq!(filter.takes(&labels, 5), taken, "{filter:?}");
    }
}

/// A request of one of some pairs.
fn slow(pair: u8, began: Ktime, duration_ns: u64) -> Arc<Request> {
    Arc::new(Request {
        labels: labels("web", &format!("orders-{pair}")),
        method: "GET",
        began,
        duration_ns,
        sockets: [None; SOCKETS.len()],
        hops: Vec::new(),
        calls: 0,
        calls_ns: 0,
        stages: Vec::new(),
    })
}

fn offer(slowest: &mut Slowest, request: Arc<Request>) {
    if slowest.takes(&request.labels, request.began, request.duration_ns) {
        slowest.keep(request);
    }
}

#[test]
fn what_is_long_ago_is_forgotten() {
    let mut slowest = Slowest::default();
    offer(&mut slowest, slow(1, PERIOD_NS, 900));
    offer(&mut slowest, slow(1, 2 * PERIOD_NS, 5));
    let told = |slowest: &Slowest, now| {
        let all = slowest.all(now).into_iter();
        all.map(|request| request.duration_ns).collect::<Vec<_>>()
    };
    assert_eq!(told(&slowest, 2 * PERIOD_NS), [900, 5]);
    // Without another request too.
    assert_eq!(told(&slowest, 3 * PERIOD_NS + 1_000), [5]);
    offer(&mut slowest, slow(1, 4 * PERIOD_NS, 1));
    assert_eq!(told(&slowest, 4 * PERIOD_NS), [5, 1]);
}

#[test]
fn few_pairs_have_more_of_the_list() {
    let listed = |pairs: u8| {
        let mut slowest = Slowest::default();
        for at in 0..40_u64 {
            for pair in 0..pairs {
                offer(
                    &mut slowest,
                    slow(pair, PERIOD_NS, 1_000 * at + u64::from(pair)),
                );
            }
        }
        slowest.all(PERIOD_NS).len()
    };
    assert_eq!([1, 2, 3, 5, 10, 30].map(listed), [20, 20, 18, 20, 40, KEPT]);
}

proptest! {
    #[test]
    fn the_slowest_are_kept(
        pairs in 1_u8..40,
        requests in prop::collection::vec((0_u8..40, 1_u64..1_000_000), 0..600),
    ) {
        let mut slowest = Slowest::default();
        let mut of_pair: std::collections::BTreeMap<u8, Vec<u64>> = Default::default();
        for (at, (pair, duration)) in requests.into_iter().enumerate() {
            let pair = pair % pairs;
            // No two alike.
            let duration = duration * 1_000 + u64::try_from(at).unwrap();
            offer(&mut slowest, slow(pair, PERIOD_NS, duration));
            of_pair.entry(pair).or_default().push(duration);
        }
        let mut expected: Vec<u64> = Vec::new();
        let each = share(of_pair.len());
        for mut durations in of_pair.into_values() {
            durations.sort_by_key(|duration| std::cmp::Reverse(*duration));
            expected.extend(durations.into_iter().take(each));
        }
        expected.sort_by_key(|duration| std::cmp::Reverse(*duration));
        expected.truncate(KEPT);
        let told: Vec<u64> = slowest
            .all(PERIOD_NS)
            .into_iter()
            .map(|request| request.duration_ns)
            .collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn stages_follow_each_other_whatever_was_seen(
        at in prop::array::uniform6((0_u64..5_000, 0_u64..5_000, prop::option::of(0_u64..5_000))),
        seen in prop::array::uniform6(any::<bool>()),
    ) {
        let sockets = sockets(at);
        let Some(request) = heard(&sockets, seen) else {
            prop_assert!(!seen.contains(&true));
            return Ok(());
        };
        let mut end = 0;
        for stage in &request.stages {
            prop_assert_eq!(stage.from_ns, end);
            prop_assert!(stage.to_ns >= stage.from_ns);
            let read = stage.read_ns.unwrap_or(stage.from_ns);
            prop_assert!((stage.from_ns..=stage.to_ns).contains(&read));
            end = stage.to_ns;
        }
        prop_assert_eq!(end, request.duration_ns);
    }

    #[test]
    fn stages_and_self_times_tell_the_same(mut at in prop::array::uniform12(0_u64..1_000_000), reads: [bool; 6]) {
        at.sort_unstable();
        let [t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12] = at;
        let ways = [(t1, t12), (t2, t11), (t3, t10), (t4, t9), (t5, t8), (t6, t7)];
        let read = [None, Some(t2), Some(t10), Some(t5), Some(t9), Some(t6)];
        let mut which = ways.into_iter().zip(read).zip(reads);
        let sockets = sockets(std::array::from_fn(|_| {
            let (((request, response), read), seen) = which.next().unwrap();
            (request, response, read.filter(|_| seen))
        }));
        let request = heard(&sockets, [true; 6]).unwrap();
        for hop in Hop::ALL {
            let stages = request.stages.iter().filter(|stage| stage.hop == Some(hop));
            let way: u64 = stages.map(|stage| stage.to_ns - stage.from_ns).sum();
            let hops = request.hops.iter().filter(|time| time.hop == hop);
            let told: u64 = hops.map(|time| time.duration_ns).sum();
            prop_assert_eq!(way, told, "{:?}", hop);
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written(
        at in prop::array::uniform6((0_u64..5_000, 0_u64..5_000, prop::option::of(0_u64..5_000))),
        seen in prop::array::uniform6(any::<bool>()),
        missed in 0_u64..9,
    ) {
        let clocks = json::Clocks {
            monotonic: 10_000,
            wall: std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7),
        };
        let sockets = sockets(at);
        let Some(request) = heard(&sockets, seen) else { return Ok(()) };
        let told = json::Told::of(&request, clocks);
        let line = json::Line::Request(Box::new(told.clone()));
        let text = serde_json::to_string(&line).unwrap();
        prop_assert_eq!(text.lines().count(), 1);
        match serde_json::from_str(&text).unwrap() {
            json::Line::Request(read) => prop_assert_eq!(*read, told),
            other => prop_assert!(false, "{:?}", other),
        }
        let text = serde_json::to_string(&json::Line::Dropped { dropped: missed }).unwrap();
        prop_assert_eq!(text, format!("{{\"dropped\":{missed}}}"));
    }
}

#[test]
fn calls_of_the_app_are_told_apart() {
    let sockets = sockets(USUAL);
    let chain = chain(&sockets, [true; 6]);
    let mut times = Attribute::default().attribute(&chain, &mut Nobody);
    // Of 5,400 ns between read and answer, 2,000 were its own calls'.
    for time in &mut times.hops {
        if time.hop == Hop::App && time.duration_ns == 5_400 {
            time.duration_ns -= 2_000;
        }
    }
    times.calls[CallMethod::Thread as usize] = 2;
    // Calls that others gave up are none of this request's.
    times.calls[CallMethod::None as usize] = 7;
    let mut tap = Tap::default();
    let mut listener = tap.listen(Filter::default()).unwrap();
    tap.request(&chain, &times);
    let request = listener.requests.try_recv().unwrap();
    assert_eq!((request.calls, request.calls_ns), (2, 2_000));
    let told: u64 = request.hops.iter().map(|time| time.duration_ns).sum();
    assert_eq!(told + request.calls_ns, request.duration_ns);
}
