//! Names from an API server that does what real ones do: pages, streams, refuses, goes away.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an error is the result of the test"
)]

mod kube_api;

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_api::Server;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tracer_user::identity::kubernetes::facts::{ContainerId, Feed, Uid, Update};
use tracer_user::identity::kubernetes::status::{Reason, Status};
use tracer_user::identity::kubernetes::store::Store;
use tracer_user::identity::kubernetes::watch::{self, WatchOptions, Watched};
use tracer_user::tracer::monotonic_now;

/// Longer than anything here takes, the pauses between tries included.
const LIMIT: Duration = Duration::from_secs(30);
const NODE: &str = "n1";
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The watches of an agent, and what it made of them.
struct Agent {
    updates: Receiver<Update>,
    store: Store,
    status: Arc<Status>,
}

impl Agent {
    fn new(server: &Server, watched: Watched) -> Self {
        let uri = format!("http://{}", server.address);
        let mut api = kube::Config::new(uri.parse().unwrap());
        api.default_retry = false;
        let status = Arc::new(Status::default());
        let options = WatchOptions {
            api,
            node: NODE.to_owned(),
            watched,
            refused_pause: Some(Duration::from_millis(200)),
        };
        let updates = watch::start(options, Arc::clone(&status)).unwrap();
        let sidecars = vec!["istio-proxy".to_owned()];
        Self {
            updates,
            store: Store::new(sidecars, 1_000_000_000),
            status,
        }
    }

    /// Takes changes until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        let begun = Instant::now();
        loop {
            while let Ok(update) = self.updates.try_recv() {
                self.store.apply(update, monotonic_now());
            }
            if is_so(self) {
                return;
            }
            assert!(
                begun.elapsed() < LIMIT,
                "{what}: not after {LIMIT:?}; {:?}",
                self.status.degraded()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn synced(&self) -> bool {
        self.status.reports().all(|report| report.synced)
    }

    fn until_synced(&mut self) {
        self.until("everything is known", |agent| {
            agent.synced() && agent.updates.is_empty()
        });
    }

    fn ip(&self, ip: &str) -> Option<String> {
        let found = self.store.by_ip(ip.parse().unwrap(), monotonic_now())?;
        Some(format!("{}/{}", found.namespace, found.name))
    }

    fn uid(&self, uid: &str) -> Option<String> {
        let found = self.store.by_uid(Uid::new(uid))?;
        Some(format!("{}/{}", found.namespace, found.name))
    }

    fn service(&mut self, address: &str) -> Option<String> {
        let found = self
            .store
            .service(address.parse().unwrap(), monotonic_now());
        found.as_deref().map(str::to_owned)
    }

    fn errors(&self, feed: Feed, reason: Reason) -> u64 {
        let report = self.status.reports().find(|report| report.feed == feed);
        report.unwrap().errors[reason as usize]
    }

    fn restarts(&self, feed: Feed) -> u64 {
        let report = self.status.reports().find(|report| report.feed == feed);
        report.unwrap().restarts
    }
}

/// A pod of a Deployment, with what a real one has besides.
fn pod(uid: &str, deployment: &str, node: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("{deployment}-7d9f8b6c5d-x2x4z"),
            "generateName": format!("{deployment}-7d9f8b6c5d-"),
            "namespace": "shop",
            "uid": uid,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": deployment, "pod-template-hash": "7d9f8b6c5d"},
            "annotations": {"kubernetes.io/psp": "x", "note": "n".repeat(1000)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("{deployment}-7d9f8b6c5d"), "uid": "u", "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {"f:labels": {}}}}],
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "image": "i", "resources": {}}],
            "volumes": [{"name": "v", "projected": {"sources": []}}],
        },
        "status": {
            "phase": "Running",
            "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.0.9",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "app", "containerID": format!("containerd://{}", "a".repeat(64)),
                "state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}}, "lastState": {},
            }],
            "initContainerStatuses": [{
                "name": "istio-proxy", "containerID": format!("containerd://{CONTAINER}"),
                "state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}}, "lastState": {},
            }],
        },
    })
}

fn service(uid: &str, name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": uid},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name},
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080},
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": "dns"},
            ]},
        "status": {"loadBalancer": {}},
    })
}

fn slice(uid: &str, name: &str, ip: &str, pod: &str) -> Value {
    json!({
        "metadata": {"name": format!("{name}-abcde"), "namespace": "shop", "uid": uid,
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": "shop", "uid": "pod-uid"}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn node(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("uid-of-{name}")},
        "status": {"addresses": [{"type": "InternalIP", "address": ip},
            {"type": "Hostname", "address": name}]},
    })
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn everything_is_named_from_lists_that_are_streamed_and_from_pages() {
    for streams in [true, false] {
        let mut server = Server::new();
        server.cluster().streams = streams;
        server.put("pods", pod("local", "web", NODE, "10.0.0.1"));
        for number in 0..1_200 {
            let ip = format!("10.1.{}.{}", number / 200, number % 200);
            server.put("pods", pod(&format!("p{number}"), "api", "n2", &ip));
        }
        server.put("services", service("s", "web", "10.96.0.1"));
        server.up();
        let mut agent = Agent::new(&server, Watched::Pods);
        agent.until_synced();

        assert_eq!(agent.uid("local"), some("shop/web"));
        let container = ContainerId::new(CONTAINER).unwrap();
        assert_eq!(
            agent.store.by_container(container),
            Some((Uid::new("local"), true)),
            "a native sidecar"
        );
        assert_eq!(agent.ip("10.0.0.1"), some("shop/web"));
        assert_eq!(agent.ip("10.1.5.199"), some("shop/api"));
        assert_eq!(agent.ip("192.168.0.9"), some("/n2"));
        assert_eq!(agent.service("10.96.0.1:80"), some("web"));
        assert_eq!(agent.service("10.0.0.1:8080"), some("web"));
        assert_eq!(agent.store.objects(Feed::PeerPods), 1_200);
        assert_eq!(agent.store.objects(Feed::NodePods), 1);

        let requests = server.cluster().requests.clone();
        let pages = |text: &str| requests.iter().filter(|uri| uri.contains(text)).count();
        if streams {
            assert_eq!(pages("limit="), 0, "nothing was listed");
        } else {
            // One for the services, three for the peers; those of the node come out of a cache.
            assert_eq!(pages("limit=500"), 4, "{requests:?}");
            assert_eq!(pages("resourceVersion=0&resourceVersionMatch"), 1);
            assert_eq!(pages("continue="), 2);
            assert_eq!(
                agent.errors(Feed::PeerPods, Reason::Refused),
                0,
                "no trouble"
            );
        }
    }
}

#[test]
fn changes_are_followed() {
    let mut server = Server::new();
    server.up();
    let mut agent = Agent::new(&server, Watched::Pods);
    agent.until_synced();
    assert_eq!(agent.ip("10.0.0.1"), None);

    server.put("pods", pod("a", "old", "n2", "10.0.0.1"));
    agent.until("a new pod", |agent| {
        agent.ip("10.0.0.1") == some("shop/old")
    });
    server.delete("pods", "a");
    agent.until("a deleted pod", |agent| agent.ip("10.0.0.1").is_none());
    server.put("pods", pod("b", "new", "n2", "10.0.0.1"));
    agent.until("a reused address", |agent| {
        agent.ip("10.0.0.1") == some("shop/new")
    });
    // Over, but the object stays: the address is free.
    let mut done = pod("b", "new", "n2", "10.0.0.1");
    done["status"]["phase"] = json!("Succeeded");
    server.put("pods", done);
    agent.until("a finished pod", |agent| agent.ip("10.0.0.1").is_none());

    let unplaced = pod("c", "web", "", "");
    server.put("pods", unplaced);
    server.put("pods", pod("c", "web", NODE, "10.0.0.3"));
    agent.until("a pod that came to this node", |agent| {
        agent.uid("c") == some("shop/web")
    });
    server.put("services", service("s", "web", "10.96.0.1"));
    agent.until("a service", |agent| {
        agent.service("10.96.0.1:80") == some("web")
    });
    server.delete("services", "s");
    agent.until("a deleted service", |agent| {
        agent.service("10.96.0.1:80").is_none()
    });
    assert_eq!(agent.restarts(Feed::PeerPods), 0);
}

#[test]
fn a_watch_that_is_too_old_is_listed_again() {
    for streams in [true, false] {
        let mut server = Server::new();
        server.cluster().streams = streams;
        server.put("pods", pod("a", "one", "n2", "10.0.0.1"));
        server.put("pods", pod("b", "two", "n2", "10.0.0.2"));
        server.up();
        let mut agent = Agent::new(&server, Watched::Pods);
        agent.until_synced();

        // Deleted while nobody was told.
        server.delete("pods", "a");
        server.put("pods", pod("c", "three", "n2", "10.0.0.3"));
        server.compact();
        agent.until("the new list", |agent| {
            agent.restarts(Feed::PeerPods) == 1 && agent.synced()
        });
        agent.until("the new pod", |agent| {
            agent.ip("10.0.0.3") == some("shop/three")
        });
        assert_eq!(agent.ip("10.0.0.1"), None);
        assert_eq!(agent.ip("10.0.0.2"), some("shop/two"));
        assert_eq!(agent.errors(Feed::PeerPods, Reason::Gone), 1, "{streams}");
    }
}

#[test]
fn the_api_may_be_away_at_the_start_and_later() {
    let mut server = Server::new();
    server.put("pods", pod("a", "web", "n2", "10.0.0.1"));
    let mut agent = Agent::new(&server, Watched::Pods);
    agent.until("the first failures", |agent| {
        agent.errors(Feed::PeerPods, Reason::Unreachable) >= 1
            && agent.errors(Feed::NodePods, Reason::Unreachable) >= 1
    });
    assert!(!agent.synced());
    let degraded = agent.status.degraded().join("\n");
    assert!(degraded.contains("not known yet"), "{degraded}");
    assert!(degraded.contains("refused"), "{degraded}");

    server.up();
    agent.until_synced();
    agent.until("the first names", |agent| {
        agent.ip("10.0.0.1") == some("shop/web")
    });
    assert_eq!(agent.status.degraded(), Vec::<String>::new());

    server.down();
    agent.until("that it is away", |agent| !agent.synced());
    assert_eq!(
        agent.ip("10.0.0.1"),
        some("shop/web"),
        "what was known stays"
    );
    let degraded = agent.status.degraded().join("\n");
    assert!(degraded.contains("as they were last told"), "{degraded}");
    server.put("pods", pod("b", "late", "n2", "10.0.0.2"));
    server.delete("pods", "a");

    server.up();
    agent.until_synced();
    agent.until("what happened meanwhile", |agent| {
        agent.ip("10.0.0.2") == some("shop/late") && agent.ip("10.0.0.1").is_none()
    });
    assert_eq!(agent.status.degraded(), Vec::<String>::new());
    // Its history was whole, so nothing was listed a second time.
    assert_eq!(agent.restarts(Feed::PeerPods), 0);
}

#[test]
fn a_verb_that_is_missing_costs_its_feed_alone_until_it_is_granted() {
    for (verb, streams) in [("watch", true), ("watch", false), ("list", false)] {
        let mut server = Server::new();
        {
            let mut cluster = server.cluster();
            cluster.streams = streams;
            cluster.forbidden = vec![(verb, "services")];
        }
        server.put("pods", pod("a", "web", "n2", "10.0.0.1"));
        server.put("services", service("s", "web", "10.96.0.1"));
        server.up();
        let mut agent = Agent::new(&server, Watched::Pods);
        agent.until("the refusal", |agent| {
            agent.errors(Feed::Services, Reason::Forbidden) >= 1 && agent.ip("10.0.0.1").is_some()
        });
        agent.until("nothing that is not kept true", |agent| {
            agent.service("10.96.0.1:80").is_none()
        });
        let degraded = agent.status.degraded();
        assert_eq!(degraded.len(), 1, "{degraded:?}");
        let sentence = format!(
            "services: the API refuses `{verb}` on services: give the agent's ClusterRole the \
             verbs list and watch on services; until then there is nothing for destination_service_name"
        );
        assert!(degraded[0].starts_with(&sentence), "{degraded:?}");

        server.cluster().forbidden.clear();
        agent.until("the service, once granted", |agent| {
            agent.service("10.96.0.1:80") == some("web")
        });
        agent.until_synced();
        assert_eq!(agent.status.degraded(), Vec::<String>::new());
    }
}

#[test]
fn what_was_known_goes_with_the_right_to_know_and_comes_back_with_it() {
    for streams in [true, false] {
        let mut server = Server::new();
        server.cluster().streams = streams;
        server.put("services", service("s", "web", "10.96.0.1"));
        server.up();
        let mut agent = Agent::new(&server, Watched::Pods);
        agent.until_synced();
        assert_eq!(agent.service("10.96.0.1:80"), some("web"));

        server.cluster().forbidden = vec![("watch", "services"), ("list", "services")];
        server.cut();
        agent.until("the refusal", |agent| {
            agent.errors(Feed::Services, Reason::Forbidden) >= 1
                && agent.service("10.96.0.1:80").is_none()
        });
        server.cluster().forbidden.clear();
        agent.until("the service, once granted", |agent| {
            agent.service("10.96.0.1:80") == some("web")
        });
        agent.until_synced();
        assert_eq!(agent.restarts(Feed::PeerPods), 0, "the others went on");
    }
}

/// As of an API that has just started, whose roles are not there yet.
#[test]
fn a_refusal_that_passes_costs_no_name() {
    for streams in [true, false] {
        let mut server = Server::new();
        server.cluster().streams = streams;
        server.put("services", service("s", "web", "10.96.0.1"));
        server.up();
        let mut agent = Agent::new(&server, Watched::Pods);
        agent.until_synced();

        server.cluster().forbidden = vec![("watch", "services"), ("list", "services")];
        server.cut();
        agent.until("the refusal", |agent| {
            agent.errors(Feed::Services, Reason::Forbidden) >= 1
        });
        let degraded = agent.status.degraded().join("\n");
        assert!(degraded.contains("as they were last told"), "{degraded}");
        server.cluster().forbidden.clear();
        agent.until("that the API tells again", |agent| {
            assert_eq!(agent.service("10.96.0.1:80"), some("web"));
            agent.synced()
        });
    }
}

#[test]
fn endpointslices_are_asked_for_in_the_version_that_is_there() {
    for versions in [vec!["v1"], vec!["v1beta1"], vec!["v1", "v1beta1"]] {
        let mut server = Server::new();
        server.cluster().streams = versions != ["v1beta1"];
        server.cluster().slice_versions = versions.clone();
        server.put("nodes", node("n2", "192.168.0.2"));
        let named = slice("e", "web", "10.0.0.1", "web-7d9f8b6c5d-x2x4z");
        server.put("endpointslices", named);
        let host = slice("h", "agent", "192.168.0.2", "agent-x2x4z");
        server.put("endpointslices", host);
        server.up();
        let mut agent = Agent::new(&server, Watched::Slices);
        agent.until_synced();
        agent.until("the endpoint", |agent| {
            agent.ip("10.0.0.1") == some("shop/web")
        });
        assert_eq!(agent.ip("192.168.0.2"), some("/n2"), "a shared address");
        assert_eq!(agent.service("10.0.0.1:8080"), some("web"));
        let requests = server.cluster().requests.clone();
        let old = requests.iter().any(|uri| uri.contains("v1beta1"));
        assert_eq!(old, versions == ["v1beta1"], "{requests:?}");
        assert!(!requests.iter().any(|uri| uri.contains("nodeName!=")));
    }
}

#[test]
fn without_peers_only_this_node_is_asked_for() {
    let mut server = Server::new();
    server.put("pods", pod("local", "web", NODE, "10.0.0.1"));
    server.put("pods", pod("peer", "api", "n2", "10.0.0.2"));
    server.up();
    let mut agent = Agent::new(&server, Watched::Nothing);
    agent.until_synced();
    agent.until("the local pod", |agent| {
        agent.uid("local") == some("shop/web")
    });
    let peer: IpAddr = "10.0.0.2".parse().unwrap();
    assert_eq!(agent.store.by_ip(peer, monotonic_now()), None);
    let requests = server.cluster().requests.clone();
    assert!(
        requests
            .iter()
            .all(|uri| uri.contains("spec.nodeName%3Dn1")),
        "{requests:?}"
    );
}

#[test]
fn the_watches_end_with_their_agent() {
    let mut server = Server::new();
    server.up();
    let mut agent = Agent::new(&server, Watched::Pods);
    agent.until_synced();
    assert_eq!(server.watches(), 3);
    drop(agent);
    let begun = Instant::now();
    while server.watches() > 0 && begun.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.watches(), 0);
}

/// Runs `hoptrace` and returns what it wrote, to either side.
fn hoptrace(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
    command.args(args);
    for variable in ["NODE_NAME", "KUBERNETES_SERVICE_HOST"] {
        command.env_remove(variable);
    }
    let done = command.output().unwrap();
    String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
}

#[test]
fn the_doctor_asks_what_the_api_allows() {
    let mut server = Server::new();
    server.put("pods", pod("local", "web", NODE, "10.0.0.1"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, server.kubeconfig()).unwrap();
    let doctor = |more: &[&str]| {
        let file = file.to_str().unwrap();
        let args = ["doctor", "--identity=kubernetes", "--kubeconfig", file];
        hoptrace(&[&args, more].concat())
    };
    let check = |text: &str, status: &str, name: &str, found: &str| {
        let mut lines = text.lines();
        let is = |line: &&str| {
            let rest = line.strip_prefix(status).map(str::trim_start);
            let rest = rest.and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| rest.trim_start().starts_with(found))
        };
        assert!(
            lines.any(|line| is(&line)),
            "{status} {name} {found} in\n{text}"
        );
    };
    let away = doctor(&["--node-name", NODE]);
    check(&away, "degraded", "Kubernetes API", "");
    assert!(away.contains("refused"), "{away}");

    server.up();
    let whole = doctor(&["--node-name", NODE]);
    check(
        &whole,
        "ok",
        "Kubernetes API",
        "v1.33.0 at http://127.0.0.1:",
    );
    for (name, found) in [
        ("node_pods", "pods list, watch"),
        ("peer_pods", "pods list, watch"),
        ("services", "services list, watch"),
        ("name of this node", NODE),
    ] {
        check(&whole, "ok", name, found);
    }
    server.cluster().forbidden = vec![("watch", "endpointslices"), ("list", "nodes")];
    let less = doctor(&["--node-name=n9", "--peers=endpointslices"]);
    let slices = "endpointslices.discovery.k8s.io may not watch; lost: names of endpoints";
    check(&less, "degraded", "endpointslices", slices);
    check(&less, "degraded", "nodes", "nodes may not list; lost: ");
    check(
        &less,
        "degraded",
        "name of this node",
        "n9, where the API knows no pod",
    );
    check(
        &doctor(&[]),
        "missing",
        "name of this node",
        "not given; lost: everything",
    );
    assert!(
        !hoptrace(&["doctor"]).contains("Kubernetes"),
        "not asked for"
    );
}

#[test]
fn what_the_agent_needs_to_know_is_one_clear_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::new();
    let good = directory.path().join("good");
    std::fs::write(&good, server.kubeconfig()).unwrap();
    let bad = directory.path().join("bad");
    std::fs::write(&bad, "clusters: 5").unwrap();
    let agent = |args: &[&str]| hoptrace(&[&["agent", "--identity=kubernetes"], args].concat());
    let words = agent(&["--node-name=n1"]);
    assert!(
        words.contains("run as a pod of the cluster, or give --kubeconfig"),
        "{words}"
    );
    let words = agent(&["--kubeconfig", good.to_str().unwrap()]);
    assert!(
        words.contains("give --node-name, or set NODE_NAME"),
        "{words}"
    );
    let words = agent(&["--node-name=n1", "--kubeconfig", bad.to_str().unwrap()]);
    let sentence = format!("cannot use the kubeconfig {}", bad.display());
    assert!(words.contains(&sentence), "{words}");
    let words = agent(&["--node-name=n1", "--kubeconfig=/not/there"]);
    assert!(
        words.contains("cannot use the kubeconfig /not/there"),
        "{words}"
    );
}
