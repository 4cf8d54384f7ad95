//! Types of single options: they are read from a flag, a variable or TOML by the same rules.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A value that an option does not take, with what it does take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(String);

impl InvalidValue {
    /// One sentence: the value, and what to write.
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidValue> {
    Err(InvalidValue(text.into()))
}

/// Where the names of workloads come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum IdentitySpec {
    /// cgroup paths and process names.
    Cgroup,
    /// A TOML file, and cgroup paths for what it does not name.
    Static(PathBuf),
    /// The Kubernetes API, and cgroup paths for what it does not name.
    Kubernetes,
}

impl FromStr for IdentitySpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "cgroup" => Ok(Self::Cgroup),
            None if text == "kubernetes" => Ok(Self::Kubernetes),
            Some(("static", path)) if !path.is_empty() => Ok(Self::Static(path.into())),
            _ => invalid(format!(
                "`{text}` is no source of names; write `cgroup`, `static:FILE` or `kubernetes`"
            )),
        }
    }
}

impl fmt::Display for IdentitySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup => f.write_str("cgroup"),
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::Static(path) => write!(f, "static:{}", path.display()),
        }
    }
}

/// Who may scrape.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum AuthSpec {
    /// Anybody.
    None,
    /// Who knows a line of a file, `user:password`.
    Basic(PathBuf),
    /// Whom the Kubernetes API knows by token, and allows to get `/metrics`.
    TokenReview,
}

impl FromStr for AuthSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "token-review" => Ok(Self::TokenReview),
            Some(("basic", path)) if !path.is_empty() => Ok(Self::Basic(path.into())),
            _ => invalid(format!(
                "`{text}` is no way to tell who scrapes; write `none`, `basic:FILE` or \
                 `token-review`"
            )),
        }
    }
}

impl fmt::Display for AuthSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Basic(path) => write!(f, "basic:{}", path.display()),
            Self::TokenReview => f.write_str("token-review"),
        }
    }
}

impl From<AuthSpec> for String {
    fn from(spec: AuthSpec) -> Self {
        spec.to_string()
    }
}

/// Which pods of other nodes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Peers {
    /// The pods themselves: exact names of all of them.
    Pods,
    /// EndpointSlices and nodes: names of what stands behind services, as far as pod names tell.
    #[value(name = "endpointslices")]
    EndpointSlices,
    /// None: peers on other nodes are unknown.
    None,
}

/// Upper bounds of histogram buckets in seconds: finite, above 0, ascending.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Buckets(Vec<f64>);

impl Buckets {
    /// More buckets than this cost more to store than they tell.
    const MAX: usize = 100;

    /// The bounds.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

impl Default for Buckets {
    /// 10 µs to 10 s in steps of 1-2-5.
    fn default() -> Self {
        Self(vec![
            1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5,
            1.0, 2.0, 5.0, 10.0,
        ])
    }
}

impl TryFrom<Vec<f64>> for Buckets {
    type Error = InvalidValue;

    fn try_from(bounds: Vec<f64>) -> Result<Self, Self::Error> {
        if bounds.is_empty() || bounds.len() > Self::MAX {
            return invalid(format!(
                "give 1 to {} bounds, not {}",
                Self::MAX,
                bounds.len()
            ));
        }
        if let Some(bound) = bounds
            .iter()
            .find(|bound| !bound.is_finite() || **bound <= 0.0)
        {
            return invalid(format!(
                "{bound} is no bound; write seconds above 0, such as 0.001"
            ));
        }
        let mut pairs = bounds.iter().zip(bounds.iter().skip(1));
        match pairs.find(|(lower, upper)| lower >= upper) {
            Some((lower, upper)) => invalid(format!(
                "{upper} follows {lower}; write the bounds in ascending order"
            )),
            None => Ok(Self(bounds)),
        }
    }
}

impl FromStr for Buckets {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bound = |part: &str| {
            part.trim().parse::<f64>().map_err(|_error| {
                InvalidValue(format!(
                    "`{part}` is no number; write seconds, such as 0.001,0.01"
                ))
            })
        };
        Self::try_from(text.split(',').map(bound).collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<Buckets> for Vec<f64> {
    fn from(buckets: Buckets) -> Self {
        buckets.0
    }
}

/// A list of names, none of them empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Names(Vec<String>);

impl Names {
    /// A list of one.
    pub(crate) fn one(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// Names of the containers that Istio and Linkerd inject.
    pub(crate) fn sidecars() -> Self {
        Self(vec!["istio-proxy".to_owned(), "linkerd-proxy".to_owned()])
    }

    /// The names.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Names {
    type Error = InvalidValue;

    fn try_from(names: Vec<String>) -> Result<Self, Self::Error> {
        if names.is_empty() || names.iter().any(String::is_empty) {
            return invalid("a name is empty; write at least one name, such as envoy");
        }
        Ok(Self(names))
    }
}

impl FromStr for Names {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(
            text.split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>(),
        )
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        names.0
    }
}

/// A span of time from 1 ms to a day, written `50ms`, `2s` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "toml::Value", into = "String")]
pub struct Interval(Duration);

impl Interval {
    /// Milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The next whole millisecond of a time that was made of others, and a day at most.
    #[must_use]
    pub fn at_least(time: Duration) -> Self {
        let millis = time.as_nanos().div_ceil(1_000_000);
        Self::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Nanoseconds: the unit of every stamp.
    #[must_use]
    pub fn nanos(self) -> u64 {
        // What is read from an option is a day at most.
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX / 4)
    }
}

impl FromStr for Interval {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
        match humantime::parse_duration(text) {
            Ok(time) if range.contains(&time) => Ok(Self(time)),
            Ok(_) => invalid(format!("`{text}` is out of range; write 1ms to 1day")),
            Err(_) => invalid(format!(
                "`{text}` is no time; write a number and a unit, such as 200ms"
            )),
        }
    }
}

impl TryFrom<toml::Value> for Interval {
    type Error = InvalidValue;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        match value {
            toml::Value::String(text) => text.parse(),
            other => invalid(format!(
                "{other} has no unit; write a text such as \"200ms\""
            )),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Bytes of the ring buffer map: a power of two from a page to 1 GiB (`ringbuf_map_alloc` in
/// kernel/bpf/ringbuf.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "toml::Value", into = "u32")]
pub struct RingSize(u32);

impl RingSize {
    /// Bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for RingSize {
    fn default() -> Self {
        Self(4 << 20)
    }
}

impl TryFrom<u64> for RingSize {
    type Error = InvalidValue;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        match u32::try_from(bytes) {
            // Kernels with larger pages refuse the smallest sizes when the map is made.
            Ok(bytes) if bytes.is_power_of_two() && (1 << 12..=1 << 30).contains(&bytes) => {
                Ok(Self(bytes))
            }
            _ => invalid(format!(
                "{bytes} is no ring size; write a power of two from 4KiB to 1GiB, such as 4MiB"
            )),
        }
    }
}

impl FromStr for RingSize {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
        let parsed = units.iter().find_map(|&(unit, shift)| {
            let number: u64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        match parsed {
            Some(bytes) => Self::try_from(bytes),
            None => invalid(format!(
                "`{text}` is no ring size; write bytes, KiB or MiB, such as 4MiB"
            )),
        }
    }
}

impl TryFrom<toml::Value> for RingSize {
    type Error = InvalidValue;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        match value {
            toml::Value::String(text) => text.parse(),
            toml::Value::Integer(bytes) => Self::try_from(u64::try_from(bytes).unwrap_or(0)),
            other => invalid(format!(
                "{other} is no ring size; write 4194304 or \"4MiB\""
            )),
        }
    }
}

impl From<RingSize> for u32 {
    fn from(size: RingSize) -> Self {
        size.0
    }
}

/// Texts in TOML are read by the same rules as flags.
macro_rules! through_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )*};
}
through_text!(IdentitySpec, AuthSpec);

impl From<IdentitySpec> for String {
    fn from(spec: IdentitySpec) -> Self {
        spec.to_string()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

/// Hook that sees a process read its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ReadHook {
    /// `tp_btf` where the kernel has BTF, else none.
    Auto,
    /// The BTF tracepoint `tcp_rcv_space_adjust`; not starting without it.
    #[value(name = "tp_btf")]
    TpBtf,
    /// None: hops have no queue and processing parts.
    Off,
}

/// Whether the time between pods is split at their boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PodBoundary {
    /// It is one figure.
    Off,
    /// Programs at the host's ends of the pods' veths split it.
    On,
}

/// Whether the page and single requests are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ui {
    /// Metrics alone.
    Off,
    /// To whoever may see the metrics.
    On,
}

/// Whether HTTP/2 is followed on plaintext legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// What comes on such connections counts as `unsupported`.
    Off,
    /// Each stream is a request.
    On,
}

/// On which legs headers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Headers {
    /// Plaintext legs of applications, in the pod and between pods.
    AppLegs,
    /// Plaintext legs inside the pod.
    Loopback,
    /// None: status codes are unknown, and requests are joined by time alone.
    Off,
}

/// What the eBPF programs log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BpfLog {
    /// Nothing.
    Off,
    /// Errors.
    Error,
    /// Warnings too.
    Warn,
    /// Information too.
    Info,
    /// Everything.
    Debug,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr + fmt::Debug>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text}");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_taken_or_refused() {
        check::<Buckets>(
            &["0.001", "0.001,0.01", "1e-5, 1"],
            &["", "x", "0", "-1", "1,1", "2,1", "inf", "1,NaN", "1,"],
        );
        check::<Interval>(
            &["1ms", "200ms", "1h", "1m 30s"],
            &["", "5", "0s", "10us", "2days", "-1s"],
        );
        check::<RingSize>(
            &["4096", "64KiB", "4MiB", "1GiB", "4 MiB"],
            &[
                "",
                "0",
                "2048",
                "5000",
                "2GiB",
                "4MB",
                "99999999999GiB",
                "-4096",
            ],
        );
        check::<IdentitySpec>(
            &["cgroup", "static:/a:b", "kubernetes"],
            &["", "static", "static:", "kube"],
        );
        check::<AuthSpec>(
            &["none", "basic:/a:b", "token-review"],
            &["", "basic", "basic:", "bearer", "token-review:x"],
        );
        check::<Names>(&["envoy", "envoy, nginx"], &["", "envoy,", ","]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(text in "[-+0-9a-zA-Z.,: ]{0,24}|\\PC{0,24}") {
            let _answers = (
                text.parse::<Buckets>(),
                text.parse::<Interval>(),
                text.parse::<RingSize>(),
                text.parse::<IdentitySpec>(),
                text.parse::<Names>(),
                text.parse::<crate::metrics::LabelSet>(),
            );
        }
    }
}
