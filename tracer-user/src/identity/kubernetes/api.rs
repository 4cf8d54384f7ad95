//! Where the API is, and as whom to ask it.

use crate::config::Config;
use crate::identity::IdentityError;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent: a watch is ended by the server before.
const SILENCE: Duration = Duration::from_secs(300);

/// The API of a kubeconfig, or of the cluster that this is a pod of.
///
/// # Errors
/// When the file cannot be used, or this is no pod.
pub async fn config(kubeconfig: Option<&Path>) -> Result<kube::Config, IdentityError> {
    let mut config = match kubeconfig {
        None => kube::Config::incluster()
            .map_err(|source| IdentityError::NotInCluster(Box::new(source)))?,
        Some(path) => {
            let invalid = |source| IdentityError::Kubeconfig {
                path: path.into(),
                source: Box::new(source),
            };
            let file = Kubeconfig::read_from(path).map_err(invalid)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(invalid)?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Errors are counted and told here; a hidden second try would only delay that.
    config.default_retry = false;
    Ok(config)
}

/// Name of this node, as the API has it.
///
/// # Errors
/// When neither option nor environment tell it.
pub fn node_name(config: &Config) -> Result<String, IdentityError> {
    let given = config.node_name.clone();
    given
        .or_else(|| std::env::var("NODE_NAME").ok())
        .filter(|name| !name.is_empty())
        .ok_or(IdentityError::NoNodeName)
}
