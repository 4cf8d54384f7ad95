//! Helm, run in the node's network, with nothing of the user's own configuration.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::capture::capture;
use crate::kubectl::in_network;

/// Helm for one cluster.
#[derive(Clone, Debug)]
pub struct Helm {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Its caches, with the cluster's files.
    pub(crate) home: PathBuf,
}

impl Helm {
    /// Runs it; returns its standard output.
    ///
    /// # Errors
    /// It fails, or takes longer than `limit`.
    pub fn run(&self, arguments: &[&str], limit: Duration) -> Result<String> {
        let mut command = in_network(&self.program, &self.kubeconfig)?;
        command.env("HELM_CACHE_HOME", self.home.join("cache"));
        command.env("HELM_CONFIG_HOME", self.home.join("config"));
        command.env("HELM_DATA_HOME", self.home.join("data"));
        let what = format!("`helm {}`", arguments.join(" "));
        capture(&what, command.args(arguments), None, limit)
    }
}
