//! HTTP/1 heads out of truncated prefixes: method line, `x-request-id`, `traceparent`, status code.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::decode::{Http, RequestHead};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];
/// More headers than an Envoy sends within the prefix.
const MAX_HEADERS: usize = 48;

/// Reads what the prefixes tell. The request may be cut anywhere.
#[must_use]
pub fn parse(request: &[u8], response: &[u8]) -> Http {
    let mut http = Http {
        status: status(response),
        ..Http::default()
    };
    if request.is_empty() {
        return http;
    }
    if request.starts_with(HTTP2_PREFACE) {
        http.request = RequestHead::Http2;
        return http;
    }
    let Some(method) = method(request) else {
        http.request = RequestHead::Continuation;
        return http;
    };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(request) {
        Ok(_) | Err(httparse::Error::TooManyHeaders) => http.request = RequestHead::Http1,
        Err(_) => {
            http.request = RequestHead::Malformed;
            return http;
        }
    }
    http.method = method;
    // A cut prefix leaves the header array unfilled, so the values are looked up in the bytes.
    http.request_id = header(request, b"x-request-id").map_or(0, hash);
    http.trace_id = header(request, b"traceparent").map_or(0, trace);
    http.probe = header(request, b"user-agent").is_some_and(is_prober);
    http
}

/// `GET / HTTP/1.1` → `GET`.
fn method(request: &[u8]) -> Option<&'static str> {
    METHODS.into_iter().find(|method| {
        let rest = request.strip_prefix(method.as_bytes());
        rest.and_then(<[u8]>::first) == Some(&b' ')
    })
}

/// `HTTP/1.1 200 OK` → 200.
fn status(response: &[u8]) -> u16 {
    if !response.starts_with(b"HTTP/1.") {
        return 0;
    }
    let digits = response.get(9..12).unwrap_or_default();
    digits
        .iter()
        .try_fold(0_u16, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + u16::from(digit - b'0'))
        })
        .unwrap_or(0)
}

/// Value of a header whose whole line is in the prefix.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        lines.peek()?;
        let Some((found, rest)) = line.split_at_checked(name.len()) else {
            continue;
        };
        if found.eq_ignore_ascii_case(name) && rest.first() == Some(&b':') {
            return rest.get(1..).map(<[u8]>::trim_ascii);
        }
    }
    None
}

/// The hash of the trace that `traceparent` names (W3C Trace Context, section 3.2: version, trace, parent and
/// flags, parted by hyphens), 0 when it names none. The parent is another for each call.
pub(crate) fn trace(value: &[u8]) -> u64 {
    let trace = value.split(|byte| *byte == b'-').nth(1).unwrap_or_default();
    let named = trace.len() == 32 && trace.iter().any(|byte| *byte != b'0');
    if named { hash(trace) } else { 0 }
}

/// Whether it is a `user-agent` of who looks after a pod and is none of its callers, this program's own included.
pub(crate) fn is_prober(agent: &[u8]) -> bool {
    let probers: [&[u8]; 3] = [b"kube-probe/", b"Prometheus/", b"hoptrace/"];
    probers.iter().any(|prober| agent.starts_with(prober))
}

/// The hash of a value, never 0.
pub(crate) fn hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(value: &str) -> u64 {
        let head = format!("GET / HTTP/1.1\r\nTraceparent: {value}\r\n\r\n");
        parse(head.as_bytes(), b"").trace_id
    }

    #[test]
    fn a_trace_is_known_whoever_is_the_parent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let one = trace_of(&format!("00-{trace}-00f067aa0ba902b7-01"));
        assert_ne!(one, 0);
        assert_eq!(one, trace_of(&format!("00-{trace}-1111111111111111-00")));
        assert_ne!(
            one,
            trace_of("00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        );
        for none in [
            "",
            "00",
            "00-4bf92f-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_of(none), 0, "{none}");
        }
    }

    #[test]
    fn who_looks_after_a_pod_is_no_caller() {
        for (agent, probe) in [
            ("kube-probe/1.20", true),
            ("Prometheus/2.42.0", true),
            ("hoptrace/0.1.0", true),
            ("curl/8.0 (kube-probe/1.20)", false),
        ] {
            let head = format!("GET / HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n");
            assert_eq!(parse(head.as_bytes(), b"").probe, probe, "{agent}");
        }
    }
}
