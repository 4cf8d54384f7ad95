//! The little HTTP that asking for readiness, metrics and query results takes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub code: u16,
    /// Body; bytes that are not UTF-8 became replacement characters.
    pub body: String,
}

/// What is asked of whom, on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who is asked.
    pub address: SocketAddr,
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Headers beyond `Connection`; without a `host` among them it is the address.
    pub headers: &'a [(&'a str, &'a str)],
    /// The address that it is asked from, where it matters: one of this machine.
    pub source: Option<IpAddr>,
    /// Body; its kind is among the headers.
    pub body: &'a str,
}

/// `GET` on a connection of its own.
///
/// # Errors
/// There is no connection, no answer in time, or none that is HTTP.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer> {
    let request = Request {
        path,
        ..Request::to(address)
    };
    request.send(limit)
}

impl Request<'_> {
    /// `GET /` of an address, without headers.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            method: "GET",
            path: "/",
            headers: &[],
            source: None,
            body: "",
        }
    }

    /// Sends it and waits for the answer.
    ///
    /// # Errors
    /// There is no connection, no answer in time, or none that is HTTP.
    pub fn send(&self, limit: Duration) -> Result<Answer> {
        let what = || format!("{} http://{}{}", self.method, self.address, self.path);
        exchange(self, limit).with_context(what)
    }
}

fn exchange(request: &Request<'_>, limit: Duration) -> Result<Answer> {
    let Request {
        address,
        method,
        path,
        headers,
        source,
        body,
    } = *request;
    let mut stream = match source {
        None => TcpStream::connect_timeout(&address, limit)?,
        Some(source) => connect_from(source, address, limit)?,
    };
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let host = address.to_string();
    let named = headers.iter().any(|(name, _)| *name == "host");
    let host = (!named).then_some(("host", host.as_str()));
    // Written at once: in pieces it would be several segments.
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !body.is_empty() {
        request += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in host.iter().chain(headers) {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n" + body).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

fn connect_from(source: IpAddr, address: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let family = match source {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    // It holds for connecting too.
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))
        .with_context(|| format!("cannot use the address {source}"))?;
    rustix::net::connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = end
        .and_then(|end| Some((answer.get(..end)?, answer.get(end + 4..)?)))
        .context("the answer ends before its body")?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).context("the answer is not HTTP")?;
    let code = status.parse().context("the answer is not HTTP")?;
    let chunked = head
        .lines()
        .any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_vec()
    };
    Ok(Answer {
        code,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// RFC 9112, section 7.1.
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|bytes| bytes == b"\r\n");
        let parts = line_end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?)));
        let Some((size, after)) = parts else {
            bail!("the answer ends within a chunk");
        };
        let size = String::from_utf8_lossy(size);
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk has no size")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = after
            .get(..size)
            .context("the answer ends within a chunk")?;
        body.extend_from_slice(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
}

/// A value inside a query string, percent-encoded (RFC 3986, section 2.1).
#[must_use]
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_body_are_read() {
        for (answer, code, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"),
            (
                "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n",
                503,
                "abcd",
            ),
        ] {
            let body = body.to_owned();
            assert_eq!(parse(answer.as_bytes()).unwrap(), Answer { code, body });
        }
        for bad in ["", "HTTP/1.1 200", "x\r\n\r\n", "x y\r\n\r\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_have_headers_and_come_from_an_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut bytes = [0; 512];
            let length = stream.read(&mut bytes).unwrap();
            stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
            (peer, String::from_utf8_lossy(&bytes[..length]).into_owned())
        });
        let request = Request {
            path: "/x",
            headers: &[("a", "b")],
            source: Some("127.0.0.9".parse().unwrap()),
            ..Request::to(address)
        };
        assert_eq!(request.send(Duration::from_secs(5)).unwrap().code, 204);
        let (peer, asked) = server.join().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
        assert!(asked.starts_with("GET /x HTTP/1.1\r\n"), "{asked}");
        let headers = format!("\r\nhost: {address}\r\na: b\r\n\r\n");
        assert!(asked.ends_with(&headers), "{asked}");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("sum(a{b=\"c\"})"), "sum%28a%7Bb%3D%22c%22%7D%29");
    }
}
