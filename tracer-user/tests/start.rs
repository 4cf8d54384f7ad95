//! The agent told to end while it still waits for the first lists of an API that never answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an error is the result of the test"
)]

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoptrace_lab::{free_port, need_root};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// It waits 10 s for the lists; a busy machine gets a part of that.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Ends it if the test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn it_ends_at_once_while_the_api_is_silent() {
    need_root().unwrap();
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        // Connections are taken, and nobody answers.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", silent.local_addr().unwrap());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kubeconfig");
        std::fs::write(&file, kubeconfig.to_string()).unwrap();

        let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
        command.args(["agent", "--identity=kubernetes", "--node-name=n1"]);
        command.arg("--kubeconfig").arg(&file);
        command
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", free_port().unwrap()));
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut agent = Agent(child);
        // It asks: now it waits for the answer.
        silent.set_nonblocking(true).unwrap();
        let mut asked = loop {
            match silent.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert_eq!(agent.0.try_wait().unwrap(), None, "it has ended");
            std::thread::sleep(Duration::from_millis(1));
        };
        asked.set_nonblocking(false).unwrap();
        asked.set_read_timeout(Some(AT_ONCE)).unwrap();
        assert_ne!(asked.read(&mut [0; 16]).unwrap(), 0);

        let pid = Pid::from_child(&agent.0);
        kill_process(pid, signal).unwrap();
        let told = Instant::now();
        let status = loop {
            if let Some(status) = agent.0.try_wait().unwrap() {
                break status;
            }
            assert!(told.elapsed() < AT_ONCE, "{name} is not heard");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut words = String::new();
        let mut stderr = agent.0.stderr.take().unwrap();
        stderr.read_to_string(&mut words).unwrap();
        assert!(status.success(), "{status}: {words}");
        let line = format!("{name}: ended before anything was measured");
        assert!(words.contains(&line), "{words}");
        assert!(!words.contains("hooks attached"), "{words}");
    }
}
