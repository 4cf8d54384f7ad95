//! Options of `hoptrace agent`, with one precedence for all of them:
//!
//! 1. the flag (`--max-series 100`),
//! 2. the environment (`HOPTRACE_MAX_SERIES=100`),
//! 3. the TOML file named by `--config` or `HOPTRACE_CONFIG` (`max_series = 100`),
//! 4. the default.
//!
//! [`Config`] is what comes out; [`Sources`] tells where each value came from.

pub(crate) mod blame;
mod file;
mod options;
mod print;
mod sidecars;
pub mod values;

pub use file::ConfigError;
pub use options::{AgentArgs, Options};
pub use sidecars::{Mesh, ProxyAppSource};
pub use values::{
    AuthSpec, BpfLog, Buckets, Headers, Http2, IdentitySpec, Interval, LogFormat, Names, Peers,
    PodBoundary, ReadHook, RingSize, Ui,
};

use crate::join::JoinConfig;
use crate::metrics::{LabelSet, MetricsConfig, ResponseCode};
use crate::mounts::{self, MountsError};
use crate::roles::Sidecars;
use crate::windows::Windows;
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

/// The effective configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// cgroup v2 directory whose sockets are traced; `None`: the cgroup v2 mount.
    pub cgroup_root: Option<PathBuf>,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    pub listen: SocketAddr,
    /// Certificate chain of the HTTP side, PEM; `None`: plain HTTP.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Who may see `/metrics`.
    pub auth: AuthSpec,
    /// Whether the page and single requests are served beside `/metrics`.
    pub ui: Ui,
    /// Who is who.
    pub identity: IdentitySpec,
    /// Whose sidecars there are: what is not told of them follows from it.
    pub mesh: Mesh,
    /// Processes with these names are sidecar proxies.
    pub proxy_names: Names,
    /// Port on which a sidecar takes what comes for its app.
    pub proxy_inbound_port: NonZeroU16,
    /// Port on which it takes what its app sends.
    pub proxy_outbound_port: NonZeroU16,
    /// From where it reaches its app.
    pub proxy_app_source: ProxyAppSource,
    /// User that it runs as.
    pub proxy_uid: u32,
    /// How to reach the API from outside the cluster; `None`: as a pod of it.
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node; `None`: `NODE_NAME` of the environment.
    pub node_name: Option<String>,
    /// Which pods of other nodes are watched.
    pub peers: Peers,
    /// Containers with these names are sidecar proxies.
    pub proxy_containers: Names,
    /// Upper bounds of the histograms.
    pub buckets: Buckets,
    /// Common labels to export.
    pub labels: LabelSet,
    /// Status classes or codes.
    pub response_code: ResponseCode,
    /// Greatest number of label sets.
    pub max_series: NonZeroUsize,
    /// A label set without a request for this long is forgotten.
    pub series_ttl: Interval,
    /// A label set is forgotten this long after the last pod of one of its workloads is gone.
    pub series_grace: Interval,
    /// Bytes of the ring between kernel and agent.
    pub ring_size: RingSize,
    /// How often the ring is drained.
    pub poll_interval: Interval,
    /// How long exchanges wait for their neighbours.
    pub hold: Interval,
    /// Greatest number of exchanges that wait.
    pub max_pending: NonZeroUsize,
    /// Which hook sees the reads.
    pub read_hook: ReadHook,
    /// When the hooks look.
    pub trace_windows: Windows,
    /// Whether the time between pods is split at their boundaries.
    pub pod_boundary: PodBoundary,
    /// Whether HTTP/2 is followed on plaintext legs.
    pub http2: Http2,
    /// On which legs headers are looked at.
    pub headers: Headers,
    /// Whether the kernel accounts the run time of eBPF programs.
    pub bpf_stats: bool,
    /// What the eBPF programs log.
    pub bpf_log: BpfLog,
    /// File for a recording.
    pub record: Option<PathBuf>,
    /// Whether plaintext heads are in it.
    pub record_heads: bool,
    /// Filter of the log.
    pub log: String,
    /// Shape of the log.
    pub log_format: LogFormat,
    /// Keep the capabilities after attaching.
    pub keep_caps: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::of_mesh(Mesh::default())
    }
}

impl Config {
    /// The defaults where these sidecars are.
    fn of_mesh(mesh: Mesh) -> Self {
        let sidecars = mesh.preset();
        Self {
            cgroup_root: None,
            listen: SocketAddr::from(([0, 0, 0, 0], options::DEFAULT_PORT)),
            tls_cert: None,
            tls_key: None,
            auth: AuthSpec::None,
            ui: Ui::On,
            identity: IdentitySpec::Cgroup,
            mesh,
            proxy_names: Names::one(sidecars.process),
            proxy_inbound_port: sidecars.inbound_port,
            proxy_outbound_port: sidecars.outbound_port,
            proxy_app_source: sidecars.app_source,
            proxy_uid: sidecars.uid,
            kubeconfig: None,
            node_name: None,
            peers: Peers::Pods,
            proxy_containers: Names::sidecars(),
            buckets: Buckets::default(),
            labels: LabelSet::usual(),
            response_code: ResponseCode::Class,
            max_series: options::DEFAULT_MAX_SERIES,
            series_ttl: Interval::from_secs(3600),
            series_grace: Interval::from_secs(120),
            ring_size: RingSize::default(),
            poll_interval: Interval::from_millis(50),
            hold: Interval::from_millis(200),
            max_pending: options::DEFAULT_MAX_PENDING,
            read_hook: ReadHook::Auto,
            trace_windows: Windows::Always,
            pod_boundary: PodBoundary::Off,
            http2: Http2::Off,
            headers: Headers::AppLegs,
            bpf_stats: false,
            bpf_log: BpfLog::Off,
            record: None,
            record_heads: false,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            keep_caps: false,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    #[default]
    Default,
    /// The TOML file.
    File,
    /// A `HOPTRACE_*` variable.
    Environment,
    /// The command line.
    Flag,
}

/// Source of each option, by its key in the file.
pub type Sources = BTreeMap<&'static str, Source>;

/// The configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Effective values.
    pub config: Config,
    /// Their sources.
    pub sources: Sources,
}

impl Config {
    /// Joins flags, environment, file and defaults. `matches` are those of the subcommand that
    /// `args` was read from; they tell flags from variables.
    ///
    /// # Errors
    /// When the file cannot be read, or holds a key or value that is not one.
    pub fn resolve(args: AgentArgs, matches: &ArgMatches) -> Result<Resolved, ConfigError> {
        let file = args
            .config
            .as_deref()
            .map(file::read)
            .transpose()?
            .unwrap_or_default();
        let told = |key: &str| match matches.value_source(key) {
            Some(ValueSource::CommandLine) => Source::Flag,
            _ => Source::Environment,
        };
        let resolved = Self::join(args.options, file, told);
        let config = &resolved.config;
        if config.proxy_inbound_port == config.proxy_outbound_port {
            return Err(ConfigError::SamePort(config.proxy_inbound_port));
        }
        let (windows, hold) = (config.trace_windows, config.hold);
        if let Err(shortest) = windows.fit(hold) {
            return Err(ConfigError::ShortPeriod {
                windows,
                hold,
                shortest,
            });
        }
        if config.record.is_some() && windows != Windows::Always {
            return Err(ConfigError::RecordedWindows(windows));
        }
        Ok(resolved)
    }

    /// The cgroup v2 directory whose sockets are traced.
    ///
    /// # Errors
    /// When none is configured and no cgroup v2 hierarchy is mounted.
    pub fn cgroup_root(&self) -> Result<PathBuf, MountsError> {
        self.cgroup_root.clone().map_or_else(mounts::cgroup2, Ok)
    }

    /// What tells the sockets of a sidecar apart.
    #[must_use]
    pub fn sidecars(&self) -> Sidecars {
        Sidecars {
            inbound_port: self.proxy_inbound_port.get(),
            outbound_port: self.proxy_outbound_port.get(),
            app_source: self.proxy_app_source.get(),
        }
    }

    /// The part of the configuration the join needs.
    #[must_use]
    pub fn joining(&self) -> JoinConfig {
        JoinConfig {
            hold_ns: self.hold.nanos(),
            max_pending: self.max_pending.get(),
        }
    }

    /// The part of the configuration the metrics need.
    #[must_use]
    pub fn metrics(&self) -> MetricsConfig {
        MetricsConfig {
            buckets: self.buckets.as_slice().to_vec(),
            labels: self.labels,
            response_code: self.response_code,
            max_series: self.max_series.get(),
        }
    }
}

impl Resolved {
    /// The configuration as TOML that can be given back with `--config`; each line ends with the
    /// source of its value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }

    /// The same as a JSON object: by option its `value`, null where there is none, and its `source`.
    #[must_use]
    pub fn to_json(&self) -> String {
        print::to_json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(given: Options, file: Options) -> Resolved {
        Config::join(given, file, |_key| Source::Flag)
    }

    #[test]
    fn every_option_can_be_set() {
        let mut full = Config {
            cgroup_root: Some("/c".into()),
            ..Config::default()
        };
        full.record = Some("/r".into());
        full.kubeconfig = Some("/k".into());
        full.tls_cert = Some("/c".into());
        full.tls_key = Some("/k".into());
        full.node_name = Some("n".into());
        let text = toml::to_string(&full).unwrap();
        let file: Options = toml::from_str(&text).unwrap();
        let resolved = join(Options::default(), file);
        assert_eq!(resolved.config, full);
        let table: toml::Table = toml::from_str(&text).unwrap();
        let keys: Vec<_> = table.keys().map(String::as_str).collect();
        assert_eq!(resolved.sources.keys().copied().collect::<Vec<_>>(), keys);
        assert!(
            resolved
                .sources
                .values()
                .all(|&source| source == Source::File)
        );
    }

    #[test]
    fn what_is_told_of_a_sidecar_comes_before_its_mesh() {
        let mesh = Some(Mesh::Linkerd);
        let file = Options {
            mesh,
            proxy_uid: Some(7),
            ..Options::default()
        };
        let given = Options {
            proxy_inbound_port: NonZeroU16::new(9),
            ..Options::default()
        };
        let Resolved { config, sources } = join(given, file);
        assert_eq!(config.proxy_names, Names::one("linkerd2-proxy"));
        assert_eq!(config.proxy_uid, 7);
        let expected = Sidecars {
            inbound_port: 9,
            outbound_port: 4140,
            app_source: crate::roles::AppSource::Own,
        };
        assert_eq!(config.sidecars(), expected);
        assert_eq!(sources["proxy_names"], Source::Default);
        assert_eq!(Config::default().sidecars(), Sidecars::default());
        // All of another mesh's can be given back.
        let linkerd = Config::of_mesh(Mesh::Linkerd);
        let text = toml::to_string(&linkerd).unwrap();
        assert_eq!(
            join(Options::default(), toml::from_str(&text).unwrap()).config,
            linkerd
        );
    }

    #[test]
    fn what_is_printed_can_be_given_back() {
        let printed = join(Options::default(), Options::default()).to_toml();
        let again = join(Options::default(), toml::from_str(&printed).unwrap());
        assert_eq!(again.config, Config::default());
    }

    #[test]
    fn given_comes_before_file_before_default() {
        let hold = |millis| Some(Interval::from_millis(millis));
        let file = Options {
            hold: hold(2),
            poll_interval: hold(3),
            ..Options::default()
        };
        let given = Options {
            hold: hold(1),
            ..Options::default()
        };
        let Resolved { config, sources } = join(given, file);
        assert_eq!(config.hold, Interval::from_millis(1));
        assert_eq!(config.poll_interval, Interval::from_millis(3));
        let found = ["hold", "poll_interval", "listen"].map(|key| sources[key]);
        assert_eq!(found, [Source::Flag, Source::File, Source::Default]);
    }
}
