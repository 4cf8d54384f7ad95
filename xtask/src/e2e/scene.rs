//! Callers and objects by which it shows what the agent knows from each resource of the API. Only the
//! demo is traced, so that callers are known by their address alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoptrace_cluster::NODE_NETNS;
use hoptrace_lab::{host, http, netns};
use serde_json::{Value, json};

use super::bed::{Agent, Bed, DEMO, RELEASE};
use hoptrace_exposition::Exposition;

/// A pod of another node, as far as the API can tell.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
const ELSEWHERE_POD: &str = "elsewhere-7d9f8b6c5d-x2x4z";
/// Another node, likewise.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 6);
const NODE_NAME: &str = "elsewhere-node";
const CALLERS: [Ipv4Addr; 2] = [ELSEWHERE, NODE];
/// Another service of the gateway's pods, before its own by name.
const SERVICE: &str = "aside";
const GATEWAY_PORT: u16 = 8000;
/// Requests of each caller.
const REQUESTS: usize = 5;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What is told of the requests of one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Workload and namespace of the caller.
    pub(super) source: (String, String),
    /// Workload and namespace of the gateway.
    pub(super) destination: (String, String),
    pub(super) service: String,
}

/// It is there until it is dropped.
pub(super) struct Scene<'a> {
    bed: &'a Bed,
}

impl<'a> Scene<'a> {
    /// # Errors
    /// The API refuses an object, or the address cannot be had.
    pub(super) fn set(bed: &'a Bed) -> Result<Self> {
        bed.kubectl.apply(&objects())?;
        address("add")?;
        Ok(Self { bed })
    }

    /// Sends requests as another node, and as a pod of it; returns what the agent tells of
    /// them, sorted and each once.
    ///
    /// # Errors
    /// Requests fail, or are not counted.
    pub(super) fn play(&self, agent: &Agent) -> Result<Vec<Told>> {
        let pods = self.bed.history.pods(DEMO, "capitol-client");
        let gateway = pods
            .iter()
            .find_map(|pod| pod.address.filter(|_| pod.ready));
        let gateway = gateway.context("no pod of capitol-client is ready")?;
        let before = agent.settled()?;
        for source in CALLERS {
            for _ in 0..REQUESTS {
                request(IpAddr::V4(source), SocketAddr::new(gateway, GATEWAY_PORT))?;
            }
        }
        let after = agent.settled()?;
        // The agent is traced too, and scraped.
        let short = agent.uid.get(..8).unwrap_or_default();
        let grown = grown(&before, &after, &[RELEASE, &format!("pod-{short}")]);
        let counted: f64 = grown.iter().map(|(_, count)| count).sum();
        let sent = CALLERS.len() * REQUESTS;
        ensure!(
            counted == sent as f64,
            "{sent} requests were sent, {counted} were counted: {grown:?}"
        );
        Ok(grown.into_iter().map(|(told, _)| told).collect())
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if let Err(error) = address("del") {
            eprintln!("warning: {error:#}");
        }
        let objects = objects().to_string();
        let delete = ["delete", "--ignore-not-found", "--filename=-"];
        if let Err(error) = self.bed.kubectl.feed(&delete, &objects) {
            eprintln!("warning: {error:#}");
        }
    }
}

fn objects() -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": DEMO},
            "spec": {
                "ports": [{"port": GATEWAY_PORT, "targetPort": GATEWAY_PORT}],
                "selector": {"app": "capitol-client"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Node",
            // Without the label of its system no DaemonSet wants it.
            "metadata": {"name": NODE_NAME},
            "spec": {"unschedulable": true},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1beta1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "elsewhere",
                "namespace": DEMO,
                "labels": {"kubernetes.io/service-name": "elsewhere"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [ELSEWHERE],
                "targetRef": {
                    "kind": "Pod",
                    "name": ELSEWHERE_POD,
                    "namespace": DEMO,
                    "uid": "7a1f4c60-2f0e-4a55-9d1b-0c1b5f0f7e11",
                },
            }],
        },
    ]})
}

/// The node is given the callers' addresses, or loses them.
fn address(action: &str) -> Result<()> {
    for caller in CALLERS {
        let address = format!("{caller}/32");
        let output = Command::new(host::program("ip")?)
            .args(["-netns", NODE_NETNS, "addr", action, &address])
            .args(["dev", "node0"])
            .output()
            .context("cannot start ip")?;
        ensure!(
            output.status.success(),
            "`ip addr {action} {address}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn request(source: IpAddr, address: SocketAddr) -> Result<()> {
    let request = http::Request {
        path: "/api/capitols",
        headers: &[("host", "capitol-client:8000")],
        source: Some(source),
        ..http::Request::to(address)
    };
    let answer = netns::within(NODE_NETNS, || request.send(ANSWER_LIMIT))?;
    ensure!(
        answer.code == 200,
        "the gateway answers {} to {source}",
        answer.code
    );
    Ok(())
}

/// Series of the gateway's requests that grew, with by how much; `others` are no gateway.
fn grown(before: &Exposition, after: &Exposition, others: &[&str]) -> Vec<(Told, f64)> {
    let mut found = Vec::<(Told, f64)>::new();
    for series in after.iter() {
        let is_gateways = series.name == "hoptrace_request_duration_seconds_count"
            && series.label("reporter") == "destination"
            // Of the two services that are called, the other one is called with mutual TLS.
            && series.label("connection_security_policy") == "none"
            && !others.contains(&series.label("destination_workload"));
        if !is_gateways {
            continue;
        }
        let same = before
            .iter()
            .find(|other| other.name == series.name && other.labels == series.labels);
        let count = series.value - same.map_or(0.0, |other| other.value);
        if count == 0.0 {
            continue;
        }
        let pair = |name: &str, space: &str| {
            (
                series.label(name).to_owned(),
                series.label(space).to_owned(),
            )
        };
        let told = Told {
            source: pair("source_workload", "source_workload_namespace"),
            destination: pair("destination_workload", "destination_workload_namespace"),
            service: series.label("destination_service_name").to_owned(),
        };
        match found.iter_mut().find(|(other, _)| *other == told) {
            Some((_, sum)) => *sum += count,
            None => found.push((told, count)),
        }
    }
    found
}

/// What has to be told without some resources.
pub(super) fn expected(peers: &str, missing: &str) -> Vec<Told> {
    let name = |name: &str, space: &str| (name.to_owned(), space.to_owned());
    let unknown = || name("unknown", "unknown");
    let has = |resource: &str| resource != missing;
    let slices = peers == "endpointslices";
    let node = if slices && has("nodes") {
        name(NODE_NAME, "")
    } else {
        unknown()
    };
    // An endpoint may share the address of its node, which only the nodes tell.
    let elsewhere = if slices && has("endpointslices") && has("nodes") {
        name("elsewhere", DEMO)
    } else {
        unknown()
    };
    let destination = if has("pods") {
        name("capitol-client", DEMO)
    } else {
        // The first eight digits of a uid come after it.
        name("pod-", "")
    };
    // By the labels of the pod, else by the slice with its address, else it is the workload.
    let by_labels = has("pods") && has("services");
    let service = if by_labels || (slices && has("endpointslices")) {
        SERVICE
    } else {
        &destination.0
    };
    let told = |source| Told {
        source,
        destination: destination.clone(),
        service: service.to_owned(),
    };
    let mut all = vec![told(node), told(elsewhere)];
    all.dedup();
    all
}
