//! What a cgroup path says about who runs in it.
//!
//! The shapes are those of systemd (`systemd.unit(5)`), of the container runtimes, and of the
//! kubelet's two cgroup drivers (`pkg/kubelet/cm/cgroup_manager_linux.go`).

/// Who runs in a cgroup, as far as its path tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupName {
    /// A systemd service, or a directory with a name of its own.
    Unit(String),
    /// A container outside Kubernetes: the first twelve digits of its id, as `docker ps` shows it.
    Container(String),
    /// A pod, by its uid with dashes.
    Pod {
        /// Uid.
        uid: String,
    },
    /// The root, a user's session: the path is shared by unrelated processes.
    Anonymous,
}

/// Digits of a container id that are shown.
const SHORT_ID: usize = 12;

/// Reads a path relative to the cgroup root.
#[must_use]
pub fn name_of(path: &str) -> CgroupName {
    let parts = || path.split('/').filter(|part| !part.is_empty());
    // The pod comes first: its containers lie below it.
    if let Some(uid) = pod_uids(path).next() {
        return CgroupName::Pod { uid };
    }
    if let Some(id) = container_ids(path).next() {
        return CgroupName::Container(id.chars().take(SHORT_ID).collect());
    }
    if let Some(service) = parts().rev().find_map(|part| part.strip_suffix(".service")) {
        // user@1000.service holds everything a user started.
        return match service.split_once('@') {
            Some(("user", _)) => CgroupName::Anonymous,
            _ => CgroupName::Unit(unescape(service)),
        };
    }
    match parts().next_back() {
        None | Some("user.slice" | "system.slice" | "init.scope" | "machine.slice") => {
            CgroupName::Anonymous
        }
        Some(part) if part.starts_with("session-") || part.starts_with("user-") => {
            CgroupName::Anonymous
        }
        Some(part) => {
            let bare = [".scope", ".slice"]
                .iter()
                .find_map(|end| part.strip_suffix(end));
            CgroupName::Unit(unescape(bare.unwrap_or(part)))
        }
    }
}

/// Uids of the pods whose cgroup this is or lies in, the innermost first: a node may itself be a
/// pod or a container, as those of kind are.
pub(super) fn pod_uids(path: &str) -> impl Iterator<Item = String> {
    pieces(path).rev().filter_map(|piece| {
        // `kubepods-burstable-pod<uid>.slice` with underscores, or `pod<uid>` with dashes.
        let bare = piece.strip_suffix(".slice").unwrap_or(piece);
        let start = bare.rfind("pod").map(|at| at + "pod".len())?;
        normal_uid(bare.get(start..)?)
    })
}

/// Ids of the containers whose cgroup this is or lies in, the innermost first.
pub(super) fn container_ids(path: &str) -> impl Iterator<Item = &str> {
    pieces(path).rev().filter_map(container_id)
}

/// Directories of a path, cut at colons too: where the kubelet speaks systemd's language and the
/// runtime does not, a directory is named `<slice>:cri-containerd:<id>` as a whole.
fn pieces(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split(['/', ':']).filter(|piece| !piece.is_empty())
}

/// A uid with dashes and lower case, `None` when the text is none.
///
/// Static pods have the hash of their manifest instead, 32 digits without dashes.
pub(super) fn normal_uid(text: &str) -> Option<String> {
    let uid = text.replace('_', "-").to_ascii_lowercase();
    let lengths: Vec<_> = uid.split('-').map(str::len).collect();
    let hex = uid
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (hex && matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32])).then_some(uid)
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`, the
/// same without `.scope` where the runtime does not use systemd, or a bare `<id>`.
fn container_id(part: &str) -> Option<&str> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let id = bare.rsplit_once('-').map_or(bare, |(_runtime, id)| id);
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Undoes systemd's `\x2d` (systemd.unit(5), string escaping).
fn unescape(name: &str) -> String {
    let mut pieces = name.split("\\x");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (code, piece.get(2..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => {
                text.push_str("\\x");
                text.push_str(piece);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn unit(name: &str) -> CgroupName {
        CgroupName::Unit(name.to_owned())
    }

    #[test]
    fn every_shape_of_path_has_its_name() {
        let container = CgroupName::Container("0123456789ab".to_owned());
        let pod = CgroupName::Pod {
            uid: "0a1b2c3d-1111-2222-3333-444455556666".to_owned(),
        };
        let hash = CgroupName::Pod {
            uid: "0123456789abcdef0123456789abcdef".to_owned(),
        };
        let cases = [
            ("", CgroupName::Anonymous),
            ("/", CgroupName::Anonymous),
            ("system.slice", CgroupName::Anonymous),
            ("system.slice/nginx.service", unit("nginx")),
            ("system.slice/nginx.service/worker", unit("nginx")),
            (
                "system.slice/system-getty.slice/getty@tty1.service",
                unit("getty@tty1"),
            ),
            ("system.slice/my\\x2dapp.service", unit("my-app")),
            (
                "user.slice/user-1000.slice/session-3.scope",
                CgroupName::Anonymous,
            ),
            (
                "user.slice/user-1000.slice/user@1000.service",
                CgroupName::Anonymous,
            ),
            (
                "user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                unit("web"),
            ),
            ("lab/orders", unit("orders")),
            ("run-r12.scope", unit("run-r12")),
            (
                &format!("system.slice/docker-{ID}.scope"),
                container.clone(),
            ),
            (&format!("docker/{ID}"), container.clone()),
            (
                &format!("machine.slice/libpod-{ID}.scope/container"),
                container.clone(),
            ),
            (
                &format!("system.slice/containerd.service/cri-containerd-{ID}.scope"),
                container,
            ),
            (
                &format!(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice/cri-containerd-{ID}.scope"
                ),
                pod.clone(),
            ),
            (
                "kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
                pod.clone(),
            ),
            (
                &format!("kubepods/besteffort/pod0A1B2C3D-1111-2222-3333-444455556666/{ID}"),
                pod,
            ),
            ("kubepods/pod0123456789abcdef0123456789abcdef/x", hash),
            ("kubepods/podium", unit("podium")),
        ];
        for (path, expected) in cases {
            assert_eq!(name_of(path), expected, "{path}");
        }
    }

    /// Where the kubelet and the runtimes put the containers of a pod, by driver and runtime:
    /// `cgroup_manager_linux.go` of the kubelet, `NamespacedName` of containerd's CRI plugin,
    /// `cgmgr` of CRI-O, and what nodes that are containers have around it.
    #[test]
    fn every_layout_leads_to_pod_and_container() {
        const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
        const OUTER: &str = "ffffffff-1111-2222-3333-444455556666";
        let slice = UID.replace('-', "_");
        let hash = "0123456789abcdef0123456789abcdef";
        let outer_id = ID.replace('0', "f");
        let systemd = |class: &str, scope: &str| {
            let upper = match class {
                "" => "kubepods.slice/kubepods".to_owned(),
                class => format!("kubepods.slice/kubepods-{class}.slice/kubepods-{class}"),
            };
            format!("{upper}-pod{slice}.slice/{scope}")
        };
        let cases = [
            // containerd and the systemd driver: kubeadm, EKS, AKS, GKE with cgroup v2.
            (
                systemd("burstable", &format!("cri-containerd-{ID}.scope")),
                UID,
            ),
            (
                systemd("besteffort", &format!("cri-containerd-{ID}.scope")),
                UID,
            ),
            (systemd("", &format!("cri-containerd-{ID}.scope")), UID),
            // containerd and the cgroupfs driver: k3s, GKE with cgroup v1, the hybrid tree.
            (format!("kubepods/burstable/pod{UID}/{ID}"), UID),
            (format!("kubepods/pod{UID}/{ID}"), UID),
            (format!("k8s.io/kubepods/besteffort/pod{UID}/{ID}"), UID),
            // The kubelet on systemd, containerd not told so.
            (
                format!(
                    "system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{ID}"
                ),
                UID,
            ),
            // CRI-O: OpenShift; crun adds a directory below.
            (systemd("burstable", &format!("crio-{ID}.scope")), UID),
            (
                systemd("burstable", &format!("crio-{ID}.scope/container")),
                UID,
            ),
            (format!("kubepods/burstable/pod{UID}/crio-{ID}"), UID),
            // Docker through cri-dockerd or the old shim.
            (systemd("burstable", &format!("docker-{ID}.scope")), UID),
            (format!("kubepods/besteffort/pod{UID}/{ID}/init.scope"), UID),
            // kind with cgroup v2 and v1, its node in Docker or Podman; Docker Desktop.
            (
                format!(
                    "system.slice/docker-{outer_id}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
            ),
            (
                format!("docker/{outer_id}/kubelet/kubepods/burstable/pod{UID}/{ID}"),
                UID,
            ),
            (
                format!(
                    "machine.slice/libpod-{outer_id}.scope/container/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
            ),
            (
                format!("docker/{outer_id}/kubepods/burstable/pod{UID}/{ID}"),
                UID,
            ),
            // A cluster in a pod of a cluster: the inner pod comes first.
            (
                format!("kubepods/pod{OUTER}/{outer_id}/kubelet/kubepods/pod{UID}/{ID}"),
                UID,
            ),
            // Static pods are named by the hash of their manifest.
            (format!("kubepods/burstable/pod{hash}/{ID}"), hash),
            (
                format!(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{hash}.slice/cri-containerd-{ID}.scope"
                ),
                hash,
            ),
        ];
        for (path, uid) in cases {
            assert_eq!(pod_uids(&path).next().as_deref(), Some(uid), "{path}");
            assert_eq!(container_ids(&path).next(), Some(ID), "{path}");
        }
        let nested = format!("kubepods/pod{OUTER}/{outer_id}/kubelet/kubepods/pod{UID}/{ID}");
        let uids: Vec<_> = pod_uids(&nested).collect();
        assert_eq!(uids, [UID, OUTER]);
        for other in [
            "kubepods/burstable",
            "system.slice/podman.service",
            "pod/x",
            "",
        ] {
            assert_eq!(pod_uids(other).next(), None, "{other}");
            assert_eq!(container_ids(other).next(), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_has_some_name(path in "(pod|docker-|user@|\\\\x|\\PC){0,4}(/\\PC{0,70}){0,4}(\\.service|\\.scope)?") {
            let _name = name_of(&path);
        }
    }
}
