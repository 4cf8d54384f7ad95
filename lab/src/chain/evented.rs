//! Threads that wait for nothing: hyper on both sides, as services and their clients are mostly built.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::order::Order;
use super::{Called, Done, Log, Next, Shared};
use crate::wire::now;

/// A connection to the next service, and the port from which it is made.
type Line = (u16, SendRequest<Empty<Bytes>>);

struct App {
    name: String,
    next: Next,
    log: Shared,
    idle: Mutex<Vec<Line>>,
}

pub(super) fn serve(
    listener: StdListener,
    name: String,
    next: Next,
    log: Log,
    threads: usize,
) -> io::Result<()> {
    let app = Arc::new(App {
        name,
        next,
        log: Arc::new(log),
        idle: Mutex::default(),
    });
    let runtime = if threads == 1 {
        Builder::new_current_thread().enable_all().build()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build()
    }?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let app = Arc::clone(&app);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(Arc::clone(&app), request));
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                if let Err(error) = served.await {
                    eprintln!("hoptrace-chain: {error}");
                }
            });
        }
    })
}

async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let read = now();
    let order = Order::of(&app.name, |name| request.headers().get(name)?.to_str().ok());
    if !order.wait.is_zero() {
        tokio::time::sleep(order.wait).await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
    match calls(&app, &order).await {
        Ok(calls) => {
            let done = Done {
                id: order.id,
                read,
                wrote: now(),
                calls,
            };
            if let Err(error) = app.log.note(&done) {
                eprintln!("hoptrace-chain: {error}");
            }
        }
        Err(error) => {
            eprintln!("hoptrace-chain: {error}");
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
    }
    Ok(response)
}

async fn calls(app: &Arc<App>, order: &Order) -> io::Result<Vec<Called>> {
    let mut made = Vec::new();
    if order.parallel {
        let mut under_way = JoinSet::new();
        for _ in 0..order.calls {
            let (app, order) = (Arc::clone(app), order.clone());
            under_way.spawn(async move { call(&app, &order).await });
        }
        while let Some(span) = under_way.join_next().await {
            made.push(span.map_err(io::Error::other)??);
        }
    } else {
        for _ in 0..order.calls {
            made.push(call(app, order).await?);
        }
    }
    Ok(made)
}

async fn call(app: &App, order: &Order) -> io::Result<Called> {
    let Next::Http(host) = app.next else {
        return Err(io::Error::other("such a service calls by HTTP only"));
    };
    let idle = || app.idle.lock().unwrap_or_else(PoisonError::into_inner);
    let waiting = idle().pop();
    let (port, mut line) = match waiting {
        Some(line) => line,
        None => {
            let stream = TcpStream::connect(host).await?;
            stream.set_nodelay(true)?;
            let port = stream.local_addr()?.port();
            let (line, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            (port, line)
        }
    };
    let mut request = Request::builder().uri("/").header("host", host.to_string());
    for line in order.handed_on.lines() {
        if let Some((name, value)) = line.split_once(": ") {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::new()).map_err(io::Error::other)?;
    line.ready().await.map_err(io::Error::other)?;
    let sent = now();
    let response = line.send_request(request).await.map_err(io::Error::other)?;
    let came = now();
    if response.status() != StatusCode::OK {
        return Err(io::Error::other("a call was not answered with 200"));
    }
    response
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?;
    idle().push((port, line));
    Ok(Called { port, sent, came })
}
