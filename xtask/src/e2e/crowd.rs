//! Thousands of pods elsewhere in the cluster, told by the real API: what the agent takes of memory.
//!
//! They exist in the API alone, as those of other nodes do for an agent. Controllers would remove
//! them, since nobody keeps their nodes alive, and do not run meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hoptrace_cluster::{Component, NODE_NETNS};
use hoptrace_lab::{http, netns, signals, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Figures;
use super::bed::{AGENT, Agent, Bed, READY_LIMIT};

/// What all others that kubectl is asked for are.
pub(super) const NOT_CROWD: &str = "--selector=!hoptrace-crowd";
/// Pods and the most that the agent may take then, MB (10^6 bytes).
const TARGETS: [(u32, f64); 2] = [(5_000, 25.0), (20_000, 40.0)];
/// Pods to a workload and its service.
const REPLICAS: u32 = 10;
const NAMESPACES: u32 = 20;
/// Pods to a node.
const NODE: u32 = 30;
/// Where `kubectl proxy` listens, in the node's network.
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
const WRITERS: usize = 6;
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// After the lists, memory that they took is given back.
const REST: Duration = Duration::from_secs(5);

/// # Errors
/// The API refuses objects, or the agent takes more memory than it should.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    bed.uninstall()?;
    // Whatever else runs on this machine is not what is measured.
    bed.install(&[&bed.only_demo()?])?;
    bed.rolled_out(AGENT, "daemonset/hoptrace")?;
    let proxy = Proxy::start(bed)?;
    make_namespaces()?;
    let idle = [Component::ControllerManager, Component::Scheduler];
    for component in idle {
        bed.cluster.stop(component)?;
    }
    let measured = measure(bed, figures);
    let emptied = empty();
    drop(proxy);
    for component in idle {
        bed.cluster.start(component)?;
    }
    measured.and(emptied)?;
    bed.uninstall()
}

/// A controller gives each the service account that its pods are of.
fn make_namespaces() -> Result<()> {
    for namespace in (0..NAMESPACES).map(team) {
        let object = json!({"metadata": {"name": namespace}});
        call("POST", "/api/v1/namespaces", &object)?;
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        wait::until("a namespace has its service account", READY_LIMIT, || {
            thread::sleep(Duration::from_millis(50));
            Ok(call("GET", &account, &Value::Null).ok().map(drop))
        })?;
    }
    Ok(())
}

fn measure(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let mut from = 0;
    for (pods, most) in TARGETS {
        let begun = Instant::now();
        write(from / REPLICAS, pods / REPLICAS)?;
        from = pods;
        let seconds = begun.elapsed().as_secs_f64();
        let (known, megabytes, peak) = of_new_agent(bed, pods)?;
        figures.say(format!(
            "{pods} pods of others and {} services, written in {seconds:.0} s: the agent, started \
             anew, knows {known} objects and has {megabytes:.1} MB resident, {peak:.1} at most so far",
            pods / REPLICAS
        ));
        ensure!(
            megabytes <= most,
            "the agent has {megabytes:.1} MB resident, and should have at most {most}"
        );
    }
    Ok(())
}

/// Kills the agent; what the next one knows and takes, MB now and at most.
fn of_new_agent(bed: &Bed, pods: u32) -> Result<(f64, f64, f64)> {
    let agent = bed.agent()?;
    let old = bed.process(&agent)?;
    old.signal(Signal::KILL);
    wait::until("the agent ended", READY_LIMIT, || {
        Ok((!old.is_alive()).then_some(()))
    })?;
    let known = wait::until("the agent knows all pods", READY_LIMIT, || {
        thread::sleep(Duration::from_millis(300));
        // Nobody listens until it has started.
        Ok(known(&agent).filter(|known| *known >= f64::from(pods + pods / REPLICAS)))
    })?;
    thread::sleep(REST);
    signals::check()?;
    let process = bed.process(&agent)?;
    let (now, most) = crate::usage::resident_mib(process.pid)?;
    let megabytes = |mib: f64| mib * f64::from(1 << 20) / 1e6;
    Ok((known, megabytes(now), megabytes(most)))
}

/// How many objects the agent keeps, if it answers.
fn known(agent: &Agent) -> Option<f64> {
    let metrics = agent.metrics().ok()?;
    Some(metrics.sum_where("hoptrace_identity_objects", &[]))
}

/// `kubectl proxy`, which speaks TLS and says who asks.
struct Proxy(Child);

impl Proxy {
    fn start(bed: &Bed) -> Result<Self> {
        let port = format!("--port={}", PROXY.port());
        let proxy = Self(bed.kubectl.start(&["proxy", &port])?);
        wait::until("kubectl proxy answers", READY_LIMIT, || {
            thread::sleep(Duration::from_millis(100));
            let get = || http::get(PROXY, "/readyz", ANSWER_LIMIT);
            Ok(netns::within(NODE_NETNS, get).ok().map(drop))
        })?;
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Asks the API for one thing.
fn call(method: &str, path: &str, body: &Value) -> Result<Value> {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = http::Request {
        method,
        path,
        headers: &[("content-type", kind)],
        body: &body,
        ..http::Request::to(PROXY)
    };
    let answer = netns::within(NODE_NETNS, || request.send(ANSWER_LIMIT))?;
    ensure!(
        (200..300).contains(&answer.code),
        "{method} {path} is answered {}: {:.300}",
        answer.code,
        answer.body
    );
    serde_json::from_str(&answer.body).with_context(|| format!("the answer to {method} {path}"))
}

/// Writes workloads, each with its service and its pods.
fn write(from: u32, to: u32) -> Result<()> {
    let next = AtomicU32::new(from);
    let one = || -> Result<()> {
        loop {
            let workload = next.fetch_add(1, Ordering::Relaxed);
            if workload >= to {
                return Ok(());
            }
            signals::check()?;
            write_workload(workload)?;
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(one)).collect();
        writers.into_iter().try_for_each(|writer| {
            let written = writer.join();
            written.unwrap_or_else(|_| Err(anyhow!("a writer panicked")))
        })
    })
}

fn team(number: u32) -> String {
    format!("team-{number}")
}

fn write_workload(workload: u32) -> Result<()> {
    let namespace = team(workload % NAMESPACES);
    let app = format!("service-{workload}-backend");
    let services = format!("/api/v1/namespaces/{namespace}/services");
    let port = json!({"name": "http", "port": 80, "targetPort": 8080});
    let service = json!({
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "clusterIP": "None", "ports": [port]},
    });
    call("POST", &services, &service)?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    for replica in 0..REPLICAS {
        let number = workload * REPLICAS + replica;
        let pod = pod(&app, number);
        let name = format!("{app}-{}", suffix(number));
        call("POST", &pods, &pod)?;
        call("PATCH", &format!("{pods}/{name}/status"), &status(number))?;
    }
    Ok(())
}

/// What comes behind the workload's name in that of its pod, as a Deployment has it.
fn suffix(number: u32) -> String {
    format!("{:09x}-{:05x}", number / REPLICAS + (1 << 31), number)
}

/// As large as pods of a mesh are: two containers, and their environment.
fn pod(app: &str, number: u32) -> Value {
    let name = format!("{app}-{}", suffix(number));
    let set = name.rsplit_once('-').map_or(app, |(set, _)| set).to_owned();
    let environment: Vec<_> = (0..25)
        .map(|index| json!({"name": format!("VARIABLE_{index}"), "value": "v".repeat(40)}))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name,
            "image": "registry.example.com/team/service:1.2.3",
            "env": environment,
            "ports": [{"containerPort": 8080}],
        })
    };
    json!({
        "metadata": {
            "name": name,
            "labels": {
                "hoptrace-crowd": "true",
                "app": app,
                "app.kubernetes.io/name": app,
                "pod-template-hash": set.rsplit('-').next(),
                "version": "v1",
                "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": app,
            },
            "annotations": {"sidecar.istio.io/status": "x".repeat(600)},
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": set,
                "uid": format!("{:08x}-0000-0000-0000-000000000000", number / REPLICAS),
                "controller": true,
            }],
        },
        "spec": {
            "nodeName": format!("elsewhere-{}", number / NODE),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [container("app"), container("istio-proxy")],
        },
    })
}

fn status(number: u32) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number).to_string();
    let host = Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 0, 0)) + number / NODE).to_string();
    let conditions: Vec<_> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .into_iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": since}))
        .collect();
    let containers: Vec<_> = ["app", "istio-proxy"]
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            json!({
                "name": name,
                "ready": true,
                "restartCount": 0,
                "image": "registry.example.com/team/service:1.2.3",
                "imageID": format!("sha256:{}", "a".repeat(64)),
                "containerID": format!("containerd://{index:02x}{number:062x}"),
                "state": {"running": {"startedAt": since}},
                "lastState": {},
            })
        })
        .collect();
    json!({"status": {
        "phase": "Running",
        "hostIP": host,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": since,
        "conditions": conditions,
        "containerStatuses": containers,
    }})
}

/// Removes what was written; the namespaces stay, and are empty.
fn empty() -> Result<()> {
    for namespace in (0..NAMESPACES).map(team) {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        call("DELETE", &pods, &json!({"gracePeriodSeconds": 0}))?;
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let list = call("GET", &services, &Value::Null)?;
        let items = list.get("items").and_then(Value::as_array);
        let names = items.into_iter().flatten().filter_map(|item| {
            let name = item.pointer("/metadata/name").and_then(Value::as_str);
            name.map(str::to_owned)
        });
        for name in names {
            call("DELETE", &format!("{services}/{name}"), &json!({}))?;
        }
    }
    Ok(())
}
