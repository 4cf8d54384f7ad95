//! The HTTP side: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.

mod auth;
mod coding;
mod live;
mod page;
mod tls;

pub use auth::{Auth, Reviews};
pub use coding::Coding;
pub use live::{BEAT, LINES_CONTENT_TYPE, Lines, Live};
pub use tls::Tls;

use auth::Verdict;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue, REFERRER_POLICY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use live::Asked;
use page::{Api, JSON, PAGE, POLICY};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

/// Media type of Prometheus' text format.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A client that does not send its request within this time is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may last: a scraper opens another, one that never reads its answer does
/// not hold a slot for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long open requests may take once the agent is told to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Rest after a failed accept: without descriptors the next one fails at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections served at a time: a few scrapers and the kubelet. More wait in the backlog.
const MAX_CONNECTIONS: usize = 64;

const INDEX: &str = "<!doctype html><title>hoptrace</title><h1>hoptrace</h1>\
    <p><a href=\"/metrics\">/metrics</a> for Prometheus, \
    <a href=\"/healthz\">/healthz</a> while the process lives, \
    <a href=\"/readyz\">/readyz</a> once the hooks are attached.\n";

const SWITCHED_OFF: &str = "single requests are not shown here; start the agent with --ui on\n";

/// What the agent shows to the outside.
pub trait Exposition: Send + Sync + 'static {
    /// Writes the metrics in Prometheus' text format. It may take its time: it is called on a thread
    /// for that, for one scrape at a time.
    ///
    /// # Errors
    /// Those of `out`.
    fn metrics(&self, out: &mut dyn io::Write) -> io::Result<()>;
    /// Whether the hooks are attached; the text has a line for everything that is degraded all the
    /// same.
    ///
    /// # Errors
    /// The reason why not, shown to whoever asks.
    fn ready(&self) -> Result<String, String>;
    /// Single requests; `None` where they are not shown.
    fn live(&self) -> Option<&dyn Live> {
        None
    }
}

/// What is answered: a whole, or lines as they come.
type Answer = Response<Either<Full<Bytes>, Lines>>;

/// Why there is no HTTP side.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address could not be taken.
    #[error("cannot listen on {address}: {}", remedy(source))]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key are no good.
    #[error(
        "cannot serve TLS with {certificate} and {key}; give --tls-cert a PEM chain and --tls-key \
         its key"
    )]
    Tls {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// One of the two is missing.
    #[error("--tls-cert and --tls-key belong together: give both or none")]
    HalfTls,
    /// The passwords cannot be read.
    #[error("cannot read {file}; --auth basic:FILE needs a file of lines user:password")]
    Passwords {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it is none. It is not shown: it may be a password.
    #[error("{file}:{line}: not user:password; write one of them a line")]
    Password {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
    },
}

/// What stands between a client and what is served.
pub struct Guard {
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// Who may see everything but `/healthz` and `/readyz`.
    pub auth: Auth,
}

impl Guard {
    /// Nothing.
    #[must_use]
    pub const fn open() -> Self {
        Self {
            tls: None,
            auth: Auth::Nobody,
        }
    }
}

fn remedy(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken; stop the other process or choose a port",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address; choose another",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port"
        }
        _ => "choose another address",
    };
    format!("{hint} with --listen")
}

/// Takes the address.
///
/// # Errors
/// When it is taken or not ours; the sentence names the address and the remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| HttpError::Bind { address, source })
}

/// Serves until `shutdown` is done, then lets open requests finish.
pub async fn serve(
    listener: TcpListener,
    exposition: Arc<dyn Exposition>,
    guard: Guard,
    shutdown: impl Future<Output = ()>,
) {
    let served = Arc::new(Served {
        exposition,
        guard,
        turn: Arc::default(),
    });
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed, so a slot always comes.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (stream, slot) = accepted => match stream {
                Ok((stream, _peer)) => connection(stream, &served, graceful.watcher(), slot),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("a client took too long to finish; its connection is cut");
    }
}

/// What every connection needs.
struct Served {
    exposition: Arc<dyn Exposition>,
    guard: Guard,
    /// Whose turn it is to be shown the metrics: two at a time would take twice the memory.
    turn: Arc<Mutex<()>>,
}

/// Starts to serve one connection; `slot` is held until it ends.
fn connection<S: Send + 'static>(
    stream: TcpStream,
    served: &Arc<Served>,
    watcher: Watcher,
    slot: S,
) {
    let served = Arc::clone(served);
    tokio::spawn(async move {
        let _slot = slot;
        let Some(tls) = &served.guard.tls else {
            return talk(stream, served, watcher).await;
        };
        match tokio::time::timeout(HEADER_TIMEOUT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, served, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client and this agent found no TLS"),
            Err(_elapsed) => tracing::debug!("a client took too long to begin"),
        }
    });
}

async fn talk<T>(stream: T, served: Arc<Served>, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(answer_to(&request, &served).await) }
    });
    let talk = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, watcher.watch(talk)).await {
        Ok(Ok(())) => {}
        // Clients that leave early are their own affair.
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_) => tracing::debug!("a connection was held for too long"),
    }
}

async fn answer_to(request: &Request<Incoming>, served: &Served) -> Answer {
    // The kubelet, which probes, has no credentials.
    if !matches!(request.uri().path(), "/healthz" | "/readyz") {
        match served.guard.auth.judge(request.headers()).await {
            Verdict::Allowed => {}
            Verdict::Unknown(challenge) => {
                let mut response = plain(StatusCode::UNAUTHORIZED, "say who you are\n");
                let challenge = HeaderValue::from_static(challenge);
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                return response;
            }
            Verdict::Refused => return plain(StatusCode::FORBIDDEN, "you may not get this\n"),
            Verdict::Unclear => {
                let text = "it cannot be told who you are; the agent's log says why\n";
                return plain(StatusCode::SERVICE_UNAVAILABLE, text);
            }
        }
    }
    respond(request, served).await
}

async fn respond(request: &Request<Incoming>, served: &Served) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if let (Some(api), Some(_live)) = (Api::of(path), served.exposition.live()) {
        return told(api, request.headers(), served).await;
    }
    match path {
        "/metrics" => metrics(request.headers(), served).await,
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match served.exposition.ready() {
            Ok(degraded) => plain(StatusCode::OK, format!("ok\n{degraded}")),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/requests" => requests(request.uri().query().unwrap_or_default(), served),
        "/" => index(served),
        _ => plain(StatusCode::NOT_FOUND, "not found; try /metrics\n"),
    }
}

/// Single requests, as they come.
fn requests(query: &str, served: &Served) -> Answer {
    let Some(live) = served.exposition.live() else {
        return plain(StatusCode::NOT_FOUND, SWITCHED_OFF);
    };
    let asked = match Asked::of(query) {
        Ok(asked) => asked,
        Err(sentence) => return plain(StatusCode::BAD_REQUEST, sentence),
    };
    match live.listen(asked.filter) {
        Ok(listener) => {
            let lines = Lines::new(listener, asked.limit);
            let mut response = answer(StatusCode::OK, LINES_CONTENT_TYPE, "");
            *response.body_mut() = Either::Right(lines);
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// The page; where it is switched off, links.
fn index(served: &Served) -> Answer {
    const HTML: &str = "text/html; charset=utf-8";
    if served.exposition.live().is_none() {
        return answer(StatusCode::OK, HTML, INDEX);
    }
    let mut response = answer(StatusCode::OK, HTML, PAGE);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    keep_apart(headers);
    response
}

/// For who looks with a browser: nothing is kept, and nobody else's page may use it.
fn keep_apart(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let name = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(name, HeaderValue::from_static("same-origin"));
}

async fn metrics(headers: &HeaderMap, served: &Served) -> Answer {
    // Held until it is done, even if nobody waits for it any more.
    let turn = Arc::clone(&served.turn).lock_owned().await;
    let write = move |exposition: &dyn Exposition, out: &mut dyn io::Write| {
        let _turn = turn;
        exposition.metrics(out)
    };
    made(METRICS_CONTENT_TYPE, headers, served, write).await
}

/// What the page asks for.
async fn told(api: Api, headers: &HeaderMap, served: &Served) -> Answer {
    let write = move |exposition: &dyn Exposition, out: &mut dyn io::Write| {
        let live = exposition.live();
        live.map_or(Ok(()), |live| api.write(live, out))
    };
    let mut response = made(JSON, headers, served, write).await;
    keep_apart(response.headers_mut());
    response
}

/// What `write` writes, made apart from the thread that empties the ring.
async fn made(
    content_type: &'static str,
    headers: &HeaderMap,
    served: &Served,
    write: impl FnOnce(&dyn Exposition, &mut dyn io::Write) -> io::Result<()> + Send + 'static,
) -> Answer {
    let coding = Coding::accepted(headers);
    let exposition = Arc::clone(&served.exposition);
    let made = tokio::task::spawn_blocking(move || coding.body(|out| write(&*exposition, out)));
    let made = made.await.map_err(io::Error::other);
    let body = match made.and_then(|body| body) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an answer cannot be made");
            let text = "it cannot be shown; the agent's log says why\n";
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    let mut response = answer(StatusCode::OK, content_type, body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if coding == Coding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
