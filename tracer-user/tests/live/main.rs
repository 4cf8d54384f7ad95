//! Single requests over HTTP: `/requests`, its readers, fast, slow and gone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod agent;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::LiveAgent;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracer_user::http::{Auth, Guard, bind, serve};
use tracer_user::tap::{MOST_LISTENERS, QUEUE};

const LIMIT: Duration = Duration::from_secs(10);

struct Served {
    agent: Arc<LiveAgent>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn served(shown: bool, guard: Guard) -> Served {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let agent = LiveAgent::new(shown);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, agent.clone(), guard, shutdown));
    Served {
        agent,
        address,
        stop,
        server,
    }
}

impl Served {
    async fn open(&self, path: &str, header: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}Connection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    /// All there is, of an answer that ends.
    async fn whole(&self, path: &str) -> String {
        let mut text = String::new();
        let mut stream = self.open(path, "").await;
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
        text
    }

    async fn listeners(&self, wanted: usize) {
        let there = async {
            while self.agent.tap.lock().unwrap().listeners() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, there).await.unwrap();
    }
}

/// The lines of JSON among what was sent in chunks.
fn lines(answer: &str) -> Vec<Value> {
    let lines = answer.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn requests_come_as_lines_until_there_are_enough() {
    let served = served(true, Guard::open()).await;
    let asked = served.whole("/requests?workload=orders.shop&min=2ms&limit=3");
    let told = async {
        served.listeners(1).await;
        for (to, micros) in [
            ("orders", 1_000),
            ("orders", 2_000),
            ("stock", 9_000),
            ("orders", 3_000),
            ("orders", 4_000),
            ("orders", 5_000),
        ] {
            served.agent.tell(to, micros * 1_000);
        }
    };
    let (answer, ()) = tokio::join!(asked, told);
    assert!(
        answer.contains("content-type: application/x-ndjson"),
        "{answer}"
    );
    let lines = lines(&answer);
    let durations: Vec<_> = lines
        .iter()
        .map(|line| line["duration_ns"].as_u64().unwrap())
        .collect();
    assert_eq!(durations, [2_000_000, 3_000_000, 4_000_000]);
    let first = &lines[0];
    assert_eq!(first["destination_workload"], "orders");
    assert_eq!(first["response_code"], 200);
    assert_eq!(first["sockets"], serde_json::json!(["Uc", "Ls"]));
    assert_eq!(first["stamps_ns"][0], 0);
    assert_eq!(first["stamps_ns"][11], 2_000_000);
    assert_eq!(first["stamps_ns"][1], Value::Null);
    let hops: u64 = first["hops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| hop["ns"].as_u64().unwrap())
        .sum();
    assert_eq!(hops, 2_000_000);
    assert!(first["at"].as_str().unwrap().ends_with('Z'));
    served.listeners(0).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_nobody_up() {
    let served = served(true, Guard::open()).await;
    let mut slow = served.open("/requests", "").await;
    served.listeners(1).await;
    let batches = 40;
    let mut longest = Duration::ZERO;
    for _ in 0..batches {
        let started = Instant::now();
        for _ in 0..QUEUE / 2 {
            served.agent.tell("orders", 1_000_000);
        }
        longest = longest.max(started.elapsed());
        // The server has its turn, as it has in the agent.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let handed = served.agent.tap.lock().unwrap().handed();
    assert!(handed.dropped > 0, "{handed:?}");
    let told = u64::try_from(batches * QUEUE / 2).unwrap();
    assert_eq!(handed.delivered + handed.dropped, told);
    println!("{QUEUE} / 2 requests in at most {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    // Once it reads it is told how many are missing.
    served.agent.tap.lock().unwrap().close();
    let mut text = String::new();
    let read = slow.read_to_string(&mut text);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    let (mut requests, mut dropped) = (0, 0);
    for line in lines(&text.replace("}\r\n", "}\n")) {
        match line["dropped"].as_u64() {
            Some(missed) => dropped += missed,
            None => requests += 1,
        }
    }
    assert_eq!((requests, dropped), (handed.delivered, handed.dropped));
}

#[tokio::test]
async fn who_leaves_is_forgotten_and_the_agents_end_ends_all() {
    let served = served(true, Guard::open()).await;
    let mut all = Vec::new();
    for _ in 0..MOST_LISTENERS {
        all.push(served.open("/requests", "").await);
    }
    served.listeners(MOST_LISTENERS).await;
    let refused = served.whole("/requests").await;
    assert!(refused.contains("503") && refused.contains("end one of them first"));
    all.pop();
    served.listeners(MOST_LISTENERS - 1).await;
    served.agent.tap.lock().unwrap().close();
    served.stop.send(()).unwrap();
    tokio::time::timeout(LIMIT, served.server)
        .await
        .unwrap()
        .unwrap();
    for mut reader in all {
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("0\r\n\r\n"), "a whole answer: {text:?}");
    }
}

#[tokio::test]
async fn what_is_not_shown_or_not_known_is_one_sentence() {
    let off = served(false, Guard::open()).await;
    let answer = off.whole("/requests").await;
    assert!(
        answer.contains("404") && answer.contains("--ui on"),
        "{answer}"
    );
    let on = served(true, Guard::open()).await;
    for (query, words) in [("min=5", "min=5ms"), ("a=b", "workload, min and limit")] {
        let answer = on.whole(&format!("/requests?{query}")).await;
        assert!(answer.contains("400") && answer.contains(words), "{answer}");
    }
}

#[tokio::test]
async fn who_may_not_see_metrics_may_not_see_requests() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    std::fs::write(&file, "Aladdin:open sesame\n").unwrap();
    let guard = Guard {
        auth: Auth::basic(&file).unwrap(),
        ..Guard::open()
    };
    let served = served(true, guard).await;
    for path in ["/requests", "/", "/api/slowest", "/nothing"] {
        let answer = served.whole(path).await;
        assert!(answer.contains("401 Unauthorized"), "{path}: {answer}");
    }
    let known = "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    let mut stream = served.open("/requests", known).await;
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.contains("200 OK"), "{line}");
}

/// The program, beside a runtime that serves.
async fn tail(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
    command.arg("requests").args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_tail_shows_three_lines_a_request() {
    let served = served(true, Guard::open()).await;
    let url = served.address.to_string();
    let args = [&url[..], "--limit", "2", "--workload", "orders"];
    let told = async {
        served.listeners(1).await;
        for _ in 0..2 {
            served.agent.tell("orders", 10_000_000);
        }
    };
    let (output, ()) = tokio::join!(tail(&args), told);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(
        lines[0].ends_with("web.shop → orders.shop  200  10.00 ms  (seen at Uc, Ls)"),
        "{text}"
    );
    let bar = format!("  {}{}{}", "n".repeat(7), "A".repeat(57), "n".repeat(8));
    assert_eq!(lines[1], bar, "no colours in a pipe");
    assert_eq!(lines[2], "  app 8.00 ms, network 2.00 ms");
}

#[tokio::test]
async fn the_tail_ends_in_time_and_says_why_it_cannot_begin() {
    let open = served(true, Guard::open()).await;
    let url = open.address.to_string();
    let started = Instant::now();
    let output = tail(&[&url, "--for", "300ms", "--json"]).await;
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    assert!(started.elapsed() < LIMIT);

    // It was free a moment ago.
    let nobody = {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let off = served(false, Guard::open()).await;
    let old = old_agent().await.to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    std::fs::write(&file, "x:y\n").unwrap();
    let guard = Guard {
        auth: Auth::basic(&file).unwrap(),
        ..Guard::open()
    };
    let guarded = served(true, guard).await;
    for (url, words) in [
        (&nobody[..], "does it run there?"),
        (&off.address.to_string(), "start the agent with --ui on"),
        (&old, "is older than single requests"),
        (
            &guarded.address.to_string(),
            "show a token with --token-file",
        ),
        ("https://10.0.0.1", "port-forward"),
        ("http://", "no address of an agent"),
    ] {
        let output = tail(&[url]).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(output.stdout.is_empty());
        assert!(
            told.starts_with("hoptrace: ") && told.contains(words),
            "{url}: {told}"
        );
    }
}

/// One that knows `/metrics` alone.
async fn old_agent() -> SocketAddr {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _read = stream.read(&mut head).await;
            let answer =
                "HTTP/1.1 404 Not Found\r\ncontent-length: 25\r\n\r\nnot found; try /metrics\n\n";
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}
