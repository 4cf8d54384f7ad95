//! The static file: workloads by pod uid, cgroup or address, and services by virtual address.
//!
//! ```toml
//! [[workload]]
//! name = "orders"
//! namespace = "shop"
//! cgroups = ["lab/orders", "system.slice/orders-*.service"]
//! pod_uids = ["0a1b2c3d-1111-2222-3333-444455556666"]
//! ips = ["10.1.0.7"]
//!
//! [[service]]
//! name = "orders"
//! namespace = "shop"
//! vips = ["10.96.0.10:8080"]
//! ```

use super::naming;
use crate::config::blame;
use crate::model::Workload;
use crate::mounts::MountsError;
use glob::Pattern;
use hashbrown::HashMap;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;

/// Why there are no names from the source that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Paths of cgroups cannot be read.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// The node is not known.
    #[error(
        "--identity kubernetes needs the name of this node: give --node-name, or set NODE_NAME \
         from spec.nodeName in the pod"
    )]
    NoNodeName,
    /// The API is not known, because this is no pod.
    #[error(
        "no service account is found to ask the API with; run as a pod of the cluster, or give \
         --kubeconfig"
    )]
    NotInCluster(#[source] Box<kube::config::InClusterError>),
    /// The API is not known, because the file does not tell.
    #[error("cannot use the kubeconfig {path}; give --kubeconfig a file that kubectl takes")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The API's client cannot be made.
    #[error("cannot use what the kubeconfig or service account says of the API")]
    Client(#[source] Box<kube::Error>),
    /// The watches cannot begin.
    #[error("cannot start the thread that watches the API")]
    Thread(#[source] std::io::Error),
    /// It could not be read.
    #[error("cannot read {path}; --identity static:FILE needs a file that exists and is readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something that is not an entry.
    #[error(
        "{path}:{line}: `{text}`: {reason}; write [[workload]] with name, namespace, pod_uids, \
         cgroups, ips and [[service]] with name, namespace, vips"
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The line itself.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    workload: Vec<WorkloadEntry>,
    #[serde(default)]
    service: Vec<ServiceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadEntry {
    name: Spanned<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    pod_uids: Vec<PodUid>,
    #[serde(default)]
    cgroups: Vec<CgroupPattern>,
    #[serde(default)]
    ips: Vec<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    name: Spanned<String>,
    /// Documented and read, but Istio's `destination_service_name` does not show it.
    #[serde(default, rename = "namespace")]
    _namespace: String,
    #[serde(default)]
    vips: Vec<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct PodUid(String);

impl TryFrom<String> for PodUid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        naming::normal_uid(&text)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no pod uid (kubectl shows it as metadata.uid)"))
    }
}

/// A part of a path, or a pattern for the whole of it when it holds one of `*?[`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
enum CgroupPattern {
    Part(String),
    Whole(Pattern),
}

impl TryFrom<String> for CgroupPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim_matches('/').is_empty() {
            return Err("an empty cgroup would match everything".to_owned());
        }
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Part(text));
        }
        Pattern::new(text.trim_start_matches('/'))
            .map(Self::Whole)
            .map_err(|error| format!("`{text}` is no pattern: {}", error.msg))
    }
}

impl CgroupPattern {
    fn matches(&self, path: &str) -> bool {
        match self {
            // With slashes around it, `/orders/` means the directory and not `orders-db`.
            Self::Part(part) => format!("/{path}/").contains(part.as_str()),
            Self::Whole(pattern) => pattern.matches(path),
        }
    }
}

/// The names of a file, ready to be looked up. The file bounds their number.
#[derive(Clone, Debug, Default)]
pub struct StaticFile {
    pods: HashMap<String, Workload>,
    /// In the order of the file: the first that matches wins.
    cgroups: Vec<(CgroupPattern, Workload)>,
    ips: HashMap<IpAddr, Workload>,
    services: HashMap<SocketAddr, Arc<str>>,
}

impl StaticFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read or holds something that is not an entry; the error names the line.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let text = std::fs::read_to_string(path).map_err(|source| IdentityError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, IdentityError> {
        let invalid = |(line, text): (usize, String), reason: String| IdentityError::Invalid {
            path: path.into(),
            line,
            text,
            reason,
        };
        let document: Document = toml::from_str(text)
            .map_err(|error| invalid(blame::line(text, error.span()), blame::reason(&error)))?;
        let mut file = Self::default();
        let nameless = "a name is empty";
        for entry in document.workload {
            if entry.name.get_ref().is_empty() {
                return Err(invalid(
                    blame::line(text, Some(entry.name.span())),
                    nameless.into(),
                ));
            }
            file.add_workload(entry);
        }
        for entry in document.service {
            if entry.name.get_ref().is_empty() {
                return Err(invalid(
                    blame::line(text, Some(entry.name.span())),
                    nameless.into(),
                ));
            }
            let name: Arc<str> = entry.name.into_inner().into();
            let vips = entry
                .vips
                .into_iter()
                .map(|vip| (plain_socket(vip), Arc::clone(&name)));
            file.services.extend(vips);
        }
        Ok(file)
    }

    fn add_workload(&mut self, entry: WorkloadEntry) {
        let workload = Workload::new(entry.name.into_inner().into(), entry.namespace.into());
        let own = || workload.clone();
        self.pods
            .extend(entry.pod_uids.into_iter().map(|uid| (uid.0, own())));
        self.cgroups
            .extend(entry.cgroups.into_iter().map(|pattern| (pattern, own())));
        self.ips
            .extend(entry.ips.into_iter().map(|ip| (ip.to_canonical(), own())));
    }

    /// The workload of a cgroup path: by pod uid, else by the first pattern that matches.
    #[must_use]
    pub fn by_path(&self, path: &str) -> Option<Workload> {
        let by_pod = || naming::pod_uids(path).find_map(|uid| self.pods.get(&uid));
        let by_pattern = || {
            Some(
                &self
                    .cgroups
                    .iter()
                    .find(|(pattern, _)| pattern.matches(path))?
                    .1,
            )
        };
        by_pod().or_else(by_pattern).cloned()
    }

    /// The workload that owns an address.
    #[must_use]
    pub fn by_ip(&self, ip: IpAddr) -> Option<Workload> {
        self.ips.get(&ip.to_canonical()).cloned()
    }

    /// The service behind a virtual address.
    #[must_use]
    pub fn service(&self, vip: SocketAddr) -> Option<Arc<str>> {
        self.services.get(&plain_socket(vip)).cloned()
    }
}

/// IPv4 as IPv4, whichever way the kernel or the file wrote it.
fn plain_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[workload]]
        name = "orders"
        namespace = "shop"
        pod_uids = ["0A1B2C3D-1111-2222-3333-444455556666"]
        cgroups = ["/lab/orders/", "system.slice/orders-*.service"]
        ips = ["10.1.0.7"]

        [[workload]]
        name = "any-lab"
        cgroups = ["lab"]

        [[service]]
        name = "orders"
        namespace = "shop"
        vips = ["10.96.0.10:8080"]
    "#;

    #[test]
    fn everything_named_is_found() {
        let file = StaticFile::parse(Path::new("w.toml"), FILE).unwrap();
        let name = |path: &str| file.by_path(path).map(|workload| workload.name.to_string());
        let cases = [
            ("lab/orders", Some("orders")),
            ("lab/orders/envoy", Some("orders")),
            ("lab/orders-db", Some("any-lab")),
            ("system.slice/orders-1.service", Some("orders")),
            (
                "kubepods/pod0a1b2c3d-1111-2222-3333-444455556666/x",
                Some("orders"),
            ),
            (
                "kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
                Some("orders"),
            ),
            ("system.slice/nginx.service", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(name(path).as_deref(), expected, "{path}");
        }
        assert!(file.by_ip("::ffff:10.1.0.7".parse().unwrap()).is_some());
        assert!(file.by_ip("10.1.0.8".parse().unwrap()).is_none());
        assert_eq!(
            file.service("10.96.0.10:8080".parse().unwrap()).as_deref(),
            Some("orders")
        );
        assert_eq!(
            file.service("[::ffff:10.96.0.10]:8080".parse().unwrap())
                .as_deref(),
            Some("orders")
        );
        assert_eq!(file.service("10.96.0.10:80".parse().unwrap()), None);
    }

    #[test]
    fn errors_name_file_line_key_and_remedy() {
        let cases: [(&str, &[&str]); 7] = [
            (
                "[[workload]]\nname = \"\"",
                &["w.toml:2:", "name = \"\"", "empty"],
            ),
            ("[[workload]]\nnamespace = \"a\"", &["w.toml:1:", "name"]),
            (
                "[[workload]]\nname = \"a\"\nip = []",
                &["w.toml:3:", "unknown field", "ip"],
            ),
            (
                "[[workload]]\nname = \"a\"\nips = [\"x\"]",
                &["w.toml:3:", "IP address"],
            ),
            (
                "[[workload]]\nname = \"a\"\npod_uids = [\"x\"]",
                &["w.toml:3:", "metadata.uid"],
            ),
            (
                "[[workload]]\nname = \"a\"\ncgroups = [\"a[\"]",
                &["w.toml:3:", "pattern"],
            ),
            (
                "[[service]]\nname = \"a\"\nvips = [\"10.0.0.1\"]",
                &["w.toml:3:", "socket address"],
            ),
        ];
        for (text, parts) in cases {
            let error = StaticFile::parse(Path::new("w.toml"), text)
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "`{part}` is not in `{error}`");
            }
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(text in "(\\[\\[(workload|service)\\]\\]\n|(name|ips|vips|cgroups|pod_uids) = \\[?\"[-0-9a-f.:*?/\\[\\]]{0,20}\"\\]?\n|\\PC{0,9}\n){0,8}") {
            if let Ok(file) = StaticFile::parse(Path::new("w.toml"), &text) {
                let _name = file.by_path(&text);
            }
        }
    }
}
