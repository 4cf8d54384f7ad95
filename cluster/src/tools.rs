//! The programs that a cluster is made of, and where `cargo xtask cluster fetch` puts them.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hoptrace_lab::pinned::{HELM, KUBECTL};

/// The Kubernetes that is built, from the source package of Debian 12.
pub const KUBERNETES_VERSION: &str = "1.20.2";
/// What is built of it.
pub const KUBERNETES_PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];
/// Goes up with each change of how it is built.
const KUBERNETES_REVISION: u32 = 2;
/// Goes up with each change of what [`TOOL_PROGRAMS`] are taken from.
const TOOLS_REVISION: u32 = 1;
/// What is fetched, below the directory of the tools.
pub const TOOL_PROGRAMS: [&str; 10] = [
    "bin/containerd",
    "bin/containerd-shim-runc-v2",
    "bin/ctr",
    "bin/etcd",
    "bin/prometheus",
    "bin/runc",
    "cni/bridge",
    "cni/host-local",
    "cni/loopback",
    "cni/portmap",
];

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The five programs of Kubernetes.
    pub kubernetes: PathBuf,
    /// Runtime, network plugins, store and Prometheus: `bin/` and `cni/`.
    pub tools: PathBuf,
    /// Helm, which setup fetches.
    pub helm: PathBuf,
    /// kubectl, which setup fetches.
    pub kubectl: PathBuf,
}

impl Tools {
    /// The places in the cache, whether or not `cluster fetch` has been there: `$HOPTRACE_CACHE`, else
    /// `~/.cache/hoptrace`.
    ///
    /// # Errors
    /// Neither that variable nor `HOME` is set, or setup did not fetch Helm and kubectl.
    pub fn places() -> Result<Self> {
        let cache = match env::var_os("HOPTRACE_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => env::home_dir()
                .context("HOME is not set; set HOME, or HOPTRACE_CACHE")?
                .join(".cache/hoptrace"),
        };
        Ok(Self {
            kubernetes: cache.join(format!(
                "kubernetes-{KUBERNETES_VERSION}-{KUBERNETES_REVISION}"
            )),
            tools: cache.join(format!("cluster-tools-{TOOLS_REVISION}")),
            helm: HELM.find()?,
            kubectl: KUBECTL.find()?,
        })
    }

    /// The places, when everything is there.
    ///
    /// # Errors
    /// A program is missing.
    pub fn find() -> Result<Self> {
        let tools = Self::places()?;
        if let Some(missing) = tools.missing() {
            bail!(
                "{} is missing: run `cargo xtask cluster fetch`",
                missing.display()
            );
        }
        Ok(tools)
    }

    /// The first program that is not there.
    #[must_use]
    pub fn missing(&self) -> Option<PathBuf> {
        let kubernetes = KUBERNETES_PROGRAMS.map(|name| self.kubernetes(name));
        let tools = TOOL_PROGRAMS.map(|name| self.tools.join(name));
        kubernetes
            .into_iter()
            .chain(tools)
            .find(|path| !path.is_file())
    }

    /// One of Kubernetes' programs.
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// Any other program of the node.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.join("bin").join(name)
    }
}
