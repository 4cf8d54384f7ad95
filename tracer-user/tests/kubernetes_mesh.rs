//! The agent on a mesh whose pods an API server names: labels before, while and after it is away,
//! and after a pod's end.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an error is the result of the test"
)]

mod kube_api;
mod mesh;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AgentProcess, Container, Lab, Mode, Pod, free_port};
use kube_api::Server;
use mesh::{load, spec};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(45);
const REQUESTS: u32 = 100;

/// A pod of the lab as a kubelet would tell it.
fn pod(lab: &Lab, pod: Pod) -> Value {
    let statuses =
        [(Container::App, "app"), (Container::Sidecar, "istio-proxy")].map(|(container, name)| {
            let path = lab.container_cgroup(pod, container);
            let scope = path.file_name().unwrap().to_str().unwrap();
            let id = scope.strip_prefix("cri-containerd-").unwrap();
            let id = id.strip_suffix(".scope").unwrap();
            json!({"name": name, "containerID": format!("containerd://{id}"),
                "state": {"running": {}}, "lastState": {}})
        });
    let name = format!("api-{}", pod.workload());
    json!({
        "metadata": {
            "name": format!("{name}-5d4f8c7b9d-x2x4z"), "generateName": format!("{name}-5d4f8c7b9d-"),
            "namespace": "mesh", "uid": pod.uid(&lab.state().name),
            "labels": {"app": name, "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": format!("{name}-5d4f8c7b9d"), "uid": "u", "controller": true}],
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "podIP": pod.ip_v4(), "hostIP": "192.0.2.1",
            "podIPs": [{"ip": pod.ip_v4()}, {"ip": pod.ip_v6()}], "containerStatuses": statuses},
    })
}

fn service() -> Value {
    json!({
        "metadata": {"name": "info", "namespace": "mesh", "uid": "service"},
        "spec": {"clusterIP": "10.96.0.11", "selector": {"app": "api-capitol-info"},
            "ports": [{"port": 8080, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    })
}

fn cluster(lab: &Lab) -> Server {
    let server = Server::new();
    for each in Pod::ALL {
        server.put("pods", pod(lab, each));
    }
    server.put("services", service());
    server
}

/// Starts the agent with the API as the only source of names and of what is a sidecar.
fn agent(lab: &Lab, server: &Server) -> AgentProcess {
    let kubeconfig = lab.state().dir.join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    let mut options = lab.agent_options(env!("CARGO_BIN_EXE_hoptrace"), free_port().unwrap());
    options.identity = "kubernetes".to_owned();
    let args = [
        "--node-name=node-1",
        "--proxy-names=nobody",
        "--series-grace=1s",
    ];
    options.args = args.map(str::to_owned).to_vec();
    let kubeconfig = kubeconfig.display();
    options.args.push(format!("--kubeconfig={kubeconfig}"));
    AgentProcess::start(&options).unwrap()
}

/// Values of a label over every series.
fn values(exposition: &str, label: &str) -> BTreeSet<String> {
    let marker = format!("{label}=\"");
    let found = exposition.match_indices(&marker);
    found
        .map(|(at, _)| {
            let rest = &exposition[at + marker.len()..];
            rest[..rest.find('"').unwrap()].to_owned()
        })
        .collect()
}

fn sample(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = exposition.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Requests that the client saw, once as many are told as were sent.
fn told(agent: &AgentProcess, expected: u32) -> String {
    until("every request is told", agent, |text| {
        let labels = ["reporter=\"source\"", "source_workload=\"api-load\""];
        let name = "hoptrace_request_duration_seconds_count";
        sample(text, name, &labels) >= f64::from(expected)
    })
}

fn until(what: &str, agent: &AgentProcess, is_so: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let text = agent.metrics().unwrap();
        if is_so(&text) {
            return text;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{what}: not after {LIMIT:?}\n{text}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn request(lab: &Lab) {
    load(lab, &spec(lab, 2, Schedule::Count(REQUESTS.into())));
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn names_outlast_the_api_and_end_with_their_pods() {
    let Some(lab) = mesh::lab("kube-names", Mode::Mtls, |_| {}) else {
        return;
    };
    let mut server = cluster(&lab);
    server.up();
    let agent = agent(&lab, &server);
    let named = |text: &str| {
        let check = |label: &str, expected: &[&str]| {
            assert_eq!(values(text, label), set(expected), "{label} in\n{text}");
        };
        check("source_workload", &["api-load"]);
        check("source_workload_namespace", &["mesh"]);
        check("destination_workload", &["api-capitol-info"]);
        check("destination_workload_namespace", &["mesh"]);
        check("destination_service_name", &["info"]);
        check("connection_security_policy", &["mutual_tls"]);
    };
    request(&lab);
    named(&told(&agent, REQUESTS));
    assert_eq!(agent.get("/readyz").unwrap().body, "ok\n");
    // What speaks to the network has no capability, no more than the rest.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
    assert!(tasks.len() >= 2, "{tasks:?}");
    for task in tasks {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let line = format!("{set}:\t0000000000000000");
            assert!(
                status.contains(&line),
                "{line} of {}\n{status}",
                task.display()
            );
        }
    }

    server.down();
    let synced = |text: &str| sample(text, "hoptrace_identity_synced", &[]);
    until("the API is away", &agent, |text| synced(text) == 0.0);
    request(&lab);
    named(&told(&agent, 2 * REQUESTS));
    let ready = agent.get("/readyz").unwrap();
    assert_eq!(ready.code, 200);
    let lines = ready.body.matches("degraded: ").count();
    assert_eq!(lines, 3, "{}", ready.body);

    server.up();
    until("the API is back", &agent, |text| synced(text) == 3.0);
    assert_eq!(agent.get("/readyz").unwrap().body, "ok\n");
    request(&lab);
    named(&told(&agent, 3 * REQUESTS));

    // The caller's pod goes, and with it its series; nothing else does.
    server.delete("pods", &Pod::Load.uid(&lab.state().name));
    until("the series of a gone workload end", &agent, |text| {
        values(text, "source_workload").is_empty()
    });
    let text = agent.metrics().unwrap();
    assert_eq!(
        sample(&text, "hoptrace_identity_objects", &["node_pods"]),
        2.0
    );
    agent.terminate().unwrap();
}

#[test]
fn without_the_api_pods_are_named_by_their_cgroups_until_it_comes() {
    let Some(lab) = mesh::lab("kube-later", Mode::Mtls, |_| {}) else {
        return;
    };
    let mut server = cluster(&lab);
    let agent = agent(&lab, &server);
    let ready = agent.get("/readyz").unwrap();
    assert_eq!(ready.code, 200);
    assert!(ready.body.contains("not known yet"), "{}", ready.body);
    request(&lab);
    let text = until("what is measured without names", &agent, |text| {
        !values(text, "source_workload").is_empty()
    });
    for label in ["source_workload", "destination_workload"] {
        for name in values(&text, label) {
            assert!(name.starts_with("pod-"), "{name}");
        }
    }

    server.up();
    let synced = |text: &str| sample(text, "hoptrace_identity_synced", &[]);
    until("the API is there", &agent, |text| synced(text) == 3.0);
    request(&lab);
    told(&agent, REQUESTS);
    // The names of cgroups end when there are better ones.
    until("only names from the API", &agent, |text| {
        values(text, "source_workload") == set(&["api-load"])
            && values(text, "destination_workload") == set(&["api-capitol-info"])
    });
    agent.terminate().unwrap();
}
