//! The service over a real socket.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::store::{NewCapitol, Store};
use super::{router, serve};

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(listen: &str) -> Self {
        let listen = listen.parse().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = serve::open(listen).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let store = Arc::new(Store::in_memory().unwrap());
                let stop = async { stopped.await.unwrap() };
                serve::run(listener, router(store), stop).await.unwrap();
            });
        });
        let mut address: SocketAddr = told.recv().unwrap();
        // The wildcard is reached over IPv4: that is what dual-stack means.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn check(&self, line: &str, body: &str, status: u16, expected: Value) {
        let (got, text) = self.ask(line, "", body);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((got, answer), (status, expected), "{line} {body}");
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn rows_are_read_and_written() {
    let server = Server::start("127.0.0.1:0");
    let first = json!({"id": 1, "country": "Argentina", "city": "Buenos Aires"});
    server.check("GET /capitols/1", "", 200, first.clone());
    server.check("GET /capitols?limit=1", "", 200, json!([first]));
    server.check("GET /capitols?limit=0", "", 200, json!([]));
    let burma = r#"{"country": "Burma", "city": "Rangoon"}"#;
    let myanmar = r#"{"country": "Myanmar", "city": "Naypyidaw"}"#;
    let created = json!({"id": 53, "country": "Burma", "city": "Rangoon"});
    let updated = json!({"id": 53, "country": "Myanmar", "city": "Naypyidaw"});
    server.check("POST /capitols", burma, 201, created);
    server.check("POST /capitols/53", myanmar, 200, updated.clone());
    server.check("GET /capitols/53", "", 200, updated.clone());
    server.check("GET /capitols?after=52", "", 200, json!([updated]));
    let (_, page) = server.ask("GET /capitols?limit=1000", "", "");
    let page: Vec<Value> = serde_json::from_str(&page).unwrap();
    assert_eq!(page.len(), 50);
    assert_eq!(server.ask("GET /healthz", "", ""), (200, "ok\n".to_owned()));
}

#[test]
fn wrong_requests_are_told_why() {
    let server = Server::start("127.0.0.1:0");
    let row = r#"{"country": "Burma", "city": "Rangoon"}"#;
    let cases = [
        ("GET /capitols/99", "", 404, "no capitol 99"),
        ("POST /capitols/99", row, 404, "no capitol 99"),
        ("GET /capitols/one", "", 400, "has to be a number"),
        ("GET /capitols?limit=x", "", 400, "limit has to be"),
        ("GET /nothing", "", 404, "no such path"),
        ("DELETE /capitols", "", 405, "this method"),
        ("POST /capitols", "", 400, "has to be JSON"),
        ("POST /capitols", "{", 400, "has to be JSON"),
        ("POST /capitols", r#"{"city": "Bonn"}"#, 400, "`country`"),
        (
            "POST /capitols",
            r#"{"country": "", "city": "Bonn"}"#,
            400,
            "not be empty",
        ),
        ("GET /capitols?delay_ms=10001", "", 400, "at most 10000"),
        ("GET /capitols?burn_ms=-1", "", 400, "burn_ms has to be"),
    ];
    for (line, body, status, sentence) in cases {
        let (got, text) = server.ask(line, "", body);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(got, status, "{line}");
        let error = answer["error"].as_str().unwrap();
        assert!(
            error.contains(sentence) && !error.contains('\n'),
            "{line}: {error}"
        );
    }
    let (status, _) = server.ask("POST /capitols", "", &"x".repeat(20_000));
    assert_eq!(status, 400);
}

#[test]
fn delays_are_kept() {
    let server = Server::start("127.0.0.1:0");
    let cases = [
        ("GET /capitols?limit=1&delay_ms=30", ""),
        ("GET /capitols/1?burn_ms=30", ""),
        ("GET /capitols/1", "x-delay-ms: 30\r\n"),
        ("GET /capitols/1", "x-burn-ms: 30\r\n"),
        ("GET /capitols/1?delay_ms=30", "x-delay-ms: 9000\r\n"),
    ];
    for (line, headers) in cases {
        let start = Instant::now();
        assert_eq!(server.ask(line, headers, "").0, 200);
        assert!(start.elapsed() >= Duration::from_millis(30), "{line}");
    }
}

#[test]
fn the_wildcard_takes_ipv4_clients_and_the_server_ends_when_told() {
    let mut server = Server::start("[::]:0");
    // An idle keep-alive connection does not hold the server up.
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut buffer = [0; 512];
    assert!(idle.read(&mut buffer).unwrap() > 0);
    server.stop();
    assert_eq!(idle.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_file_keeps_its_rows_and_is_seeded_once() {
    let directory = std::env::temp_dir().join(format!("hoptrace-capitol-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("capitol.db");
    let new = NewCapitol {
        country: "Nauru".to_owned(),
        city: "Yaren".to_owned(),
    };
    let id = Store::open(&file).unwrap().insert(&new).unwrap();
    let store = Store::open(&file).unwrap();
    let mut after = Vec::new();
    store
        .list(id - 1, 50, |row| after.push(row.city.to_owned()))
        .unwrap();
    assert_eq!(after, ["Yaren"]);
    std::fs::remove_dir_all(&directory).unwrap();
}
