//! From a pod's metadata to the name of its workload, by the rules of Istio.
//!
//! Istio walks the same way in `GetWorkloadMetaFromPod` (istio, pkg/kube/util.go), so that our
//! labels and those of its own metrics join.

/// What of a pod names its workload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lineage<'a> {
    /// `metadata.name`.
    pub(super) pod: &'a str,
    /// Whether a controller made up the name (`metadata.generateName`).
    pub(super) generated: bool,
    /// Kind and name of the controlling owner.
    pub(super) controller: Option<(&'a str, &'a str)>,
    /// Label `pod-template-hash` of a ReplicaSet's pods.
    pub(super) template_hash: Option<&'a str>,
    /// Label `rollouts-pod-template-hash`: Argo's Rollouts make ReplicaSets as well.
    pub(super) rollout_hash: Option<&'a str>,
    /// Label `deploymentconfig` of OpenShift's ReplicationControllers.
    pub(super) deployment_config: Option<&'a str>,
    /// Label `service.istio.io/workload-name`, which overrides everything.
    pub(super) workload_label: Option<&'a str>,
}

impl<'a> Lineage<'a> {
    /// Name of the Deployment, StatefulSet, DaemonSet, CronJob or Job; of the pod when it has none.
    pub(super) fn workload(&self) -> &'a str {
        if let Some(name) = some(self.workload_label) {
            return name;
        }
        let Some((kind, owner)) = self.controller.filter(|_| self.generated) else {
            // Static pods belong to their node, which is no workload.
            return self.pod;
        };
        match kind {
            "ReplicaSet" => {
                let of_hash = |hash| strip_hash(owner, some(hash)?);
                of_hash(self.template_hash)
                    .or_else(|| of_hash(self.rollout_hash))
                    .unwrap_or(owner)
            }
            "ReplicationController" => some(self.deployment_config).unwrap_or(owner),
            "Job" => cron_job(owner).unwrap_or(owner),
            _ => owner,
        }
    }
}

/// Canonical service: what Istio calls an application in its telemetry
/// (istio, pkg/model/proxy.go and the injector's `service.istio.io/canonical-name`).
pub(super) fn canonical_service<'a>(
    label: impl Fn(&'static str) -> Option<&'a str>,
    workload: &'a str,
) -> &'a str {
    let names = [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ];
    names
        .iter()
        .find_map(|name| some(label(name)))
        .unwrap_or(workload)
}

/// Canonical revision: the version of the application, `latest` when nothing tells.
pub(super) fn canonical_revision<'a>(label: impl Fn(&'static str) -> Option<&'a str>) -> &'a str {
    let names = [
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ];
    names
        .iter()
        .find_map(|name| some(label(name)))
        .unwrap_or("latest")
}

/// The workload that a pod's name tells, where there is nothing but the name (EndpointSlices).
///
/// Controllers append `-` and five random characters, ReplicaSets of a Deployment have the hash of
/// the template before that, StatefulSets append the ordinal. A pod that a person named the same
/// way is cut too: the page on this says so.
pub(super) fn from_pod_name(pod: &str) -> &str {
    let Some((owner, suffix)) = pod.rsplit_once('-') else {
        return pod;
    };
    if !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()) && suffix.len() < 5 {
        return owner;
    }
    if suffix.len() != 5 || !suffix.bytes().all(is_safe) {
        return pod;
    }
    match owner.rsplit_once('-') {
        // A 32-bit number in decimal, written in the safe alphabet: shorter ones are rare, and
        // mostly a word of the name.
        Some((deployment, hash)) if (8..=10).contains(&hash.len()) && hash.bytes().all(is_safe) => {
            deployment
        }
        _ => cron_job(owner).unwrap_or(owner),
    }
}

/// Characters of generated names, without vowels and what looks like them
/// (`alphanums` in apimachinery, pkg/util/rand).
fn is_safe(byte: u8) -> bool {
    b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)
}

/// A ReplicaSet of a Deployment is named after it and the hash of the template.
fn strip_hash<'a>(replica_set: &'a str, hash: &str) -> Option<&'a str> {
    some(replica_set.strip_suffix(hash)?.strip_suffix('-'))
}

/// A CronJob's Jobs are named after it and the minute they were due, 8 to 10 digits.
fn cron_job(job: &str) -> Option<&str> {
    let (cron_job, minute) = job.rsplit_once('-')?;
    let is_minute =
        (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    (is_minute && !cron_job.is_empty()).then_some(cron_job)
}

/// An empty text is none.
fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_chain_leads_to_the_workload() {
        let pod = |pod, controller| Lineage {
            pod,
            generated: true,
            controller: Some(controller),
            ..Lineage::default()
        };
        let check = |lineage: Lineage<'_>, expected: &str| {
            assert_eq!(lineage.workload(), expected, "{lineage:?}");
        };
        let deployed = Lineage {
            template_hash: Some("7d9f8b6c5d"),
            ..pod("web-7d9f8b6c5d-x2x4z", ("ReplicaSet", "web-7d9f8b6c5d"))
        };
        check(deployed, "web");
        check(
            Lineage {
                workload_label: Some("frontend"),
                ..deployed
            },
            "frontend",
        );
        check(
            Lineage {
                workload_label: Some(""),
                ..deployed
            },
            "web",
        );
        check(
            Lineage {
                template_hash: Some("other"),
                ..deployed
            },
            "web-7d9f8b6c5d",
        );
        check(
            Lineage {
                template_hash: None,
                rollout_hash: Some("7d9f8b6c5d"),
                ..deployed
            },
            "web",
        );
        // A ReplicaSet of its own has no hash.
        check(pod("solo-x2x4z", ("ReplicaSet", "solo")), "solo");
        check(pod("db-0", ("StatefulSet", "db")), "db");
        check(pod("log-x2x4z", ("DaemonSet", "log")), "log");
        check(pod("once-x2x4z", ("Job", "once")), "once");
        check(pod("tick-28461220-x2x4z", ("Job", "tick-28461220")), "tick");
        check(pod("j-1234567-x2x4z", ("Job", "j-1234567")), "j-1234567");
        check(
            Lineage {
                deployment_config: Some("shop"),
                ..pod("shop-3-x2x4z", ("ReplicationController", "shop-3"))
            },
            "shop",
        );
        check(pod("x-x2x4z", ("Workflow", "build")), "build");
        // Bare, and static: the node is its owner, and nobody made up the name.
        check(
            Lineage {
                pod: "bare",
                ..Lineage::default()
            },
            "bare",
        );
        check(
            Lineage {
                generated: false,
                ..pod("etcd-node1", ("Node", "node1"))
            },
            "etcd-node1",
        );
    }

    #[test]
    fn a_pods_name_tells_its_workload() {
        let cases = [
            ("web-7d9f8b6c5d-x2x4z", "web"),
            ("a-b-c-6c5d9f8b7-x2x4z", "a-b-c"),
            ("log-x2x4z", "log"),
            // A word of the name is no hash.
            ("web-v2-x2x4z", "web-v2"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("etcd-node1", "etcd-node1"),
            ("tick-28461220-x2x4z", "tick"),
            ("bare", "bare"),
            ("", ""),
            ("-", "-"),
        ];
        for (pod, expected) in cases {
            assert_eq!(from_pod_name(pod), expected, "{pod}");
        }
    }

    #[test]
    fn canonical_names_follow_istios_order() {
        let labels = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|pair| pair.1)
            }
        };
        let all = labels(&[
            ("app", "c"),
            ("app.kubernetes.io/name", "b"),
            ("service.istio.io/canonical-name", "a"),
            ("version", "v2"),
        ]);
        assert_eq!(canonical_service(all, "w"), "a");
        assert_eq!(canonical_revision(all), "v2");
        let some = labels(&[("app", "c"), ("app.kubernetes.io/name", "")]);
        assert_eq!(canonical_service(some, "w"), "c");
        let none = labels(&[]);
        assert_eq!(canonical_service(none, "w"), "w");
        assert_eq!(canonical_revision(none), "latest");
    }
}
