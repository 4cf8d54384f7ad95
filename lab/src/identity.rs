//! The file by which an agent knows the lab's pods and services: `--identity static:FILE`.

use std::fmt::Write;

use crate::topology::{NAMESPACE, Pod, SERVICES};

/// Its text, TOML.
pub(crate) fn toml(lab: &str) -> String {
    let mut text = String::new();
    for pod in Pod::ALL {
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "[[workload]]\nname = \"{}\"\nnamespace = \"{NAMESPACE}\"\npod_uids = [\"{}\"]\n\
             ips = [\"{}\", \"{}\"]\n",
            pod.workload(),
            pod.uid(lab),
            pod.ip_v4(),
            pod.ip_v6()
        );
    }
    for service in SERVICES {
        let _infallible = writeln!(
            text,
            "[[service]]\nname = \"{}\"\nnamespace = \"{NAMESPACE}\"\nvips = [\"{}\"]\n",
            service.name,
            service.virtual_address()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_and_services_have_names() {
        let text = toml("a");
        assert!(text.contains("name = \"capitol-info\"\nnamespace = \"default\"\npod_uids"));
        assert!(text.contains("vips = [\"10.96.0.11:8080\"]"));
        assert!(text.contains("vips = [\"[fd96::11]:8080\"]"));
    }
}
