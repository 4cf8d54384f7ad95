//! Objects as the API writes them, read without what is not needed, and turned into facts.
//!
//! A pod takes 5 to 20 kB of JSON, most of it managed fields, volumes and conditions. Whatever is
//! not named here is skipped while it is read and never takes memory.

use super::facts::{
    Container, ContainerId, Endpoint, Node, Object, Pod, Service, ServicePort, Slice, TargetPort,
    Uid,
};
use super::workload::{self, Lineage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::{ApiResource, DynamicResourceScope};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::IpAddr;

/// An object on its way from the API to the store.
#[derive(Deserialize)]
#[serde(from = "V", bound(deserialize = "V: View"))]
pub(super) struct Seen<V> {
    /// Name and version alone, which is what a watch goes by.
    meta: ObjectMeta,
    uid: Uid,
    object: Object,
    kind: PhantomData<fn() -> V>,
}

/// A kind of objects as it is read.
pub(super) trait View: for<'de> Deserialize<'de> + 'static {
    /// The metadata, and what is kept of the rest.
    fn prune(self) -> (Meta, Object);
}

impl<V: View> From<V> for Seen<V> {
    fn from(view: V) -> Self {
        let (meta, object) = view.prune();
        Self {
            uid: meta.uid(),
            meta: ObjectMeta {
                name: Some(meta.name),
                resource_version: meta.resource_version,
                ..ObjectMeta::default()
            },
            object,
            kind: PhantomData,
        }
    }
}

// Derived, both would ask the same of the kind, which is nowhere in it.
impl<V> Clone for Seen<V> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            uid: self.uid,
            object: self.object.clone(),
            kind: PhantomData,
        }
    }
}

impl<V> std::fmt::Debug for Seen<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Seen").field(&self.object).finish()
    }
}

impl<V> Seen<V> {
    /// Uid and what is kept.
    pub(super) fn into_parts(self) -> (Uid, Object) {
        (self.uid, self.object)
    }
}

impl<V> kube::Resource for Seen<V> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// What of `metadata` is looked at.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    name: String,
    namespace: String,
    uid: String,
    generate_name: String,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: BTreeMap<String, String>,
    annotations: Annotations,
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    /// Of static pods: what the kubelet names their cgroup by
    /// (`ConfigHashAnnotationKey` in pkg/kubelet/types/pod_update.go).
    #[serde(rename = "kubernetes.io/config.hash")]
    config_hash: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: bool,
}

impl Meta {
    fn uid(&self) -> Uid {
        Uid::new(&self.uid)
    }

    fn created(&self) -> i64 {
        let created = self.creation_timestamp.as_ref();
        created.map_or(0, |time| time.0.as_second())
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn workload(&self) -> String {
        let controller = self.owner_references.iter().find(|owner| owner.controller);
        let lineage = Lineage {
            pod: &self.name,
            generated: !self.generate_name.is_empty(),
            controller: controller.map(|owner| (owner.kind.as_str(), owner.name.as_str())),
            template_hash: self.label("pod-template-hash"),
            rollout_hash: self.label("rollouts-pod-template-hash"),
            deployment_config: self.label("deploymentconfig"),
            workload_label: self.label("service.istio.io/workload-name"),
        };
        lineage.workload().to_owned()
    }
}

/// A pod of this node, or with `NODE` false one of another: without containers.
#[derive(Deserialize)]
pub(super) struct PodView<const NODE: bool> {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Ip>,
    #[serde(rename = "hostIP")]
    host_ip: String,
    #[serde(rename = "hostIPs")]
    host_ips: Vec<Ip>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    state: ContainerState,
    last_state: ContainerState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: String,
}

impl PodStatus {
    /// Whether no process of the pod is left, and its address may go to another.
    fn ended(&self, deleted: bool) -> bool {
        if matches!(self.phase.as_str(), "Succeeded" | "Failed") {
            return true;
        }
        // On its way out the kubelet tells the end of the containers before the object goes.
        let mut statuses = self.container_statuses.iter().peekable();
        deleted
            && statuses.peek().is_some()
            && statuses.all(|status| status.state.terminated.is_some())
    }

    fn containers(self) -> Vec<Container> {
        // Native sidecars are init containers that stay.
        let all = self
            .container_statuses
            .into_iter()
            .chain(self.init_container_statuses)
            .chain(self.ephemeral_container_statuses);
        all.filter_map(|status| {
            let last = status.last_state.terminated.unwrap_or_default();
            let ids = [&status.container_id, &last.container_id].map(|id| ContainerId::new(id));
            ids.iter().any(Option::is_some).then_some(Container {
                ids,
                name: status.name,
            })
        })
        .collect()
    }
}

/// Texts that are addresses, each once.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for ip in texts.into_iter().filter_map(|text| text.parse().ok()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}

fn with_first<'a>(first: &'a str, all: &'a [Ip]) -> Vec<IpAddr> {
    addresses(
        [first]
            .into_iter()
            .chain(all.iter().map(|ip| ip.ip.as_str())),
    )
}

impl<const NODE: bool> View for PodView<NODE> {
    fn prune(self) -> (Meta, Object) {
        let Self {
            mut metadata,
            spec,
            status,
        } = self;
        let workload = metadata.workload();
        let label = |name: &str| metadata.label(name);
        let service = workload::canonical_service(label, &workload).to_owned();
        let revision = workload::canonical_revision(label).to_owned();
        let pod = Pod {
            uid: metadata.uid(),
            service,
            revision,
            alias: metadata
                .annotations
                .config_hash
                .as_deref()
                .and_then(Uid::hex),
            workload,
            namespace: std::mem::take(&mut metadata.namespace),
            ips: if spec.host_network {
                Vec::new()
            } else {
                with_first(&status.pod_ip, &status.pod_ips)
            },
            node: spec.node_name,
            node_ips: with_first(&status.host_ip, &status.host_ips),
            created: metadata.created(),
            ended: status.ended(metadata.deletion_timestamp.is_some()),
            labels: std::mem::take(&mut metadata.labels).into_iter().collect(),
            containers: if NODE {
                status.containers()
            } else {
                Vec::new()
            },
        };
        (metadata, Object::Pod(Box::new(pod)))
    }
}

/// A service.
#[derive(Deserialize)]
pub(super) struct ServiceView {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<Port>,
    selector: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    protocol: Option<String>,
    port: u16,
    target_port: Option<NumberOrName>,
    node_port: u16,
}

impl Port {
    /// TCP is what is meant when nothing is said.
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|name| name == "TCP")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrName {
    Number(u16),
    Name(serde::de::IgnoredAny),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ip>,
}

impl View for ServiceView {
    fn prune(self) -> (Meta, Object) {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let ports = spec.ports.iter().filter(|port| port.is_tcp());
        let service = Service {
            uid: metadata.uid(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            // "None" of a headless service is no address, and so falls out.
            vips: addresses(
                [&spec.cluster_ip]
                    .into_iter()
                    .chain(&spec.cluster_ips)
                    .chain(&spec.external_ips)
                    .chain(status.load_balancer.ingress.iter().map(|found| &found.ip))
                    .map(String::as_str),
            ),
            ports: ports
                .map(|port| ServicePort {
                    port: port.port,
                    target: match &port.target_port {
                        None | Some(NumberOrName::Number(0)) => TargetPort::Number(port.port),
                        Some(NumberOrName::Number(target)) => TargetPort::Number(*target),
                        Some(NumberOrName::Name(_)) => TargetPort::Name,
                    },
                    node_port: port.node_port,
                })
                .collect(),
            selector: spec.selector.into_iter().collect(),
        };
        (metadata, Object::Service(Box::new(service)))
    }
}

/// An EndpointSlice, v1 and v1beta1: what is read of them is the same in both.
#[derive(Deserialize)]
pub(super) struct SliceView {
    #[serde(default)]
    metadata: Meta,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<EndpointView>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<SlicePort>,
}

/// Go writes an empty list as `null` where the field has to be there.
fn nullable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<String>,
    #[serde(default)]
    target_ref: Option<TargetRef>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: String,
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct SlicePort {
    #[serde(default)]
    port: Option<u16>,
}

impl View for SliceView {
    fn prune(self) -> (Meta, Object) {
        let Self {
            metadata,
            endpoints,
            ports,
        } = self;
        let endpoints = endpoints.into_iter().map(|endpoint| {
            let pod = endpoint.target_ref.filter(|target| target.kind == "Pod");
            Endpoint {
                ips: addresses(endpoint.addresses.iter().map(String::as_str)),
                workload: pod
                    .as_ref()
                    .map(|pod| workload::from_pod_name(&pod.name).to_owned()),
                pod: pod.map(|pod| Uid::new(&pod.uid)),
            }
        });
        let slice = Slice {
            uid: metadata.uid(),
            namespace: metadata.namespace.clone(),
            service: metadata
                .label("kubernetes.io/service-name")
                .unwrap_or_default()
                .to_owned(),
            ports: ports.into_iter().filter_map(|port| port.port).collect(),
            endpoints: endpoints.collect(),
        };
        (metadata, Object::Slice(slice))
    }
}

/// A node.
#[derive(Deserialize)]
pub(super) struct NodeView {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    address: String,
}

impl View for NodeView {
    fn prune(self) -> (Meta, Object) {
        let Self { metadata, status } = self;
        let node = Node {
            uid: metadata.uid(),
            name: metadata.name.clone(),
            // Host names are among them and fall out.
            ips: addresses(status.addresses.iter().map(|found| found.address.as_str())),
        };
        (metadata, Object::Node(node))
    }
}
