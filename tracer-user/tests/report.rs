//! `hoptrace report` beside a real agent on a real mesh.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use hoptrace_lab::{AgentProcess, Lab, Mode, Pod, Target, free_port};
use hoptrace_report::{Comparison, Penalty, Place, Report};
use serde_json::{Value, json};
use tracer_user::model::Hop;

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
/// What is put into one sidecar.
const FAULT_MS: u64 = 20;
/// The header that asks for it.
const FAULT: &str = "x-fault: inbound";
/// How near the penalty has to be to what calls took longer. Behind a pause of 20 ms every process finds its
/// caches cold, so that the other hops become a little slower too.
const NEAR: f64 = 0.05;
/// And how little every other place has of it.
const ELSEWHERE: f64 = 0.03;
const ATTEMPTS: usize = 3;

/// The sidecar of capitol-info holds up what comes in and says so.
fn patch(pod: Pod, bootstrap: &mut Value) {
    if pod != Pod::Info {
        return;
    }
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
    let mut listeners = listeners.unwrap().iter_mut();
    let inbound = listeners.find(|found| found["name"] == "virtualInbound");
    for chain in inbound.unwrap()["filter_chains"].as_array_mut().unwrap() {
        let manager = &mut chain["filters"][0]["typed_config"];
        if let Some(filters) = manager["http_filters"].as_array_mut() {
            let fault = json!({"name": "fault", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                "delay": {"fixed_delay": format!("0.{FAULT_MS:03}s"), "percentage": {"numerator": 100}},
                "headers": [{"name": "x-fault", "string_match": {"exact": "inbound"}}],
            }});
            filters.insert(0, fault);
        }
    }
}

/// Runs the command in the load pod; the agent is reached through the lab.
fn report(lab: &Lab, agent: &AgentProcess, args: &[&str]) -> Output {
    let reach = lab.reach(Pod::Load, agent.address()).unwrap();
    let mut command = Command::new(AGENT);
    command.arg("report").args(args);
    command.args(["--agent", &reach.address().to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = lab.start_in(Pod::Load, &mut command).unwrap();
    let output = child.wait_with_output().unwrap();
    println!("{}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn url(lab: &Lab) -> String {
    format!("{}capitols/1", lab.url(Pod::Load, Target::Info))
}

fn read(path: &Path) -> Report {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn calls(found: &Comparison) -> Penalty {
    found.calls.unwrap()
}

/// Reports without the fault, and then with it beside that.
fn slowed(lab: &Lab, agent: &AgentProcess, directory: &Path) -> Report {
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (bare, slow, page) = (file("bare.json"), file("slow.json"), file("slow.html"));
    let url = url(lab);
    let load = ["--calls", "150", "--connections", "2", "--warm-up", "50"];
    let without = [&["--without", &url, "--out", &bare][..], &load].concat();
    let output = report(lab, agent, &without);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let with = ["--with", &url, "--header", FAULT, "--baseline", &bare];
    let with = [&with[..], &load, &["--out", &slow, "--out", &page]].concat();
    let output = report(lab, agent, &with);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && !html.contains("http-equiv"));
    read(slow.as_ref())
}

/// What is wrong with where the fault was found.
fn misplaced(found: &Comparison) -> Option<String> {
    let of = |hop: Hop| -> &Place {
        let mut places = found.places.iter();
        places.find(|place| place.hop == Some(hop)).unwrap()
    };
    let hop = of(Hop::SidecarInbound).penalty.added_us;
    let all = calls(found).added_us;
    println!("inbound {hop:?}, whole calls by the stopwatch {all:?}");
    assert_eq!(hop.may_be_nothing(), Some(false));
    // Envoy's timers fire up to a millisecond late, so what was put in is what calls took longer.
    if all.value < 1e3 * FAULT_MS as f64 || (hop.value / all.value - 1.0).abs() >= NEAR {
        return Some(format!("{hop:?} of {all:?}"));
    }
    let elsewhere = found.places.iter().find(|place| {
        let added = place.penalty.added_us.value;
        place.hop != Some(Hop::SidecarInbound) && added.abs() >= ELSEWHERE * all.value
    });
    elsewhere.map(|place| format!("{}: {:?}", place.at, place.penalty.added_us))
}

#[test]
fn a_fault_in_one_sidecar_is_that_hops_penalty() {
    let Some(lab) = mesh::lab("report", Mode::Mtls, |options| options.patch = Some(patch)) else {
        return;
    };
    let port = free_port().unwrap();
    let agent = AgentProcess::start(&lab.agent_options(AGENT, port)).unwrap();
    // Both runs of a report meet the machine as it is: where it was slower in one of them, that is a
    // difference too.
    let mut wrong = None;
    for _ in 0..ATTEMPTS {
        let directory = tempfile::tempdir().unwrap();
        let report = slowed(&lab, &agent, directory.path());
        wrong = misplaced(&report.comparisons[0]);
        if wrong.is_none() {
            break;
        }
    }
    assert!(agent.terminate().unwrap().success());
    assert_eq!(wrong, None);
}

#[test]
fn a_conclusion_without_coverage_is_refused() {
    let Some(lab) = mesh::lab("refuse", Mode::Mtls, |_| {}) else {
        return;
    };
    let mut options = lab.agent_options(AGENT, free_port().unwrap());
    // Room for two exchanges: the others are given up before their neighbours come.
    options
        .args
        .extend(["--max-pending", "2"].map(str::to_owned));
    let agent = AgentProcess::start(&options).unwrap();
    let url = url(&lab);
    let args = [
        "--with",
        &url,
        "--calls",
        "200",
        "--runs",
        "2",
        "--warm-up",
        "20",
    ];
    let output = report(&lab, &agent, &args);
    assert!(agent.terminate().unwrap().success());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    println!("{page}");
    assert!(page.contains("the coverage does not carry it (99 % are asked for)"));
    assert!(
        page.contains("evicted"),
        "it says what became of the others"
    );
    assert!(!page.contains("| sidecar_inbound |"), "and prints no hop");
    assert!(page.contains("| run 2 |"), "the stopwatch saw every call");
}

#[test]
fn what_cannot_be_measured_is_one_sentence() {
    // Nobody listens: they were free a moment ago.
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let target = format!("http://{nobody}/");
    let run = |args: &[&str]| {
        let mut command = Command::new(AGENT);
        command.arg("report").args(args).output().unwrap()
    };
    for (args, code, words) in [
        (
            &["--with", &target, "--agent", &nobody][..],
            1,
            "does it run there?",
        ),
        (
            &["--with", &target, "--out", "/no/such/place.md"],
            1,
            "a directory that is there",
        ),
        (
            &["--with", &target, "--baseline", "/no/such.json"],
            1,
            "cannot read the baseline",
        ),
        (&[], 2, "--with"),
        (
            &["--with", &target, "--min-coverage", "0.99"],
            2,
            "like 99%",
        ),
    ] {
        let output = run(args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(output.stdout.is_empty() && told.contains(words), "{told}");
    }
}
