//! `hoptrace top` beside a real agent on a real mesh.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AgentProcess, Mode, free_port};
use mesh::{load, spec};
use serde_json::Value;

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
const RATE: f64 = 200.0;

fn top(args: &[&str]) -> Output {
    let mut command = Command::new(AGENT);
    command.arg("top").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_look_shows_the_load_and_where_its_time_went() {
    let Some(lab) = mesh::lab("top", Mode::Mtls, |_| {}) else {
        return;
    };
    let port = free_port().unwrap();
    let agent = AgentProcess::start(&lab.agent_options(AGENT, port)).unwrap();
    let url = format!("127.0.0.1:{port}");
    let schedule = Schedule::Rate {
        per_second: RATE,
        seconds: 8.0,
    };
    let (json, table) = thread::scope(|scope| {
        scope.spawn(|| load(&lab, &spec(&lab, 8, schedule)));
        thread::sleep(Duration::from_millis(1_500));
        let look = ["--agent", &url, "--interval", "2s", "--once"];
        let json = top(&[&look[..], &["--json"]].concat());
        let table = top(&[&look[..], &["--filter", "capitol-info", "--sort", "p99"]].concat());
        (json, table)
    });
    assert!(agent.terminate().unwrap().success());
    assert!(json.status.success(), "{}", text(&json.stderr));
    let look: Value = serde_json::from_slice(&json.stdout).unwrap();
    let pairs = look["pairs"].as_array().unwrap();
    let pair = pairs
        .iter()
        .find(|pair| pair["service"] == "capitol-info")
        .unwrap_or_else(|| panic!("{look}"));
    let number = |name: &str| pair[name].as_f64().unwrap();
    let rate = number("requests_per_second");
    assert!((rate / RATE - 1.0).abs() < 0.15, "{rate} requests/s");
    let hops = pair["hop_mean_seconds"].as_object().unwrap();
    assert_eq!(hops.len(), 5, "{pair}");
    let told: f64 = hops.values().map(|mean| mean.as_f64().unwrap()).sum();
    let mean = number("mean_seconds");
    // Every socket is on this node: the hops add up to the whole, but for requests at the ends.
    assert!((told / mean - 1.0).abs() < 0.02, "{told} of {mean} s");
    assert!(number("p50_seconds") <= number("p99_seconds"));
    assert!(table.status.success(), "{}", text(&table.stderr));
    println!("{}", text(&table.stdout));
    let lines: Vec<_> = text(&table.stdout).lines().collect();
    assert!(
        lines[0].starts_with("source") && lines[0].ends_with("loopback"),
        "{lines:?}"
    );
    assert!(
        lines.len() > 1 && lines[1..].iter().all(|line| line.contains("capitol-info")),
        "{lines:?}"
    );
}

#[test]
fn what_cannot_be_shown_is_one_sentence() {
    // Nobody listens: it was free a moment ago.
    let port = free_port().unwrap();
    let nobody = format!("127.0.0.1:{port}");
    for (args, words) in [
        (&["--agent", &nobody, "--once"][..], "does it run there?"),
        (&["--agent", "https://10.0.0.1", "--once"], "port-forward"),
        (&["--agent", "http://", "--once"], "no address of an agent"),
    ] {
        let output = top(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let told = text(&output.stderr);
        assert!(
            told.starts_with("hoptrace: ") && told.contains(words),
            "{told}"
        );
    }
}
