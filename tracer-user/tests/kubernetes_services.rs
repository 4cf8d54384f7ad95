//! Which service it was, out of a cluster's history.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an error is the result of the test"
)]

mod history;

use history::{History, ip, pod, service, some};
use tracer_user::identity::kubernetes::facts::{
    Change, Endpoint, Feed, Node, Object, Slice, TargetPort, Uid,
};

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
