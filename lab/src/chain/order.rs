//! What a request asks of the service that takes it.

use std::net::SocketAddr;
use std::time::Duration;

/// The heads that a caller may hand on.
const IDENTIFIERS: [&str; 2] = ["x-request-id", "traceparent"];

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: String,
    /// Before the first call.
    pub(super) wait: Duration,
    pub(super) calls: u64,
    pub(super) parallel: bool,
    /// The head lines for the calls.
    pub(super) handed_on: String,
    /// For the database.
    pub(super) query: Duration,
}

impl Order {
    /// Of a request with these headers, to the service of this name.
    pub(super) fn of<'a>(name: &str, field: impl Fn(&str) -> Option<&'a str>) -> Self {
        let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
        let fault = field("x-fault").unwrap_or_default();
        let held_up = |who: &str| {
            let (place, ms) = fault.rsplit_once('-')?;
            let ms = ms.parse().ok().filter(|_| place == who)?;
            Some(Duration::from_millis(ms))
        };
        let mut handed_on = format!("x-fault: {fault}\r\n");
        let keep = field("x-keep").unwrap_or_default();
        for name in IDENTIFIERS {
            if let Some(value) = field(name).filter(|_| keep.split(',').any(|kept| kept == name)) {
                handed_on += &format!("{name}: {value}\r\n");
            }
        }
        let work = Duration::from_millis(number("x-work").unwrap_or(0));
        Self {
            id: field("x-request-id").unwrap_or_default().to_owned(),
            wait: work + held_up(name).unwrap_or_default(),
            calls: number("x-calls").unwrap_or(1),
            parallel: field("x-parallel") == Some("1"),
            handed_on,
            query: held_up("database").unwrap_or_default(),
        }
    }

    /// The head of a call.
    pub(super) fn head(&self, host: SocketAddr) -> String {
        format!("GET / HTTP/1.1\r\nhost: {host}\r\n{}\r\n", self.handed_on)
    }
}
