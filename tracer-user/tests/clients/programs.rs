//! The programs of others, started in the pods as their apps, and what they tell themselves.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hoptrace_lab::kit::{self, Kit};
use hoptrace_lab::spawn::{self, APP_USER};
use hoptrace_lab::{CLIENT_PORT, Pod, Target};

use crate::ends::{Asked, Bench, Running};
use crate::sidecars::{NODE, TOMCAT};

/// Connections, and requests over all of them.
const CONNECTIONS: usize = 4;
const REQUESTS: usize = 200;
/// Runs of the collection, which has four requests.
const ITERATIONS: usize = 25;

/// Where a server is, and what of it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) path: &'static str,
}

/// NGINX of the pod capitol-client.
pub(crate) const NGINX: Server = Server {
    port: CLIENT_PORT,
    path: "",
};

/// Starts every server, waits until they listen, and lets the JVM get warm.
pub(crate) fn serve(bench: &Bench<'_>) -> Vec<Running> {
    let kit = Kit::find().unwrap();
    let directory = directory(bench);
    kit.lay_out(&directory).unwrap();
    chown(&directory, Some(APP_USER), Some(APP_USER)).unwrap();
    let log = bench.log();
    let own = log.parent().unwrap();
    let mut node = spawn::from_own_directory(&kit.node()).unwrap();
    node.arg(directory.join("server.mjs"));
    node.arg(NODE.to_string()).arg(&log);
    let home = own.join("tomcat");
    let tomcat = kit::tomcat(&home, own, TOMCAT).unwrap();
    give(&home);
    let started = [(node, NODE), (tomcat, TOMCAT)];
    let running: Vec<_> = started
        .into_iter()
        .map(|(mut command, port)| {
            spawn::log_to(&mut command, &own.join(format!("{port}.log"))).unwrap();
            let child = bench.start(Pod::Info, &mut command);
            Running::when_it_answers(child, &Pod::Info.netns(bench.name()), port)
        })
        .collect();
    for (port, path) in [(TOMCAT, "index.jsp?delay=1"), (NODE, "?delay=1")] {
        bench.curls(Server { port, path });
    }
    running
}

/// A directory with all that is in it becomes the app's.
fn give(directory: &Path) {
    let mut own = Command::new("chown");
    own.args(["--recursive", &format!("{APP_USER}:{APP_USER}")]);
    assert!(own.arg(directory).status().unwrap().success());
}

fn directory(bench: &Bench<'_>) -> PathBuf {
    bench.lab.state().dir.join("kit")
}

/// The text of a program that ended well.
fn output(child: Child, what: &str) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{what}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The columns of these names of each line of comma-separated values.
fn columns<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> impl Iterator<Item = [&'a str; N]> {
    let mut lines = text.lines();
    let head: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let at = names.map(|name| head.iter().position(|column| *column == name).unwrap());
    lines.map(move |line| {
        let fields: Vec<_> = line.split(',').collect();
        at.map(|at| fields[at])
    })
}

fn asked(seconds: f64, status: &str) -> Asked {
    Asked {
        took: Some((seconds * 1e9) as u64),
        status: status.parse().unwrap(),
    }
}

impl Bench<'_> {
    fn url_of(&self, server: Server) -> String {
        let target = if server.port == CLIENT_PORT {
            Target::Page
        } else {
            Target::Info
        };
        let url = self.lab.url(Pod::Load, target);
        let url = url.replace(":8080/", &format!(":{}/", server.port));
        url + server.path
    }

    /// A file that does not exist yet, which the load pod's app may write.
    fn file(&self, name: &str) -> PathBuf {
        let path = directory(self).join(name);
        let _old = std::fs::remove_file(&path);
        path
    }

    pub(crate) fn curls(&self, server: Server) -> Vec<Asked> {
        let size = (CONNECTIONS, REQUESTS / CONNECTIONS);
        self.curl(Pod::Load, &self.url_of(server), size, &[])
    }

    pub(crate) fn oha(&self, server: Server) -> Vec<Asked> {
        let mut command = spawn::from_own_directory(&Kit::oha().unwrap()).unwrap();
        command.args(["--no-tui", "--output-format", "csv"]);
        command.args(["-c", &CONNECTIONS.to_string(), "-n", &REQUESTS.to_string()]);
        command.arg(self.url_of(server));
        let text = output(self.start(Pod::Load, &mut command), "oha");
        let names = ["DNS+dialup", "Response-delay", "status"];
        columns(&text, names)
            .map(|[dialup, delay, status]| {
                // The first of a connection counts from before that was opened.
                let seconds = |text: &str| text.parse::<f64>().unwrap();
                asked(seconds(delay) - seconds(dialup), status)
            })
            .collect()
    }

    pub(crate) fn h2load(&self, server: Server) -> Vec<Asked> {
        let log = self.file("h2load.log");
        let mut command = Command::new("h2load");
        command.args(["--h1", "-c", &CONNECTIONS.to_string()]);
        command.args(["-n", &REQUESTS.to_string(), "--log-file"]);
        command.arg(&log).arg(self.url_of(server));
        output(self.start(Pod::Load, &mut command), "h2load");
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines()
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                asked(fields[2].parse::<f64>().unwrap() / 1e6, fields[1])
            })
            .collect()
    }

    pub(crate) fn k6(&self, server: Server) -> Vec<Asked> {
        let more = [("URL", self.url_of(server))];
        self.k6_runs("http.js", &more, "http_req_waiting")
    }

    /// A script, and the times that k6 has under a name.
    pub(crate) fn k6_runs(
        &self,
        script: &str,
        variables: &[(&str, String)],
        metric: &str,
    ) -> Vec<Asked> {
        let file = self.file("k6.csv");
        let kit = Kit::find().unwrap();
        let mut command = spawn::from_own_directory(&kit.k6()).unwrap();
        command.args(["run", "--quiet", "--no-usage-report", "--no-summary"]);
        command.args(["--vus", &CONNECTIONS.to_string()]);
        command.args(["--iterations", &REQUESTS.to_string(), "--out"]);
        command.arg(format!("csv={}", file.display()));
        for (name, value) in variables {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.env("HOME", directory(self));
        command.arg(directory(self).join(script));
        output(self.start(Pod::Load, &mut command), "k6");
        let text = std::fs::read_to_string(&file).unwrap();
        columns(&text, ["metric_name", "metric_value", "status"])
            .filter(|[name, ..]| *name == metric)
            .map(|[_, milliseconds, status]| {
                asked(milliseconds.parse::<f64>().unwrap() / 1e3, status)
            })
            .collect()
    }

    pub(crate) fn newman(&self) -> Vec<Asked> {
        let file = self.file("newman.json");
        let kit = Kit::find().unwrap();
        let directory = directory(self);
        let gateway = self.lab.url(Pod::Load, Target::Gateway);
        let mut command = spawn::from_own_directory(&kit.node()).unwrap();
        command.arg(directory.join("newman/node_modules/newman/bin/newman.js"));
        command.arg("run").arg(directory.join("capitol.json"));
        command.args([
            "--env-var",
            &format!("gateway={}", gateway.trim_end_matches('/')),
        ]);
        command.args(["--iteration-count", &ITERATIONS.to_string()]);
        command.args(["--reporters", "json", "--reporter-json-export"]);
        command.arg(&file).env("HOME", &directory);
        command.env("NODE_OPTIONS", "--no-deprecation");
        output(self.start(Pod::Load, &mut command), "newman");
        let text = std::fs::read(&file).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let executions = told["run"]["executions"].as_array().unwrap();
        executions
            .iter()
            .map(|execution| Asked {
                took: None,
                status: execution["response"]["code"].as_u64().unwrap() as u16,
            })
            .collect()
    }
}
