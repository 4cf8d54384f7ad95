//! The listening socket and the life of the server.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::TcpListener;

/// How long requests in progress may take once the server was told to end.
pub const GRACE: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted: enough for a generator that opens all of its own at once.
const BACKLOG: i32 = 1_024;

/// Opens the listening socket; needs a tokio runtime.
///
/// An IPv6 wildcard takes IPv4 clients too, whatever `net.ipv6.bindv6only` says; on a host
/// without IPv6 it becomes the IPv4 wildcard.
///
/// # Errors
///
/// Whatever the kernel says about the address.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = match listening_socket(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if is_ipv6_wildcard(address) => {
            listening_socket((Ipv4Addr::UNSPECIFIED, address.port()).into())?
        }
        other => other?,
    };
    TcpListener::from_std(listener)
}

/// Serves until `stop` resolves, then lets the requests in progress end for up to [`GRACE`].
///
/// # Errors
///
/// Whatever the kernel says; a connection that cannot be accepted is not an error.
pub async fn run(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let listener = listener.tap_io(|stream| {
        // An answer is one small segment: it must not wait for the acknowledgement of the last
        // one. The option cannot fail on a connected socket, and without it the answer is late
        // but right.
        let _ = stream.set_nodelay(true);
    });
    let serve = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    let out_of_patience = async {
        if stopped.await.is_err() {
            // The server ended by itself and dropped the sender: its own result counts.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serve => result,
        () = out_of_patience => Ok(()),
    }
}

fn listening_socket(address: SocketAddr) -> rustix::io::Result<StdListener> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_ipv6_wildcard(address) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn is_ipv6_wildcard(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}
