//! The files that containerd, the network plugins and the kubelet are configured by.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::layout::{CGROUP, Layout, NODE_ADDRESS, in_node};

/// Writes them all; `pause` is the image of the containers that hold the pods' namespaces,
/// `snapshotter` how the runtime makes file systems of images, `pods` the range of pods' addresses.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(layout: &Layout, pause: &str, snapshotter: &str, pods: &str) -> Result<()> {
    let files = [
        ("etc/containerd.toml", containerd(pause, snapshotter)),
        (
            "etc/cni/10-hoptrace.conflist",
            format!("{:#}\n", network(pods)),
        ),
        ("etc/kubelet.json", format!("{:#}\n", kubelet())),
    ];
    for (name, text) in files {
        let path = layout.file(name);
        let writing = || format!("cannot write {}", path.display());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(writing)?;
        }
        fs::write(&path, text).with_context(writing)?;
    }
    Ok(())
}

/// `restrict_oom_score_adj`: where this runs may itself lack the right to raise a score.
fn containerd(pause: &str, snapshotter: &str) -> String {
    let (runc, plugins) = (in_node("tools/bin/runc"), in_node("tools/cni"));
    let networks = in_node("etc/cni");
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{pause}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
"#
    )
}

/// Pods on a bridge, as most simple networks have it.
fn network(pods: &str) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "hoptrace",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The kubelet's defaults but for: where it may be asked, where its cgroups are, and that it neither
/// evicts, since the machine's disk and memory are not the node's alone, nor rotates logs.
fn kubelet() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": in_node("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerLogMaxSize": "1Gi",
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        "protectKernelDefaults": false,
        "readOnlyPort": 0,
        "resolvConf": in_node("etc/resolv.conf"),
        "serializeImagePulls": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_uses_the_images_it_is_told() {
        let text = containerd("docker.io/x/pause:1", "native");
        assert!(text.contains("sandbox_image = \"docker.io/x/pause:1\""));
        assert!(text.contains("snapshotter = \"native\""));
        assert!(text.contains("BinaryName = \"/run/hoptrace/tools/bin/runc\""));
    }
}
