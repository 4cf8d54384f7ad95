//! The pod boundary on real veths: the parts add up, a slow wire is told from a slow pod, pods come and
//! go, others' programs go on, and nothing stays.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

#[path = "../mesh/mod.rs"]
mod mesh;
mod wire;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{AgentProcess, Lab, Mode, Pod, Target, free_port, netns};
use mesh::{Request, Traced, Tracing, boundary, load, spec, trace};
use tracer_user::join::Chain;
use tracer_user::load::boundary::{Attachment, PodBoundary};
use tracer_user::model::{Hop, Part, RequestTimes};
use tracer_user::tracer::{Requests, monotonic_now};

/// The host's end of capitol-info's veth.
const VETH: &str = "veth-info";
const SIDES: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// Runs `ip` in a namespace.
pub(crate) fn ip(netns: &str, arguments: &str) {
    tool(netns, "ip", arguments);
}

/// Runs a program of iproute2 in a namespace; what it says.
fn tool(netns: &str, program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(["-netns", netns])
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn watching() -> Tracing {
    Tracing {
        pod_boundary: true,
        ..Tracing::default()
    }
}

/// The time between the two pods as their sockets tell it, nanoseconds.
fn network(request: &Request) -> Option<u64> {
    let [app, _, outbound, inbound, _, server] = &request.sockets;
    let client = outbound.as_ref().or(app.as_ref())?;
    let server = inbound.as_ref().or(server.as_ref())?;
    Some(
        (client.response_first - client.request_first)
            - (server.response_first - server.request_first),
    )
}

fn part(request: &Request, which: Part) -> u64 {
    request.sum(|(hop, _, part)| hop == Hop::Network && part == which)
}

/// Checks each request's parts against its sockets; prints and returns the means of the parts in
/// microseconds, and how many were split.
fn check(name: &str, traced: &Traced<impl Sized>) -> ([f64; 3], usize) {
    let parts = [Part::SourcePod, Part::Wire, Part::DestinationPod];
    let (mut sums, mut split) = ([0; 3], 0);
    for request in &traced.requests {
        let Some(network) = network(request) else {
            continue;
        };
        assert_eq!(request.hop(Hop::Network), network, "{name}: the whole");
        if part(request, Part::Whole) == network {
            continue;
        }
        assert_eq!(part(request, Part::Whole), 0, "{name}: whole and parts");
        split += 1;
        for (sum, which) in sums.iter_mut().zip(parts) {
            *sum += part(request, which);
        }
    }
    let means = sums.map(|sum: u64| sum as f64 / 1e3 / split.max(1) as f64);
    println!(
        "{name}: {split} of {} requests split; source pod {:.1} µs, wire {:.1} µs, destination pod {:.1} µs",
        traced.requests.len(),
        means[0],
        means[1],
        means[2]
    );
    (means, split)
}

#[test]
fn the_parts_are_the_network_to_the_nanosecond() {
    for (name, mode) in [
        ("parts-none", Mode::None),
        ("parts-plain", Mode::Plain),
        ("parts-mtls", Mode::Mtls),
    ] {
        let Some(lab) = mesh::lab(name, mode, |_| {}) else {
            return;
        };
        for target in [Target::Info, Target::InfoV6] {
            let spec = LoadSpec {
                url: format!("{}capitols/1", lab.url(Pod::Load, target)),
                ..spec(&lab, 8, Schedule::Count(2_000))
            };
            let traced = trace(&lab, &watching(), || load(&lab, &spec));
            assert!(traced.books.balance(), "{}", traced.books);
            let (_, split) = check(&format!("{name} {target:?}"), &traced);
            assert!(split >= 1_980, "{name}: {split} split");
        }
    }
}

#[test]
fn a_slow_wire_is_no_slow_pod() {
    let Some(lab) = mesh::lab("wire", Mode::Mtls, |_| {}) else {
        return;
    };
    let spec = spec(&lab, 2, Schedule::Count(200));
    // One that costs nothing but itself, and one that is slow.
    let [quick, slow] = [0, 5].map(|millis| {
        let _wire = wire::Wire::between(&lab, Pod::Info, Duration::from_millis(millis));
        let traced = trace(&lab, &watching(), || load(&lab, &spec));
        let (means, split) = check(&format!("wire {millis} ms"), &traced);
        assert!(split >= 196, "{split} split");
        means
    });
    let added: Vec<f64> = quick
        .iter()
        .zip(slow)
        .map(|(quick, slow)| (slow - quick) / 1e3)
        .collect();
    let sum: f64 = added.iter().sum();
    println!(
        "added: {added:.3?} ms, {:.1} % on the wire",
        100.0 * added[1] / sum
    );
    assert!(sum > 9.5, "5 ms each way: {sum} ms");
    assert!(added[1] > 0.95 * sum, "on the wire: {added:?} ms");
}

/// A pod that nobody planned, on the lab's bridge.
struct LatePod<'a> {
    node: &'a str,
    netns: String,
}

impl<'a> LatePod<'a> {
    const IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

    fn new(node: &'a str) -> Self {
        let netns = format!("{node}-late");
        let made = Command::new("ip")
            .args(["netns", "add", &netns])
            .status()
            .unwrap();
        assert!(made.success());
        let pod = Self { node, netns };
        // As CNI plugins do: both ends here first.
        ip(node, "link add veth-late type veth peer name late0");
        ip(node, &format!("link set late0 netns {}", pod.netns));
        ip(node, "link set veth-late master br0 up");
        ip(&pod.netns, &format!("addr add {}/24 dev late0", Self::IP));
        ip(&pod.netns, "link set late0 up");
        pod
    }
}

impl Drop for LatePod<'_> {
    fn drop(&mut self) {
        // Of a test that failed half-way some of it is there.
        for arguments in [
            vec!["-netns", self.node, "link", "del", "veth-late"],
            vec!["netns", "del", &self.netns],
        ] {
            let _absent = Command::new("ip").args(arguments).status();
        }
    }
}

/// Waits until a boundary is at so many veths.
fn wait_for(boundary: &PodBoundary, attached: u64) {
    for _ in 0..100 {
        if boundary.interfaces().attached == attached {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{:?}, not {attached}", boundary.interfaces());
}

fn records(boundary: &mut PodBoundary) -> usize {
    let mut records = 0;
    while boundary.drain(|_| records += 1) {}
    records
}

/// A request from one namespace to the gateway in another.
fn ask(from: &str, node: &str) {
    let listener = netns::within(node, || Ok(TcpListener::bind("10.77.0.1:0").unwrap())).unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        client.write_all(b"pong").unwrap();
    });
    netns::within(from, || {
        let mut client = TcpStream::connect(to).unwrap();
        client.write_all(b"ping").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        Ok(())
    })
    .unwrap();
    server.join().unwrap();
}

#[test]
fn pods_come_and_go() {
    let Some(lab) = mesh::lab("late", Mode::None, |_| {}) else {
        return;
    };
    let node = lab.node_netns();
    for attachment in [Attachment::Tcx, Attachment::Clsact] {
        let mut boundary = boundary(&lab, attachment);
        wait_for(&boundary, 3);
        {
            let pod = LatePod::new(&node);
            wait_for(&boundary, 4);
            ask(&pod.netns, &node);
            assert_eq!(records(&mut boundary), 1, "{attachment:?}");
            // Out of its bridge it is still there.
            ip(&node, "link set veth-late nomaster");
            thread::sleep(Duration::from_millis(100));
            wait_for(&boundary, 4);
        }
        wait_for(&boundary, 3);
        assert_eq!(boundary.interfaces().refused, 0);
    }
}

/// The TCX programs on both sides of capitol-info's veth, by name.
fn at_the_veth(node: &str) -> Vec<String> {
    netns::within(node, || {
        let programs = SIDES.map(|side| SchedClassifier::query_tcx(VETH, side).unwrap().1);
        let names = programs.into_iter().flatten();
        Ok(names
            .map(|program| program.name_as_str().unwrap().to_owned())
            .collect())
    })
    .unwrap()
}

/// What `tc` finds below clsact there.
fn filters(node: &str) -> usize {
    ["ingress", "egress"]
        .map(|side| {
            let arguments = format!("filter show dev {VETH} {side}");
            let text = tool(node, "tc", &arguments);
            text.lines()
                .filter(|line| line.contains("hoptrace_pod"))
                .count()
        })
        .iter()
        .sum()
}

#[test]
fn others_programs_go_on_and_nothing_stays() {
    let Some(lab) = mesh::lab("others", Mode::None, |_| {}) else {
        return;
    };
    let node = lab.node_netns();
    let spec = spec(&lab, 2, Schedule::Count(100));
    // Behind each other: a filter of tc runs only if no TCX program decides, a TCX program only if
    // none before it does.
    let attachments = [Attachment::Clsact, Attachment::Tcx, Attachment::Tcx];
    let mut boundaries = attachments.map(|attachment| boundary(&lab, attachment));
    load(&lab, &spec);
    let counts = boundaries.each_mut().map(records);
    println!("records: {counts:?}");
    assert!(counts[0] >= 200, "two pods each");
    assert_eq!(counts, [counts[0]; 3]);
    let mut names = at_the_veth(&node);
    names.sort();
    let (pod_in, pod_out) = ("hoptrace_pod_in", "hoptrace_pod_ou");
    assert_eq!(names, [pod_in, pod_in, pod_out, pod_out]);
    assert_eq!(filters(&node), 2);
    let [clsact, first, second] = boundaries;
    drop((first, second));
    assert_eq!(at_the_veth(&node), Vec::<String>::new());
    // What a killed agent leaves below clsact, the next one takes away.
    std::mem::forget(clsact);
    let next = boundary(&lab, Attachment::Clsact);
    assert_eq!(filters(&node), 2);
    drop(next);
    assert_eq!(filters(&node), 0);
}

/// An agent in the node's namespace.
fn agent(lab: &Lab) -> AgentProcess {
    let mut options = lab.agent_options(env!("CARGO_BIN_EXE_hoptrace"), free_port().unwrap());
    options.args = vec!["--pod-boundary".into(), "on".into()];
    netns::within(&lab.node_netns(), || AgentProcess::start(&options)).unwrap()
}

#[test]
fn an_agent_tells_the_parts_and_leaves_nothing() {
    let Some(lab) = mesh::lab("leaves", Mode::Mtls, |_| {}) else {
        return;
    };
    let node = lab.node_netns();
    for kill in [true, false] {
        let agent = agent(&lab);
        load(&lab, &spec(&lab, 4, Schedule::Count(500)));
        let pod = LatePod::new(&node);
        thread::sleep(Duration::from_millis(1_000));
        let text = netns::within(&node, || agent.metrics()).unwrap();
        let value = |series: &str| {
            let line = text.lines().find(|line| line.starts_with(series));
            let line = line.unwrap_or_else(|| panic!("no {series} in {text}"));
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        // Also of the pod that came when the agent had dropped its capabilities.
        assert_eq!(value("hoptrace_pod_interfaces"), 4.0);
        assert_eq!(
            value("hoptrace_pod_interface_errors_total{reason=\"refused\"}"),
            0.0
        );
        let split = value("hoptrace_network_splits_total{result=\"split\"}");
        assert!(split >= 495.0, "{split}");
        for (leg, part) in [
            ("request", "source_pod"),
            ("response", "source_pod"),
            ("both", "wire"),
            ("request", "destination_pod"),
            ("response", "destination_pod"),
        ] {
            let labels = format!("hop=\"network\",leg=\"{leg}\",part=\"{part}\"");
            let series = text.lines().filter(|line| line.contains(&labels));
            let counts =
                series.filter(|line| line.starts_with("hoptrace_hop_duration_seconds_count"));
            let count: f64 = counts
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum();
            assert_eq!(count, split, "{labels}");
        }
        let names: BTreeSet<_> = at_the_veth(&node).into_iter().collect();
        assert_eq!(names.len(), 2, "{names:?}");
        if kill {
            agent.kill9();
            // The kernel lets go of what a dead process had a moment later.
            thread::sleep(Duration::from_millis(500));
        } else {
            assert!(agent.terminate().unwrap().success());
        }
        assert_eq!(at_the_veth(&node), Vec::<String>::new());
        drop(pod);
    }
}

#[test]
#[ignore = "measures; meaningful on a quiet machine only"]
fn what_a_packet_costs() {
    let Some(lab) = mesh::lab("veth-cost", Mode::Mtls, |_| {}) else {
        return;
    };
    let requests = 20_000;
    load(&lab, &spec(&lab, 8, Schedule::Count(1_000)));
    let _accounting = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let rate = Schedule::Rate {
        per_second: 2_000.0,
        seconds: 10.0,
    };
    let mut agent = mesh::start(&lab, &watching());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                while agent.drain(&mut Nobody).unwrap() {}
                agent.advance(monotonic_now(), &mut Nobody).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        load(&lab, &spec(&lab, 8, rate));
        done.store(true, Ordering::Release);
    });
    for (program, cost) in agent.costs() {
        println!(
            "{program}: {:.0} ns a run, {:.1} runs and {:.2} µs a request",
            cost.run_time_ns as f64 / cost.runs as f64,
            cost.runs as f64 / f64::from(requests),
            cost.run_time_ns as f64 / 1e3 / f64::from(requests)
        );
    }
    println!("splits: {:?}", agent.splits());
}

struct Nobody;

impl Requests for Nobody {
    fn request(&mut self, _chain: &Chain<'_>, _times: &RequestTimes) {}
}
