//! The programs of others that speak HTTP/2.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command};

use hoptrace_lab::kit::Kit;
use hoptrace_lab::spawn::{self, APP_USER};
use hoptrace_lab::{Pod, Target};

use crate::WAIT;
use crate::ends::{Asked, Bench, Running};

/// A server's port in the pod capitol-info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) path: &'static str,
}

/// Node, which waits and logs.
pub(crate) const NODE: Server = Server {
    port: 8083,
    path: "?delay=25&size=500",
};
/// NGINX, which answers at once.
pub(crate) const NGINX: Server = Server {
    port: 8084,
    path: "",
};
/// Python's gRPC.
pub(crate) const PYTHON: Server = Server {
    port: 8085,
    path: "",
};

const REQUESTS: usize = 200;

impl Server {
    /// Where the load pod finds it.
    fn url(self, bench: &Bench<'_>) -> String {
        let url = bench.lab.url(Pod::Load, Target::Info);
        url.replace(":8080/", &format!(":{}/", self.port))
    }
}

fn directory(bench: &Bench<'_>) -> PathBuf {
    bench.lab.state().dir.join("kit")
}

fn python(bench: &Bench<'_>, script: &str) -> Command {
    let directory = directory(bench);
    let mut command = Command::new("python3");
    command.arg(directory.join(script));
    command.env("PYTHONPATH", directory.join("python"));
    command
}

/// Starts every server and waits until they listen.
pub(crate) fn serve(bench: &Bench<'_>) -> Vec<Running> {
    let kit = Kit::find().unwrap();
    let directory = directory(bench);
    kit.lay_out(&directory).unwrap();
    chown(&directory, Some(APP_USER), Some(APP_USER)).unwrap();
    let log = bench.log();
    let own = log.parent().unwrap();
    let mut node = spawn::from_own_directory(&kit.node()).unwrap();
    node.arg(directory.join("server.mjs"));
    node.arg(NODE.port.to_string()).arg(&log).arg("h2");
    let config = directory.join("nginx.conf");
    std::fs::write(&config, nginx(&directory)).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&config);
    let mut grpc = python(bench, "server.py");
    grpc.arg(PYTHON.port.to_string()).arg(&log);
    let started = [(node, NODE), (nginx, NGINX), (grpc, PYTHON)];
    started
        .into_iter()
        .map(|(mut command, server)| {
            spawn::log_to(&mut command, &own.join(format!("{}.log", server.port))).unwrap();
            let child = bench.start(Pod::Info, &mut command);
            Running::when_it_answers(child, &Pod::Info.netns(bench.name()), server.port)
        })
        .collect()
}

fn nginx(directory: &std::path::Path) -> String {
    let dir = directory.display();
    let port = NGINX.port;
    format!(
        "worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen {port} http2; location / {{ return 200 \"x\"; }} }}
}}
"
    )
}

/// The text of a program that ended well.
fn output(child: Child, what: &str) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{what}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// So many streams in flight on one connection.
pub(crate) fn h2load(bench: &Bench<'_>, server: Server, in_flight: usize) -> Vec<Asked> {
    let log = directory(bench).join("h2load.log");
    let _old = std::fs::remove_file(&log);
    let mut command = Command::new("h2load");
    command.args(["-c", "1", "-m", &in_flight.to_string()]);
    command.args(["-n", &REQUESTS.to_string(), "--log-file"]);
    command.arg(&log).arg(server.url(bench) + server.path);
    output(bench.start(Pod::Load, &mut command), "h2load");
    let text = std::fs::read_to_string(&log).unwrap();
    text.lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            Asked {
                took: Some(fields[2].parse::<u64>().unwrap() * 1_000),
                status: fields[1].parse().unwrap(),
            }
        })
        .collect()
}

/// Calls of Python's client: `status` is gRPC's.
pub(crate) fn grpc(
    bench: &Bench<'_>,
    server: Server,
    method: &str,
    in_flight: usize,
) -> Vec<Asked> {
    let mut command = python(bench, "client.py");
    let url = server.url(bench);
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    command.arg(address);
    command.arg(method).arg(WAIT.to_string());
    command.arg(REQUESTS.to_string()).arg(in_flight.to_string());
    let text = output(bench.start(Pod::Load, &mut command), "client.py");
    text.lines()
        .map(|line| {
            let told: serde_json::Value = serde_json::from_str(line).unwrap();
            Asked {
                took: told["took"].as_u64(),
                status: u16::try_from(told["status"].as_u64().unwrap()).unwrap(),
            }
        })
        .collect()
}
