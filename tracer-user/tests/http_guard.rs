//! Who may scrape, and over what: TLS with certificates that change, passwords, tokens.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod kube_api;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kube_api::Server;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracer_user::http::{Auth, Exposition, Guard, Tls, bind, serve};

struct Agent;

impl Exposition for Agent {
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(b"up 1\n")
    }

    fn ready(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

/// Serves until the test is over.
async fn start(guard: Guard) -> SocketAddr {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        Arc::new(Agent),
        guard,
        std::future::pending(),
    ));
    address
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    header: &str,
) -> io::Result<String> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn plain(address: SocketAddr, path: &str, header: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    talk(stream, path, header).await.unwrap()
}

/// Writes a new certificate for `agent` and its key; returns the certificate.
fn certify(certificate: &Path, key: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    fs::write(certificate, made.cert.pem()).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Asks over TLS, trusting one certificate alone.
async fn secret(address: SocketAddr, trusted: &CertificateDer<'static>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("agent").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await?;
    talk(stream, "/metrics", "").await
}

#[tokio::test]
async fn a_new_certificate_needs_no_new_agent() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("tls.crt"),
        directory.path().join("tls.key"),
    );
    let first = certify(&certificate, &key);
    let guard = Guard {
        tls: Some(Tls::new(&certificate, &key).unwrap()),
        ..Guard::open()
    };
    let address = start(guard).await;
    assert!(secret(address, &first).await.unwrap().ends_with("up 1\n"));
    // Who speaks no TLS gets no answer.
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = talk(stream, "/metrics", "").await.unwrap_or_default();
    assert!(!answer.contains("up 1"), "{answer}");

    let second = certify(&certificate, &key);
    assert!(secret(address, &second).await.unwrap().ends_with("up 1\n"));
    assert!(secret(address, &first).await.is_err(), "the former is gone");

    // One that cannot be used leaves the one before.
    fs::write(&key, "nothing").unwrap();
    assert!(secret(address, &second).await.unwrap().ends_with("up 1\n"));
    let third = certify(&certificate, &key);
    assert!(secret(address, &third).await.unwrap().ends_with("up 1\n"));
}

#[tokio::test]
async fn a_password_is_asked_for_all_but_probes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    // The example of RFC 7617.
    fs::write(&file, "# scrapers\nAladdin:open sesame\n").unwrap();
    let guard = Guard {
        auth: Auth::basic(&file).unwrap(),
        ..Guard::open()
    };
    let address = start(guard).await;
    let aladdin = "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    let cases = [
        ("/metrics", "", "401 Unauthorized"),
        (
            "/metrics",
            "Authorization: Basic eDp5\r\n",
            "401 Unauthorized",
        ),
        (
            "/metrics",
            "Authorization: Bearer x\r\n",
            "401 Unauthorized",
        ),
        ("/metrics", aladdin, "200 OK"),
        ("/", "", "401 Unauthorized"),
        ("/requests", "", "401 Unauthorized"),
        ("/readyz", "", "200 OK"),
        ("/healthz", "", "200 OK"),
    ];
    for (path, header, status) in cases {
        let answer = plain(address, path, header).await;
        assert!(answer.contains(status), "{path} {header}: {answer}");
        let asks = answer.contains("www-authenticate: Basic realm=\"hoptrace\"");
        assert_eq!(asks, status.starts_with("401"), "{answer}");
    }
    fs::write(&file, "x:y\n").unwrap();
    assert!(
        plain(address, "/metrics", aladdin).await.contains("401"),
        "taken back"
    );
    let answer = plain(address, "/metrics", "Authorization: basic eDp5\r\n").await;
    assert!(answer.contains("200 OK"), "{answer}");
    fs::remove_file(&file).unwrap();
    assert!(
        plain(address, "/metrics", aladdin).await.contains("503"),
        "gone"
    );
}

#[tokio::test]
async fn the_api_knows_and_allows_who_scrapes() {
    let mut server = Server::new();
    server.up();
    let mut api = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    api.default_retry = false;
    let guard = Guard {
        auth: Auth::token(kube::Client::try_from(api).unwrap()),
        ..Guard::open()
    };
    let address = start(guard).await;
    let cases = [
        ("", "401"),
        ("Authorization: Basic eDp5\r\n", "401"),
        ("Authorization: Bearer stranger\r\n", "401"),
        ("Authorization: Bearer grafana\r\n", "403"),
        ("Authorization: Bearer prometheus\r\n", "200 OK"),
    ];
    for _again in 0..2 {
        for (header, status) in cases {
            let answer = plain(address, "/metrics", header).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{header}: {answer}"
            );
        }
    }
    // Two reviews for who is known, one for a stranger; what was said holds for a while.
    assert_eq!(server.cluster().requests.len(), 5);
    assert!(plain(address, "/readyz", "").await.contains("200 OK"));

    server.down();
    let answer = plain(address, "/metrics", "Authorization: Bearer prometheus\r\n").await;
    assert!(answer.contains("200 OK"), "{answer}");
    let answer = plain(address, "/metrics", "Authorization: Bearer new\r\n").await;
    assert!(answer.contains("503"), "nobody can tell: {answer}");
}

#[test]
fn what_cannot_guard_is_one_clear_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (
        directory.path().join("a.crt"),
        directory.path().join("a.key"),
    );
    let _made = certify(&certificate, &key);
    let cert = format!("--tls-cert={}", certificate.display());
    let lines = path("lines", "a:b\nsecret-without-user\n");
    let junk = path("junk", "junk");
    let cases = [
        (
            vec![cert.clone()],
            "--tls-cert and --tls-key belong together",
        ),
        (
            vec![cert.clone(), format!("--tls-key={junk}")],
            "cannot serve TLS with",
        ),
        (vec![cert, "--tls-key=/not/there".to_owned()], "/not/there"),
        (
            vec!["--auth=basic:/not/there".to_owned()],
            "cannot read /not/there",
        ),
        (
            vec![format!("--auth=basic:{lines}")],
            "lines:2: not user:password",
        ),
        (vec!["--auth=token-review".to_owned()], "give --kubeconfig"),
        (
            vec!["--auth=x".to_owned()],
            "write `none`, `basic:FILE` or `token-review`",
        ),
    ];
    for (args, sentence) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
        command.arg("agent").args(&args).arg("--listen=127.0.0.1:0");
        let done = command
            .env_remove("KUBERNETES_SERVICE_HOST")
            .output()
            .unwrap();
        let words = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success(), "{args:?}");
        assert!(words.contains(sentence), "{args:?}: {words}");
        assert!(!words.contains("secret"), "{words}");
    }
}
