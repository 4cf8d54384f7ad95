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
    if let Some(uid) = pod_uid(path) {
        return CgroupName::Pod { uid };
    }
    if let Some(id) = parts().rev().find_map(container_id) {
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

/// Uid of the pod whose cgroup this is or lies in.
pub(super) fn pod_uid(path: &str) -> Option<String> {
    path.split('/').find_map(|part| {
        // `kubepods-burstable-pod<uid>.slice` with underscores, or `pod<uid>` with dashes.
        let bare = part.strip_suffix(".slice").unwrap_or(part);
        let start = bare.rfind("pod").map(|at| at + "pod".len())?;
        normal_uid(bare.get(start..)?)
    })
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

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>.scope` or a bare `<id>`.
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

    proptest::proptest! {
        #[test]
        fn any_path_has_some_name(path in "(pod|docker-|user@|\\\\x|\\PC){0,4}(/\\PC{0,70}){0,4}(\\.service|\\.scope)?") {
            let _name = name_of(&path);
        }
    }
}
