//! Where load may go.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

/// What may be loaded: a server of this machine or of a test network, by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// The `host` header.
    pub(super) authority: String,
    /// Path and query, from `/`.
    pub(super) path: String,
}

/// Why a URL is no target.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL, or not one of plain HTTP.
    #[error("url {0:?} has to look like http://address:port/path")]
    Form(String),
    /// A name where an address has to be: a resolver could lead anywhere.
    #[error("url host {0:?} has to be an IP address")]
    Name(String),
    /// An address outside the test networks.
    #[error(
        "url host {0} is neither loopback (127.0.0.0/8, ::1) nor of a test network (10.0.0.0/8, fd00::/8)"
    )]
    Foreign(IpAddr),
}

impl Target {
    /// Reads a URL and refuses whatever neither stays within the lab nor was `allowed`.
    pub(super) fn parse(url: &str, allowed: &[IpAddr]) -> Result<Self, TargetError> {
        let form = || TargetError::Form(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(form());
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let ip: IpAddr = bare
            .parse()
            .map_err(|_| TargetError::Name(host.to_owned()))?;
        if !within_the_lab(ip) && !allowed.contains(&ip) {
            return Err(TargetError::Foreign(ip));
        }
        let port = match (authority.port_u16(), authority.as_str().len() == host.len()) {
            (Some(port), _) if port != 0 => port,
            (None, true) => 80,
            _ => return Err(form()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: SocketAddr::new(ip, port),
            authority: authority.as_str().to_owned(),
            // A URL like `http://10.0.0.1?limit=1` has a query without a path.
            path: match path.strip_prefix('?') {
                Some(query) => format!("/?{query}"),
                None => path.to_owned(),
            },
        })
    }
}

fn within_the_lab(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [127 | 10, ..]),
        // An IPv4 address in IPv6 clothes is refused: it has a plainer spelling.
        IpAddr::V6(ip) => ip.is_loopback() || matches!(ip.octets(), [0xfd, ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_lab_are_taken() {
        let cases = [
            ("http://127.0.0.1:80/x?y=1", "127.0.0.1:80", "/x?y=1"),
            ("http://127.8.9.1:8080", "127.8.9.1:8080", "/"),
            ("http://10.255.0.1/x", "10.255.0.1:80", "/x"),
            ("http://10.0.0.1:81?limit=1", "10.0.0.1:81", "/?limit=1"),
            ("http://[::1]:8080/", "[::1]:8080", "/"),
            ("http://[fd12::6]/", "[fd12::6]:80", "/"),
        ];
        for (url, address, path) in cases {
            let target = Target::parse(url, &[]).unwrap();
            assert_eq!(target.address, address.parse().unwrap(), "{url}");
            assert_eq!(target.path, path, "{url}");
        }
    }

    #[test]
    fn one_address_more_can_be_allowed() {
        let allowed = ["172.20.0.7".parse().unwrap()];
        assert!(Target::parse("http://172.20.0.7:8000/", &allowed).is_ok());
        assert!(Target::parse("http://172.20.0.8:8000/", &allowed).is_err());
    }

    #[test]
    fn everything_else_is_refused() {
        let foreign = |ip: &str| TargetError::Foreign(ip.parse().unwrap());
        let form = |url: &str| TargetError::Form(url.to_owned());
        let cases = [
            ("http://8.8.8.8/", foreign("8.8.8.8")),
            ("http://192.168.0.1/", foreign("192.168.0.1")),
            ("http://0.0.0.0:80/", foreign("0.0.0.0")),
            ("http://[2001:db8::1]/", foreign("2001:db8::1")),
            ("http://[fc00::1]/", foreign("fc00::1")),
            ("http://[::ffff:127.0.0.1]/", foreign("::ffff:127.0.0.1")),
            (
                "http://localhost/",
                TargetError::Name("localhost".to_owned()),
            ),
            ("http://10.1/", TargetError::Name("10.1".to_owned())),
            ("https://127.0.0.1/", form("https://127.0.0.1/")),
            ("http://a@127.0.0.1/", form("http://a@127.0.0.1/")),
            ("http://127.0.0.1:0/", form("http://127.0.0.1:0/")),
            ("http://127.0.0.1:99999/", form("http://127.0.0.1:99999/")),
            ("127.0.0.1:80", form("127.0.0.1:80")),
            ("/x", form("/x")),
            ("", form("")),
        ];
        for (url, error) in cases {
            assert_eq!(Target::parse(url, &[]), Err(error), "{url}");
        }
    }
}
