//! Where requests are sent to, and where they are logged.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::containers::Files;
use crate::options::is_meshed;
use crate::state::LabState;
use crate::topology::{Pod, SERVICES, Target};

impl LabState {
    /// Whether a pod has a sidecar.
    #[must_use]
    pub fn is_meshed(&self, pod: Pod) -> bool {
        is_meshed(self.mode, self.load_meshed, pod)
    }

    /// The file for `hoptrace agent --identity static:FILE`.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        Files(self.dir.clone()).identity()
    }

    /// Where a pod's Envoy logs requests.
    #[must_use]
    pub fn access_log_file(&self, pod: Pod) -> PathBuf {
        Files(self.dir.clone()).access_log(pod)
    }

    /// See [`Lab::url`](crate::Lab::url).
    #[must_use]
    pub fn url(&self, from: Pod, target: Target) -> String {
        let path = if target == Target::Gateway {
            "/api/"
        } else {
            "/"
        };
        format!("http://{}{path}", self.address(from, target))
    }

    pub(crate) fn address(&self, from: Pod, target: Target) -> SocketAddr {
        let v6 = target == Target::InfoV6;
        let pod = match target {
            Target::Info | Target::InfoV6 => Pod::Info,
            Target::Gateway | Target::Page => Pod::Client,
        };
        let meshed = self.is_meshed(from) && (!v6 || self.ipv6_meshed);
        let service = SERVICES.iter().find(|s| s.pod == pod && s.is_v6() == v6);
        match service {
            Some(service) if meshed => service.virtual_address(),
            Some(service) => service.endpoint(),
            None => SocketAddr::new(IpAddr::V4(pod.ip_v4()), pod.port().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;
    use crate::topology::Mode;

    fn state(mode: Mode, load_meshed: bool) -> LabState {
        LabState {
            name: "a".into(),
            mode,
            load_meshed,
            ipv6_meshed: true,
            creator: ProcessId::me(),
            kept: false,
            dir: "/d".into(),
            owns_dir: false,
            cgroup_root: "/c".into(),
            cpu_cgroups: Vec::new(),
            processes: Vec::new(),
        }
    }

    #[test]
    fn meshed_pods_use_virtual_addresses() {
        let cases = [
            (
                Mode::None,
                true,
                Pod::Load,
                Target::Info,
                "http://10.77.0.4:8080/",
            ),
            (
                Mode::Mtls,
                false,
                Pod::Load,
                Target::Gateway,
                "http://10.77.0.3:8000/api/",
            ),
            (
                Mode::Mtls,
                true,
                Pod::Load,
                Target::Page,
                "http://10.96.0.10:8000/",
            ),
            (
                Mode::Plain,
                false,
                Pod::Client,
                Target::Info,
                "http://10.96.0.11:8080/",
            ),
            (
                Mode::Plain,
                true,
                Pod::Load,
                Target::InfoV6,
                "http://[fd96::11]:8080/",
            ),
            (
                Mode::None,
                false,
                Pod::Load,
                Target::InfoV6,
                "http://[fd77::4]:8080/",
            ),
        ];
        for (mode, load_meshed, from, target, expected) in cases {
            assert_eq!(state(mode, load_meshed).url(from, target), expected);
        }
    }
}
