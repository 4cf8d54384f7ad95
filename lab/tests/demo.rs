//! The demo's load and its Postman collection, against the services they are for.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use common::{assert_gone, options};
use hoptrace_lab::{Lab, Mode, Pod, bin_dir, free_port};
use serde_json::Value;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo")
}

/// `load.sh` as the Job runs it, in the network of the lab's load pod.
fn load(lab: &Lab, script: &str, gateway: &str) -> Output {
    let network = format!("--net=/run/netns/{}", Pod::Load.netns(&lab.state().name));
    let path = format!("{}:/usr/bin:/bin", bin_dir().unwrap().display());
    let mut command = Command::new("nsenter");
    command
        .args([&network, "sh", "-c", script])
        .env_clear()
        .env("PATH", path)
        .envs([("CALLS", "50"), ("RUNS", "3"), ("CONNECTIONS", "10")])
        .env("CAPITOL_CLIENT_SERVICE_HOST", gateway);
    command.output().unwrap()
}

#[test]
fn the_job_reports_every_run_and_fails_when_nobody_answers() {
    let Some(options) = options("demoload", Mode::None) else {
        return;
    };
    let lab = Lab::up(&options).unwrap();
    let script = fs::read_to_string(demo().join("load/load.sh")).unwrap();
    let gateway = Pod::Client.ip_v4().to_string();
    let output = load(&lab, &script, &gateway);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let runs: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let order: Vec<_> = runs
        .iter()
        .map(|run| {
            (
                run["method"].as_str().unwrap(),
                run["run"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("GET", 1),
        ("GET", 2),
        ("GET", 3),
        ("POST", 1),
        ("POST", 2),
        ("POST", 3),
    ];
    assert_eq!(order, expected);
    assert!(
        runs.iter().all(|run| run["report"]["succeeded"] == 50),
        "{said}"
    );

    // An answer of 404 to every call, and nobody there at all.
    let elsewhere = script.replace("/api/capitols", "/api/capitals");
    for (script, gateway) in [(&elsewhere, gateway.as_str()), (&script, "10.77.0.99")] {
        let impatient = script.replace("-ge 60", "-ge 2");
        let output = load(&lab, &impatient, gateway);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("does not answer"),
            "{said}"
        );
    }
    lab.down().unwrap();
    assert_gone(&options.name);
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn capitol_info() -> (Server, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let program = env!("CARGO_BIN_EXE_capitol-info");
    let child = Command::new(program)
        .args(["--listen", &address.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{address} does not answer"
        );
        thread::sleep(Duration::from_millis(20));
    }
    (server, address)
}

/// The names in double braces, replaced.
fn resolve(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables
        .iter()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        })
}

/// Status and body of one request.
fn ask(method: &str, url: &str, body: &str) -> (u16, Value) {
    let (host, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn the_collection_gets_what_its_tests_ask_for() {
    let text = fs::read_to_string(demo().join("capitol.postman_collection.json")).unwrap();
    let collection: Value = serde_json::from_str(&text).unwrap();
    let mut variables: BTreeMap<_, _> = collection["variable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| {
            let text = |key: &str| variable[key].as_str().unwrap().to_owned();
            (text("key"), text("value"))
        })
        .collect();
    let (_server, address) = capitol_info();
    variables.insert("gateway".to_owned(), format!("http://{address}"));
    let items = collection["item"].as_array().unwrap();
    for item in items {
        let request = &item["request"];
        let url = resolve(request["url"].as_str().unwrap(), &variables);
        let body = request["body"]["raw"].as_str().unwrap_or_default();
        let (status, answer) = ask(request["method"].as_str().unwrap(), &url, body);
        let script = item["event"][0]["script"]["exec"].to_string();
        let asked = format!("have.status({status})");
        assert!(script.contains(&asked), "{url}: {status}, not by {script}");
        if script.contains("collectionVariables.set('id'") {
            variables.insert("id".to_owned(), answer["id"].to_string());
        }
        if script.contains("equal('Lutetia')") {
            assert_eq!(answer["city"], "Lutetia", "{url}");
        }
    }
    assert_eq!(items.len(), 4);
}
