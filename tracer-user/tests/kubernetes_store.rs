//! Who is who, out of a cluster's history: changes in, names out.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tracer_user::identity::kubernetes::facts::{
    Change, Container, ContainerId, Endpoint, Feed, Node, Object, Pod, Service, ServicePort, Slice,
    TargetPort, Uid, Update,
};
use tracer_user::identity::kubernetes::store::Store;
use tracer_user::model::{Ktime, Workload};

const SECOND: Ktime = 1_000_000_000;
const GRACE: Ktime = 120 * SECOND;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    text.split_whitespace().map(pair).collect()
}

/// A pod `uid` of `workload` at `address` on node `n1`, created at second `created`.
fn pod(uid: &str, workload: &str, address: &str, created: i64) -> Pod {
    Pod {
        uid: Uid::new(uid),
        alias: None,
        namespace: "shop".to_owned(),
        workload: workload.to_owned(),
        ips: address.split_whitespace().map(ip).collect(),
        node: "n1".to_owned(),
        node_ips: vec![ip("192.168.0.1")],
        created,
        ended: false,
        labels: pairs(&format!("app={workload}")),
        containers: Vec::new(),
    }
}

fn service(name: &str, vip: &str, port: u16, target: TargetPort, selector: &str) -> Service {
    Service {
        uid: Uid::new(name),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        vips: vip.split_whitespace().map(ip).collect(),
        ports: vec![ServicePort {
            port,
            target,
            node_port: 0,
        }],
        selector: pairs(selector),
    }
}

/// A store and the moment it is at, in seconds.
struct History {
    store: Store,
    now: Ktime,
}

impl History {
    fn new() -> Self {
        Self::with_grace(GRACE)
    }

    fn with_grace(grace: Ktime) -> Self {
        let sidecars = vec!["istio-proxy".to_owned()];
        Self {
            store: Store::new(sidecars, grace),
            now: 1_000 * SECOND,
        }
    }

    fn change(&mut self, feed: Feed, change: Change) -> &mut Self {
        self.store.apply(Update { feed, change }, self.now);
        self
    }

    fn put(&mut self, feed: Feed, pod: Pod) -> &mut Self {
        self.change(feed, Change::Apply(Object::Pod(Box::new(pod))))
    }

    fn peer(&mut self, pod: Pod) -> &mut Self {
        self.put(Feed::PeerPods, pod)
    }

    fn serve(&mut self, service: Service) -> &mut Self {
        self.change(
            Feed::Services,
            Change::Apply(Object::Service(Box::new(service))),
        )
    }

    fn delete(&mut self, feed: Feed, uid: &str) -> &mut Self {
        self.change(feed, Change::Delete(Uid::new(uid)))
    }

    /// Lets seconds pass; what is gone then, sorted.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += seconds * SECOND;
        let gone = self.store.expire(self.now);
        let mut names: Vec<_> = gone.iter().map(|gone| gone.name.to_string()).collect();
        names.sort();
        names
    }

    /// Whose an address was some seconds ago.
    fn at(&self, address: &str, ago: u64) -> Option<String> {
        let found = self.store.by_ip(ip(address), self.now - ago * SECOND);
        found.map(|workload| workload.name.to_string())
    }

    fn now(&self, address: &str) -> Option<String> {
        self.at(address, 0)
    }

    fn uid(&self, uid: &str) -> Option<String> {
        let found = self.store.by_uid(Uid::new(uid));
        found.map(|workload| workload.name.to_string())
    }

    fn service(&mut self, address: &str) -> Option<String> {
        let found = self.store.service(socket(address), self.now);
        found.as_deref().map(str::to_owned)
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_reused_address_is_never_given_to_the_old_pod() {
    let mut history = History::new();
    history.peer(pod("a", "old", "10.0.0.7", 100));
    assert_eq!(history.now("10.0.0.7"), some("old"));
    assert_eq!(history.now("::ffff:10.0.0.7"), some("old"));

    history.pass(10);
    history.delete(Feed::PeerPods, "a");
    history.pass(2);
    assert_eq!(history.now("10.0.0.7"), None, "nobody has it");
    assert_eq!(history.at("10.0.0.7", 3), some("old"), "it had it then");

    history.peer(pod("b", "new", "10.0.0.7", 110));
    assert_eq!(history.now("10.0.0.7"), some("new"));
    // Between the end of one and the news of the next, only the next can have spoken.
    assert_eq!(history.at("10.0.0.7", 1), some("new"));
    assert_eq!(history.at("10.0.0.7", 3), some("old"));

    // What is told of the old pod later changes nothing.
    history.peer(pod("a", "old", "10.0.0.7", 100));
    assert_eq!(history.now("10.0.0.7"), some("new"));
    history.delete(Feed::PeerPods, "a");
    assert_eq!(history.now("10.0.0.7"), some("new"));
}

#[test]
fn the_younger_pod_has_the_address_while_both_claim_it() {
    for order in [[0, 1], [1, 0]] {
        let pods = [
            pod("a", "old", "10.0.0.7", 100),
            pod("b", "new", "10.0.0.7", 110),
        ];
        let mut history = History::new();
        for which in order {
            history.peer(pods[which].clone());
            history.pass(1);
        }
        assert_eq!(history.now("10.0.0.7"), some("new"), "{order:?}");
        // The old one goes; the new one goes: nobody is left.
        history.delete(Feed::PeerPods, "a");
        assert_eq!(history.now("10.0.0.7"), some("new"), "{order:?}");
        history.delete(Feed::PeerPods, "b");
        history.pass(1);
        assert_eq!(history.now("10.0.0.7"), None, "{order:?}");
    }
}

#[test]
fn a_finished_pod_gives_its_address_back() {
    for feed in [Feed::NodePods, Feed::PeerPods] {
        let mut history = History::new();
        history.put(feed, pod("a", "job", "10.0.0.7", 100));
        assert_eq!(history.now("10.0.0.7"), some("job"));
        let ended = Pod {
            ended: true,
            ..pod("a", "job", "10.0.0.7", 100)
        };
        history.put(feed, ended);
        history.pass(1);
        assert_eq!(history.now("10.0.0.7"), None, "{feed:?}");
        // And its workload is gone when nobody else is of it.
        assert_eq!(history.pass(119), ["job"]);
    }
}

#[test]
fn an_address_changes_with_its_pod() {
    let mut history = History::new();
    history.peer(pod("a", "web", "10.0.0.7 fd00::7", 100));
    history.pass(1);
    history.peer(pod("a", "web", "10.0.0.8 fd00::7", 100));
    history.pass(1);
    assert_eq!(history.now("10.0.0.7"), None);
    assert_eq!(history.now("10.0.0.8"), some("web"));
    assert_eq!(history.now("fd00::7"), some("web"));
}

#[test]
fn the_address_of_a_node_names_the_node() {
    let mut history = History::new();
    let host = |uid, workload| Pod {
        ips: Vec::new(),
        ..pod(uid, workload, "", 100)
    };
    history.put(Feed::NodePods, host("a", "proxy"));
    history.put(Feed::NodePods, host("b", "logs"));
    // By cgroup they are told apart.
    assert_eq!(history.uid("a"), some("proxy"));
    assert_eq!(history.uid("b"), some("logs"));
    assert_eq!(history.now("192.168.0.1"), some("n1"));
    history.delete(Feed::NodePods, "a");
    assert_eq!(history.now("192.168.0.1"), some("n1"));
    history.delete(Feed::NodePods, "b");
    assert_eq!(history.now("192.168.0.1"), None, "nobody is left to tell");
}

#[test]
fn a_pod_of_this_node_is_known_by_uid_for_a_while_after_its_end() {
    let mut history = History::new();
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let container = ContainerId::new(id).unwrap();
    let with = |name: &str| Pod {
        containers: vec![Container {
            ids: [Some(container), None],
            name: name.to_owned(),
        }],
        ..pod("a", "web", "10.0.0.7", 100)
    };
    history.put(Feed::NodePods, pod("a", "web", "10.0.0.7", 100));
    assert_eq!(history.store.by_container(container), None, "not told yet");
    history.put(Feed::NodePods, with("app"));
    let known = Some((Uid::new("a"), false));
    assert_eq!(history.store.by_container(container), known);
    history.put(Feed::NodePods, with("istio-proxy"));
    let known = Some((Uid::new("a"), true));
    assert_eq!(history.store.by_container(container), known);
    assert_eq!(history.store.objects(Feed::NodePods), 1);

    history.delete(Feed::NodePods, "a");
    assert_eq!(history.store.objects(Feed::NodePods), 0);
    history.pass(200);
    assert_eq!(history.uid("a"), some("web"), "its last exchanges");
    assert_eq!(history.store.by_container(container), known);
    history.pass(101);
    assert_eq!(history.uid("a"), None);
    assert_eq!(history.store.by_container(container), None);
}

#[test]
fn peers_are_not_known_by_uid() {
    let mut history = History::new();
    history.peer(pod("a", "web", "10.0.0.7", 100));
    assert_eq!(history.uid("a"), None);
}

#[test]
fn a_static_pod_is_found_by_the_hash_of_its_manifest() {
    let hash = "0123456789abcdef0123456789abcdef";
    let mirror = |uid| Pod {
        alias: Uid::hex(hash),
        ..pod(uid, "etcd-n1", "", 100)
    };
    let mut history = History::new();
    history.put(Feed::NodePods, mirror("a"));
    assert_eq!(history.uid(hash), some("etcd-n1"));
    // The mirror is made anew with another uid; the cgroup stays.
    history.delete(Feed::NodePods, "a");
    history.put(Feed::NodePods, mirror("b"));
    history.pass(400);
    assert_eq!(history.uid(hash), some("etcd-n1"));
}

#[test]
fn a_list_takes_away_what_it_does_not_hold() {
    let mut history = History::new();
    for feed in [Feed::NodePods, Feed::PeerPods] {
        history.change(feed, Change::Restart);
    }
    history.put(Feed::NodePods, pod("l", "local", "10.0.0.1", 1));
    history.peer(pod("a", "one", "10.0.0.2", 1));
    history.peer(pod("b", "two", "10.0.0.3", 1));
    assert!(!history.store.is_listed(Feed::PeerPods));
    history.change(Feed::PeerPods, Change::Listed);
    assert!(history.store.is_listed(Feed::PeerPods));
    history.pass(5);

    history.change(Feed::PeerPods, Change::Restart);
    history.peer(pod("b", "two", "10.0.0.3", 1));
    assert_eq!(
        history.now("10.0.0.2"),
        some("one"),
        "until the list is over"
    );
    history.change(Feed::PeerPods, Change::Listed);
    history.pass(1);
    assert_eq!(history.now("10.0.0.2"), None);
    assert_eq!(history.now("10.0.0.3"), some("two"));
    assert_eq!(history.now("10.0.0.1"), some("local"), "of another list");
    assert_eq!(history.store.objects(Feed::PeerPods), 1);

    history.change(Feed::PeerPods, Change::Forget);
    history.pass(1);
    assert_eq!(history.now("10.0.0.3"), None, "no longer kept true");
    assert!(!history.store.is_listed(Feed::PeerPods));
}

#[test]
fn a_pod_that_gets_its_node_moves_between_the_feeds() {
    let mut history = History::new();
    let unplaced = Pod {
        ips: Vec::new(),
        node: String::new(),
        node_ips: Vec::new(),
        ..pod("a", "web", "", 1)
    };
    history.peer(unplaced);
    assert_eq!(
        history.store.objects(Feed::PeerPods),
        0,
        "nobody asks for it"
    );
    history.peer(pod("b", "web", "10.0.0.8", 1));
    history.put(Feed::NodePods, pod("b", "web", "10.0.0.8", 1));
    // The other feed tells later what it was, and that it is none of its own.
    history.peer(pod("b", "web", "10.0.0.9", 1));
    history.delete(Feed::PeerPods, "b");
    assert_eq!(history.now("10.0.0.9"), None);
    assert_eq!(history.uid("b"), some("web"));
    assert_eq!(history.now("10.0.0.8"), some("web"));
}

#[test]
fn a_workload_is_gone_when_its_last_pod_has_been_for_the_grace_time() {
    let mut history = History::new();
    history.put(Feed::NodePods, pod("a", "web", "10.0.0.1", 1));
    history.peer(pod("b", "web", "10.0.0.2", 1));
    history.delete(Feed::NodePods, "a");
    assert_eq!(history.pass(500), [""; 0], "another one lives");
    history.delete(Feed::PeerPods, "b");
    assert_eq!(history.pass(119), [""; 0]);
    // A rollout that recreates it starts the clock anew.
    history.peer(pod("c", "web", "10.0.0.3", 1));
    assert_eq!(history.pass(60), [""; 0]);
    history.delete(Feed::PeerPods, "c");
    assert_eq!(history.pass(60), [""; 0]);
    assert_eq!(history.pass(60), ["web"]);
    assert_eq!(history.pass(500), [""; 0], "once");
}

#[test]
fn a_short_grace_time_waits_for_nothing_else() {
    for feed in [Feed::NodePods, Feed::PeerPods] {
        let mut history = History::with_grace(SECOND);
        history.put(feed, pod("a", "web", "10.0.0.1", 1));
        history.delete(feed, "a");
        assert_eq!(history.pass(1), ["web"], "{feed:?}");
        assert_eq!(
            history.at("10.0.0.1", 2),
            some("web"),
            "remembered for longer"
        );
    }
}

#[test]
fn services_are_found_by_their_addresses_and_by_those_of_their_pods() {
    let mut history = History::new();
    history.peer(pod("a", "web", "10.0.0.1", 1));
    history.peer(pod("b", "bare", "10.0.0.2", 1));
    let number = TargetPort::Number;
    history.serve(service(
        "web",
        "10.96.0.1 fd00::1",
        80,
        number(8080),
        "app=web",
    ));
    history.serve(service(
        "admin",
        "10.96.0.2",
        80,
        TargetPort::Name,
        "app=web",
    ));
    history.serve(service("aaa-headless", "", 8080, number(8080), "app=web"));
    history.serve(service("by-hand", "10.96.0.3", 80, number(80), ""));
    let mut with_node_port = service("edge", "10.96.0.4", 80, number(80), "app=none");
    with_node_port.ports[0].node_port = 30_080;
    history.serve(with_node_port);

    let cases = [
        ("10.96.0.1:80", some("web")),
        ("[fd00::1]:80", some("web")),
        ("[::ffff:10.96.0.1]:80", some("web")),
        ("10.96.0.1:81", some("web")), // the address alone
        ("10.96.0.3:80", some("by-hand")),
        ("10.96.0.9:80", None),
        ("10.0.0.1:8080", some("web")), // rather the one with an address than the headless one
        ("10.0.0.1:9090", some("admin")), // a named port may be any
        ("10.0.0.2:8080", None),        // nobody selects it
        ("10.0.0.9:8080", None),
        ("192.168.0.1:30080", some("edge")),
        ("192.168.0.1:30081", None),
    ];
    for (address, expected) in &cases {
        assert_eq!(history.service(address), *expected, "{address}");
        assert_eq!(history.service(address), *expected, "{address}, again");
    }

    // What was found is forgotten with the service, and with the pod's labels.
    history.delete(Feed::Services, "web");
    assert_eq!(history.service("10.96.0.1:80"), None);
    assert_eq!(history.service("10.0.0.1:8080"), some("aaa-headless"));
    history.peer(pod("a", "other", "10.0.0.1", 1));
    assert_eq!(history.service("10.0.0.1:8080"), None);
    assert_eq!(history.store.objects(Feed::Services), 4);
}

#[test]
fn a_service_that_took_over_an_address_keeps_it() {
    let mut history = History::new();
    let number = TargetPort::Number(80);
    history.serve(service("old", "10.96.0.1", 80, number.clone(), "a=b"));
    history.serve(service("new", "10.96.0.1", 80, number, "a=b"));
    history.delete(Feed::Services, "old");
    assert_eq!(history.service("10.96.0.1:80"), some("new"));
}

fn slice(uid: &str, service: &str, port: u16, endpoints: &[(&str, &str, &str)]) -> Change {
    let endpoints = endpoints.iter().map(|(address, workload, uid)| Endpoint {
        ips: vec![ip(address)],
        workload: (!workload.is_empty()).then(|| (*workload).to_owned()),
        pod: (!uid.is_empty()).then(|| Uid::new(uid)),
    });
    Change::Apply(Object::Slice(Slice {
        uid: Uid::new(uid),
        namespace: "shop".to_owned(),
        service: service.to_owned(),
        ports: vec![port],
        endpoints: endpoints.collect(),
    }))
}

#[test]
fn endpoints_name_services_and_as_far_as_they_can_workloads() {
    let mut history = History::new();
    let node = Node {
        uid: Uid::new("n2"),
        name: "n2".to_owned(),
        ips: vec![ip("192.168.0.2")],
    };
    let web = ("10.0.0.1", "web", "a");
    let shared = ("192.168.0.2", "agent", "h");
    let outside = ("172.16.0.1", "", "");
    history.change(
        Feed::Slices,
        slice("s1", "web", 8080, &[web, shared, outside]),
    );
    history.change(Feed::Slices, slice("s2", "web-admin", 9090, &[web]));
    history.change(Feed::Slices, Change::Listed);
    assert_eq!(history.now("10.0.0.1"), None, "nodes are not known yet");
    history.change(Feed::Nodes, Change::Apply(Object::Node(node)));
    history.change(Feed::Nodes, Change::Listed);

    assert_eq!(history.now("10.0.0.1"), some("web"));
    assert_eq!(
        history.now("192.168.0.2"),
        some("n2"),
        "not a pod that shares it"
    );
    assert_eq!(history.now("172.16.0.1"), None);
    assert_eq!(history.service("10.0.0.1:8080"), some("web"));
    assert_eq!(history.service("10.0.0.1:9090"), some("web-admin"));
    assert_eq!(history.service("10.0.0.1:7070"), some("web"));

    // It goes when no slice holds it any more, and the next one has the address.
    history.change(
        Feed::Slices,
        slice("s1", "web", 8080, &[("10.0.0.9", "web", "b")]),
    );
    assert_eq!(history.service("10.0.0.1:8080"), some("web-admin"));
    assert_eq!(history.now("10.0.0.1"), some("web"));
    history.delete(Feed::Slices, "s2");
    history.pass(1);
    assert_eq!(history.now("10.0.0.1"), None);
    assert_eq!(history.service("10.0.0.1:9090"), None);
    history.change(
        Feed::Slices,
        slice("s3", "db", 5432, &[("10.0.0.1", "db", "c")]),
    );
    assert_eq!(history.now("10.0.0.1"), some("db"));
    assert_eq!(history.at("10.0.0.1", 2), some("web"));
    assert_eq!(history.store.objects(Feed::Slices), 2);
    assert_eq!(history.store.objects(Feed::Nodes), 1);
}

#[test]
fn a_pod_of_this_node_has_its_exact_name_among_endpoints() {
    for slice_first in [false, true] {
        let mut history = History::new();
        history.change(Feed::Nodes, Change::Listed);
        let endpoint = slice("s1", "web", 8080, &[("10.0.0.1", "by-name", "a")]);
        if slice_first {
            history.change(Feed::Slices, endpoint.clone());
            assert_eq!(history.now("10.0.0.1"), some("by-name"));
        }
        history.put(Feed::NodePods, pod("a", "exact", "10.0.0.1", 1));
        history.change(Feed::Slices, endpoint);
        assert_eq!(history.now("10.0.0.1"), some("exact"), "{slice_first}");
        assert_eq!(history.service("10.0.0.1:8080"), some("web"));
        // Gone from the slice while it ends, it keeps its address until the end.
        history.delete(Feed::Slices, "s1");
        assert_eq!(history.now("10.0.0.1"), some("exact"), "{slice_first}");
        history.delete(Feed::NodePods, "a");
        history.pass(1);
        assert_eq!(history.now("10.0.0.1"), None, "{slice_first}");
    }
}

#[test]
fn names_of_gone_addresses_are_forgotten() {
    let mut history = History::new();
    for round in 0..10 {
        let uid = format!("p{round}");
        history.peer(pod(&uid, &format!("w{round}"), "10.0.0.1", round));
        history.pass(1);
        history.delete(Feed::PeerPods, &uid);
        history.pass(1);
    }
    assert_eq!(history.at("10.0.0.1", 2), some("w9"));
    let gone = history.pass(200);
    assert_eq!(gone.len(), 10);
    assert_eq!(history.at("10.0.0.1", 202), None);
}

#[test]
fn texts_are_shared() {
    let mut history = History::new();
    history.peer(pod("a", "web", "10.0.0.1", 1));
    history.peer(pod("b", "web", "10.0.0.2", 1));
    let name =
        |address: &str| -> Workload { history.store.by_ip(ip(address), history.now).unwrap() };
    let (one, two) = (name("10.0.0.1"), name("10.0.0.2"));
    assert!(Arc::ptr_eq(&one.name, &two.name));
    assert!(Arc::ptr_eq(&one.namespace, &two.namespace));
}
