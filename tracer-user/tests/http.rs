//! The HTTP side over real sockets.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracer_user::http::{Exposition, Guard, bind, serve};

#[derive(Default)]
struct Agent {
    attached: AtomicBool,
}

impl Exposition for Agent {
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(b"up 1\n")
    }

    fn ready(&self) -> Result<String, String> {
        match self.attached.load(Ordering::Relaxed) {
            true => Ok("degraded: names\n".to_owned()),
            false => Err("the hooks are not attached yet".to_owned()),
        }
    }
}

async fn ask(address: std::net::SocketAddr, request: &'static str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_path_answers_and_shutdown_ends_it() {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let agent = Arc::new(Agent::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, agent.clone(), Guard::open(), shutdown));

    let cases = [
        (
            "GET /metrics",
            "200 OK",
            "content-type: text/plain; version=0.0.4",
            "up 1\n",
        ),
        ("HEAD /metrics", "200 OK", "content-length: 5", ""),
        ("GET /metrics?x=1", "200 OK", "", "up 1\n"),
        ("GET /healthz", "200 OK", "", "ok\n"),
        (
            "GET /readyz",
            "503 Service Unavailable",
            "",
            "the hooks are not attached yet\n",
        ),
        ("GET /", "200 OK", "content-type: text/html", "/readyz</a>"),
        ("GET /nothing", "404 Not Found", "", "/metrics"),
        (
            "POST /metrics",
            "405 Method Not Allowed",
            "allow: GET, HEAD",
            "",
        ),
        ("\u{1}\u{2} ", "400 Bad Request", "", ""),
    ];
    for (request, status, header, body) in cases {
        let answer = ask(address, request).await;
        for part in [status, header, body] {
            assert!(
                answer.contains(part),
                "{request:?}: `{part}` is not in {answer:?}"
            );
        }
    }
    agent.attached.store(true, Ordering::Relaxed);
    let ready = ask(address, "GET /readyz").await;
    assert!(ready.contains("200 OK"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nok\ndegraded: names\n"), "{ready}");

    // An idle connection does not hold the agent up.
    let _idle = TcpStream::connect(address).await.unwrap();
    tokio::task::yield_now().await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server)
        .await
        .unwrap()
        .unwrap();
}

/// Metrics that are not done before the test says so.
struct Slow {
    begun: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Exposition for Slow {
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        (0..1_000).try_for_each(|line| writeln!(out, "up{{line=\"{line}\"}} 1"))
    }

    fn ready(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

/// The runtime has one thread, as the agent's has.
#[tokio::test]
async fn metrics_are_written_beside_everything_else_one_scrape_at_a_time() {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, begins) = mpsc::channel();
    let (go_on, continues) = mpsc::channel();
    let slow = Arc::new(Slow {
        begun,
        go_on: Mutex::new(continues),
    });
    let shutdown = std::future::pending();
    let server = tokio::spawn(serve(listener, slow, Guard::open(), shutdown));

    let first = tokio::spawn(ask(address, "GET /metrics"));
    let second = tokio::spawn(ask(address, "GET /metrics"));
    let until_begun = async {
        while begins.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, until_begun).await.unwrap();
    // One is being written; the thread that serves is free, and the other waits for its turn.
    let healthy = tokio::time::timeout(limit, ask(address, "GET /healthz"));
    assert!(healthy.await.unwrap().contains("200 OK"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(begins.try_recv().is_err(), "two are written at a time");

    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    for answer in [first, second] {
        let answer = tokio::time::timeout(limit, answer).await.unwrap().unwrap();
        assert!(answer.ends_with("up{line=\"999\"} 1\n"), "{answer}");
        assert!(answer.contains("vary: accept-encoding"), "{answer}");
        assert!(!answer.contains("content-encoding"), "{answer}");
    }

    go_on.send(()).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                   Accept-Encoding: zstd, gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.unwrap() + 4);
    let head = std::str::from_utf8(head).unwrap();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(body)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text.lines().count(), 1_000);
    server.abort();
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence() {
    let first = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {address}: the port is taken; \
             stop the other process or choose a port with --listen"
        )
    );
}
