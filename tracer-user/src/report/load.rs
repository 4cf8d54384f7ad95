//! Our own load: calls of a URL in batches.

use anyhow::{Context, Result, bail, ensure};
use hoptrace_generator::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_generator::{self as generator, Times};
use hyper::Uri;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::{Asked, Load};

/// One kind of call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: &'static str,
    body: String,
}

impl Call {
    /// GET, and POST where there is something to post.
    pub(super) fn all(load: &Load) -> Vec<Self> {
        let Load::Own { body, .. } = load else {
            return Vec::new();
        };
        let call = |method, body| Self { method, body };
        let posts = body.iter().map(|body| call("POST", body.clone()));
        [call("GET", String::new())]
            .into_iter()
            .chain(posts)
            .collect()
    }

    pub(super) fn method(&self) -> &'static str {
        self.method
    }
}

/// Where calls go.
pub(super) struct Target {
    asked: Asked,
    address: IpAddr,
    /// By its address, as the generator takes it.
    url: String,
    headers: Vec<(String, String)>,
    connections: usize,
    calls: u64,
    warm_up: u64,
}

impl Target {
    /// Finds its address, once: a name that leads elsewhere in a later run would be another target.
    ///
    /// # Errors
    /// It is no URL of plain HTTP, or nothing has that name.
    pub(super) fn open(asked: &Asked, load: &Load) -> Result<Self> {
        let Load::Own {
            calls,
            connections,
            warm_up,
            headers,
            ..
        } = load
        else {
            bail!("there are no targets to call with `--load none`");
        };
        let (url, authority, address) = resolve(&asked.target)?;
        let mut headers = headers.clone();
        let names_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if !headers.iter().any(names_host) {
            headers.insert(0, ("host".to_owned(), authority));
        }
        Ok(Self {
            asked: asked.clone(),
            address,
            url,
            headers,
            connections: *connections,
            calls: *calls,
            warm_up: *warm_up,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.asked.name
    }

    /// Calls that count for nothing: connections between proxies are made, caches filled.
    ///
    /// # Errors
    /// Nothing answers, or every call failed.
    pub(super) fn warm_up(&self, call: &Call) -> Result<()> {
        if self.warm_up > 0 {
            self.send(call, self.warm_up)?;
        }
        Ok(())
    }

    /// One run.
    ///
    /// # Errors
    /// Nothing answers, or every call failed.
    pub(super) fn run(&self, call: &Call) -> Result<(LoadReport, Times)> {
        self.send(call, self.calls)
    }

    fn send(&self, call: &Call, calls: u64) -> Result<(LoadReport, Times)> {
        let mut headers = self.headers.clone();
        let typed = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
        if !call.body.is_empty() && !headers.iter().any(typed) {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let spec = LoadSpec {
            url: self.url.clone(),
            method: call.method.to_owned(),
            headers,
            body: call.body.clone(),
            connections: self.connections,
            schedule: Schedule::Count(calls),
            request_ids: false,
        };
        let (report, times) = generator::run_keeping(&spec, &[self.address]).with_context(|| {
            format!(
                "cannot call {} ({}): is the service up, and is this its port as seen from here?",
                self.asked.target, self.address
            )
        })?;
        ensure!(
            report.succeeded > 0,
            "every {} of {} failed ({}): try one by hand, `curl -i {}`",
            call.method,
            self.asked.target,
            report.failures.join("; "),
            self.asked.target
        );
        Ok((report, times))
    }
}

/// Adds a run to all of them.
pub(super) fn add(all: &mut Option<Times>, times: Times) {
    match all {
        Some(all) => all.add(&times),
        None => *all = Some(times),
    }
}

/// A URL by its address, the `host` that goes with it, and the address.
fn resolve(url: &str) -> Result<(String, String, IpAddr)> {
    let form = || format!("{url:?} is no target: say http://HOST:PORT/PATH");
    let uri: Uri = url.parse().with_context(form)?;
    ensure!(uri.scheme().is_some(), form());
    ensure!(
        uri.scheme_str() == Some("http"),
        "{url:?} is not plain HTTP: in a mesh the sidecars encrypt, and calls go to them in plain text; \
         call the service's own port from a pod"
    );
    let authority = uri.authority().with_context(form)?;
    let host = authority.host();
    let port = authority.port_u16().unwrap_or(80);
    let address = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .with_context(|| format!("cannot find {host}: is the name right, and known here?"))?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let plain = SocketAddr::new(address.ip(), port);
    Ok((
        format!("http://{plain}{path}"),
        authority.as_str().to_owned(),
        address.ip(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_called_by_their_address() {
        for (url, wanted, host) in [
            (
                "http://127.0.0.1:81/x?y=1",
                "http://127.0.0.1:81/x?y=1",
                "127.0.0.1:81",
            ),
            ("http://[::1]:81", "http://[::1]:81/", "[::1]:81"),
            ("http://127.0.0.1", "http://127.0.0.1:80/", "127.0.0.1"),
        ] {
            let (found, authority, _) = resolve(url).unwrap();
            assert_eq!((found.as_str(), authority.as_str()), (wanted, host));
        }
        for (url, words) in [
            ("https://10.0.0.1/", "sidecars encrypt"),
            ("10.0.0.1:80", "http://HOST:PORT/PATH"),
            ("http://", "http://HOST:PORT/PATH"),
            (
                "http://no-such-host.invalid/",
                "cannot find no-such-host.invalid",
            ),
        ] {
            let error = resolve(url).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
    }
}
