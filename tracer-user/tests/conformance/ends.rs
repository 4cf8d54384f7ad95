//! The programs at both ends of a case, and what they saw themselves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoptrace_lab::spawn::{self, APP_USER, Place, SIDECAR_USER};
use hoptrace_lab::wire::{Answers, Served, Wish};
use hoptrace_lab::{Container, Lab, Pod, cgroup, envoy, netns, wait};

/// One exchange as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// First byte out to first byte in, nanoseconds; `None` where there was no answer.
    pub(crate) took: Option<u64>,
    /// Status, 0 when there is none.
    pub(crate) status: u16,
}

/// A program that ends with this.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn when_it_answers(child: Child, netns: &str, port: u16) -> Self {
        let running = Self(child);
        netns::within(netns, || {
            wait::until("a server of the test", Duration::from_secs(20), || {
                let there = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
                Ok(there.then_some(()))
            })
        })
        .unwrap();
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        let _ended = self.0.wait();
    }
}

/// A lab and what runs in it.
pub(crate) struct Bench<'a> {
    pub(crate) lab: &'a Lab,
}

impl Bench<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.lab.state().name
    }

    fn place(&self, pod: Pod) -> (String, PathBuf) {
        let cgroup = self.lab.container_cgroup(pod, Container::App);
        (pod.netns(self.name()), cgroup)
    }

    /// Starts a program in a pod, in its app's container.
    pub(crate) fn start(&self, pod: Pod, command: &mut Command) -> Child {
        let (netns, cgroup) = self.place(pod);
        let place = Place {
            netns: &netns,
            cgroup: Some(&cgroup),
            user: APP_USER,
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        spawn::spawn(command, place).unwrap()
    }

    /// `hoptrace-wire ask`.
    pub(crate) fn ask(&self, pod: Pod, wish: &Wish) -> Vec<Asked> {
        let program = crate::mesh::lab_binaries().join("hoptrace-wire");
        let mut command = spawn::from_own_directory(&program).unwrap();
        let mut child = self.start(pod, command.arg("ask"));
        let input = serde_json::to_vec(wish).unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answers: Answers = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answers.failures.is_empty(), "{:?}", answers.failures);
        let asked = |answer: &hoptrace_lab::wire::Answer| Asked {
            took: answer.first.checked_sub(answer.sent),
            status: answer.status,
        };
        answers.exchanges.iter().map(asked).collect()
    }

    /// curl, `connections` of it, each for `count` times the same URL over one connection.
    pub(crate) fn curl(
        &self,
        pod: Pod,
        url: &str,
        (connections, count): (usize, usize),
        args: &[&str],
    ) -> Vec<Asked> {
        let config = format!("url = \"{url}\"\noutput = \"/dev/null\"\n").repeat(count);
        let mut children: Vec<_> = (0..connections)
            .map(|_| {
                let mut command = Command::new("curl");
                command.args([
                    "--silent",
                    "--show-error",
                    "--config",
                    "-",
                    "--max-time",
                    "60",
                ]);
                let told = "%{time_pretransfer} %{time_starttransfer} %{response_code}\\n";
                command.args(["--write-out", told]).args(args);
                let mut child = self.start(pod, &mut command);
                // All have begun before the first is fed.
                let input = child.stdin.take().unwrap();
                (child, input)
            })
            .collect();
        for (_, input) in &mut children {
            input.write_all(config.as_bytes()).unwrap();
        }
        let mut asked = Vec::new();
        for (child, input) in children {
            drop(input);
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "curl {url}");
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let mut words = line.split(' ');
                let mut seconds = || words.next().unwrap().parse::<f64>().unwrap();
                let (before, first, status) = (seconds(), seconds(), seconds());
                asked.push(Asked {
                    took: Some(((first - before) * 1e9) as u64),
                    status: status as u16,
                });
            }
        }
        asked
    }

    /// A server of the odd kind on a port, in a pod or outside all of them.
    pub(crate) fn serve(&self, pod: Option<Pod>, port: u16) -> Running {
        let program = crate::mesh::lab_binaries().join("hoptrace-wire");
        let mut command = spawn::from_own_directory(&program).unwrap();
        command.args(["serve", "--http", &format!("0.0.0.0:{port}")]);
        command.arg("--log").arg(self.log());
        let child = match pod {
            Some(pod) => self.start(pod, &mut command),
            None => self.start_outside(&mut command, None, APP_USER),
        };
        let netns = pod.map_or_else(|| self.node(), |pod| pod.netns(self.name()));
        Running::when_it_answers(child, &netns, port)
    }

    fn node(&self) -> String {
        format!("ht-{}-node", self.name())
    }

    fn start_outside(&self, command: &mut Command, cgroup: Option<&Path>, user: u32) -> Child {
        let place = Place {
            netns: &self.node(),
            cgroup,
            user,
        };
        spawn::spawn(command.stdin(Stdio::null()), place).unwrap()
    }

    /// An Envoy on the node's address that sends everything to capitol-info, with the certificate and
    /// the access log of capitol-client.
    pub(crate) fn gateway(&self, port: u16) -> Running {
        let state = self.lab.state();
        let text = std::fs::read(state.dir.join("client-envoy.json")).unwrap();
        let bootstrap = crate::envoy::gateway(&serde_json::from_slice(&text).unwrap(), port);
        let config = state.dir.join("gateway-envoy.json");
        std::fs::write(&config, bootstrap.to_string()).unwrap();
        let cgroup = self.lab.cgroup_root().join("gateway");
        let _created = cgroup::create(&cgroup).unwrap();
        let mut command = spawn::from_own_directory(&envoy::find().unwrap()).unwrap();
        command.arg("--config-path").arg(&config);
        command.args(["--concurrency", "2", "--disable-hot-restart"]);
        command.args(["--file-flush-interval-msec", "50", "--log-level", "warning"]);
        let child = self.start_outside(&mut command, Some(&cgroup), SIDECAR_USER);
        Running::when_it_answers(child, &self.node(), port)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.lab.state().dir.join("info/wire.log")
    }

    /// How much there is of the server's log.
    pub(crate) fn served_so_far(&self) -> usize {
        std::fs::read(self.log()).map_or(0, |bytes| bytes.len())
    }

    /// What the server saw since.
    pub(crate) fn served_since(&self, start: usize) -> Vec<Served> {
        // A line is written behind its answer.
        std::thread::sleep(Duration::from_millis(50));
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        let lines = bytes[start.min(bytes.len())..].split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}
