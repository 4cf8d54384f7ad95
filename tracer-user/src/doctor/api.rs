//! The Kubernetes API: whether it answers, and what it lets this service account see.

use super::Check;
use crate::config::Config;
use crate::identity::kubernetes::api;
use crate::identity::kubernetes::facts::Feed;
use crate::identity::kubernetes::watch::Watched;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use std::error::Error;
use std::time::Duration;

const NAME: &str = "Kubernetes API";
const NODE: &str = "name of this node";
const LOST: &str = "names of workloads and services: pods are named by their cgroups";
/// How long the API has for all questions together.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the API. One check when it does not answer, else one for each resource that is watched.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let unreachable = |found: String| {
        let remedy = "give --kubeconfig, or run as a pod whose service account and network policy \
                      let it reach the API";
        vec![Check::degraded(NAME, found, LOST, remedy)]
    };
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            match tokio::time::timeout(LIMIT, ask(config)).await {
                Ok(Ok(checks)) => checks,
                Ok(Err(error)) => unreachable(with_cause(error.as_ref())),
                Err(_elapsed) => unreachable(format!("no answer within {LIMIT:?}")),
            }
        }),
        Err(error) => unreachable(error.to_string()),
    }
}

async fn ask(config: &Config) -> Result<Vec<Check>, Box<dyn Error>> {
    let api = api::config(config.kubeconfig.as_deref()).await?;
    let address = api.cluster_url.to_string();
    let client = Client::try_from(api)?;
    let version = client.apiserver_version().await?;
    let mut checks = vec![Check::ok(
        NAME,
        format!("{} at {address}", version.git_version),
    )];
    for feed in Watched::from(config.peers).feeds() {
        checks.push(rights(&client, *feed).await?);
    }
    checks.push(node(&client, config).await);
    Ok(checks)
}

/// Whether a resource may be listed and watched in the whole cluster.
async fn rights(client: &Client, feed: Feed) -> Result<Check, Box<dyn Error>> {
    let (resource, group) = match feed.resource().split_once('.') {
        Some((resource, group)) => (resource, group),
        None => (feed.resource(), ""),
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let mut refused = Vec::new();
    for verb in ["list", "watch"] {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            refused.push(verb);
        }
    }
    let name = feed.as_str();
    if refused.is_empty() {
        return Ok(Check::ok(name, format!("{} list, watch", feed.resource())));
    }
    Ok(Check::degraded(
        name,
        format!("{} may not {}", feed.resource(), refused.join(", ")),
        feed.gives(),
        "give the service account a ClusterRole with list and watch on it",
    ))
}

/// A node has pods, so one without any is none.
async fn node(client: &Client, config: &Config) -> Check {
    let remedy = "give --node-name as kubectl get nodes shows it";
    let name = match api::node_name(config) {
        Ok(name) => name,
        Err(_not_given) => {
            let remedy = "give --node-name, or set NODE_NAME from spec.nodeName";
            return Check::missing(NODE, "not given", "everything: it does not start", remedy);
        }
    };
    let pods = Api::<Pod>::all(client.clone());
    // Out of the API's cache, which knows the pods of a node; a limit would send it to its database.
    let here = ListParams::default()
        .fields(&format!("spec.nodeName={name}"))
        .match_any();
    match pods.list_metadata(&here).await {
        Ok(found) if found.items.is_empty() => Check::degraded(
            NODE,
            format!("{name}, where the API knows no pod"),
            LOST,
            remedy,
        ),
        Ok(_) => Check::ok(NODE, name),
        // Without the right to look, the check above has said so.
        Err(_) => Check::ok(NODE, format!("{name}, which could not be looked for")),
    }
}

/// An error and its innermost cause.
fn with_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer.contains(&inner) {
        outer
    } else {
        format!("{outer}: {inner}")
    }
}
