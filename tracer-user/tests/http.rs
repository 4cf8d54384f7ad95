//! The HTTP side over real sockets.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn ready(&self) -> Result<String, String> {
        match self.attached.load(Ordering::Relaxed) {
            true => Ok("degraded: names\n".to_owned()),
            false => Err("the hooks are not attached yet".to_owned()),
        }
    }
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
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
