//! The HTTP side: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

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

/// What the agent shows to the outside.
pub trait Exposition: Send + Sync + 'static {
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Whether the hooks are attached; the text has a line for everything that is degraded all the
    /// same.
    ///
    /// # Errors
    /// The reason why not, shown to whoever asks.
    fn ready(&self) -> Result<String, String>;
}

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
    shutdown: impl Future<Output = ()>,
) {
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
                Ok((stream, _peer)) => connection(stream, &exposition, &graceful, slot),
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

/// Starts to serve one connection; `slot` is held until it ends.
fn connection<S: Send + 'static>(
    stream: TcpStream,
    exposition: &Arc<dyn Exposition>,
    graceful: &GracefulShutdown,
    slot: S,
) {
    let exposition = Arc::clone(exposition);
    let service = service_fn(move |request| {
        let response = respond(&request, exposition.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let served = graceful.watch(served);
    tokio::spawn(async move {
        let _slot = slot;
        match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
            Ok(Ok(())) => {}
            // Clients that leave early are their own affair.
            Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
            Err(_) => tracing::debug!("a connection was held for too long"),
        }
    });
}

fn respond(request: &Request<Incoming>, exposition: &dyn Exposition) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => answer(StatusCode::OK, METRICS_CONTENT_TYPE, exposition.metrics()),
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match exposition.ready() {
            Ok(degraded) => plain(StatusCode::OK, format!("ok\n{degraded}")),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/" => answer(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        _ => plain(StatusCode::NOT_FOUND, "not found; try /metrics\n"),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
