//! Who is who, out of a cluster's history: changes in, names out.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod history;

use std::sync::Arc;

use history::{GRACE, History, SECOND, ip, pod, some};
use tracer_user::identity::kubernetes::facts::{Change, Container, ContainerId, Feed, Pod, Uid};
use tracer_user::model::Workload;

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
fn a_revision_is_gone_before_its_workload_is() {
    let revision = |uid, address, revision: &str| Pod {
        revision: revision.to_owned(),
        ..pod(uid, "web", address, 1)
    };
    let mut history = History::new();
    history.peer(revision("a", "10.0.0.1", "v1"));
    history.peer(revision("b", "10.0.0.2", "v2"));
    let canonical = |history: &History, address| {
        let found = history.store.by_ip(ip(address), history.now).unwrap();
        format!("{}/{}", found.service(), found.revision())
    };
    assert_eq!(canonical(&history, "10.0.0.1"), "web/v1");
    assert_eq!(canonical(&history, "10.0.0.2"), "web/v2");
    let gone = |history: &mut History| -> Vec<(String, bool)> {
        history.now += GRACE;
        let gone = history.store.expire(history.now);
        gone.iter()
            .map(|gone| (gone.workload.revision().to_owned(), gone.last))
            .collect()
    };
    history.delete(Feed::PeerPods, "a");
    assert_eq!(gone(&mut history), [("v1".to_owned(), false)]);
    history.delete(Feed::PeerPods, "b");
    assert_eq!(gone(&mut history), [("v2".to_owned(), true)]);

    // Both at once: only the second is the last.
    history.peer(revision("a", "10.0.0.1", "v1"));
    history.peer(revision("b", "10.0.0.2", "v2"));
    history.delete(Feed::PeerPods, "a");
    history.delete(Feed::PeerPods, "b");
    let last: Vec<_> = gone(&mut history).iter().map(|gone| gone.1).collect();
    assert_eq!(last, [false, true]);
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
