//! The kernel: its version, type information, lockdown and compiler.

use super::Check;
use std::fs;
use std::path::Path;

/// Oldest kernel with everything that has no substitute: the ring buffer map (5.8), and socket
/// storage in `cgroup_skb` and in tracing programs (5.10 and 5.11).
const MINIMUM: (u32, u32) = (5, 10);

const BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

pub(super) fn checks() -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        version(&release),
        btf(Path::new(BTF).exists()),
        lockdown(read(LOCKDOWN).as_deref()),
        jit(read(JIT).as_deref()),
    ]
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn version(release: &str) -> Check {
    let name = "kernel";
    match parse_version(release) {
        Some(version) if version >= MINIMUM => Check::ok(name, release),
        Some(_) => Check::missing(
            name,
            format!("{release}, older than 5.10"),
            "everything: ring buffer and socket storage are not there",
            "run a kernel from 5.10 on",
        ),
        None => Check::degraded(
            name,
            format!("release `{release}` has no version"),
            "nothing yet; the probes below tell",
            "",
        ),
    }
}

/// Major and minor of `6.1.0-18-amd64`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf(there: bool) -> Check {
    let name = "BTF";
    if there {
        return Check::ok(name, BTF);
    }
    Check::degraded(
        name,
        format!("{BTF} does not exist"),
        "the split of hops into queue and processing: the read hook needs BTF",
        "run a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )
}

/// The chosen state stands in brackets: `none [integrity] confidentiality`.
fn lockdown(text: Option<&str>) -> Check {
    let name = "lockdown";
    let state = text.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0));
    match (text, state) {
        (_, Some("confidentiality")) => Check::ok(
            name,
            "confidentiality: tracefs is closed, and the agent does not need it",
        ),
        (_, Some(state)) => Check::ok(name, state),
        (Some(_), None) => Check::ok(name, "none"),
        (None, None) => Check::ok(
            name,
            "no such file: not built in, or securityfs is not mounted",
        ),
    }
}

fn jit(text: Option<&str>) -> Check {
    let name = "BPF JIT";
    match text {
        Some("0") => Check::degraded(
            name,
            "off: programs are interpreted",
            "several times the cost for each packet",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Some(_) => Check::ok(name, "on"),
        None => Check::ok(
            name,
            "not to be read from here; most kernels have it always on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn versions_are_compared_by_number() {
        let cases = [
            ("6.18.44-fc", Status::Ok),
            ("5.10.0-18-amd64", Status::Ok),
            ("5.9.16", Status::Missing),
            ("4.19.0", Status::Missing),
            ("10.0", Status::Ok),
            ("", Status::Degraded),
            ("next", Status::Degraded),
        ];
        for (release, status) in cases {
            assert_eq!(version(release).status, status, "{release}");
        }
    }

    #[test]
    fn lockdown_is_what_stands_in_brackets() {
        assert_eq!(
            lockdown(Some("none [integrity] confidentiality")).found,
            "integrity"
        );
        assert_eq!(
            lockdown(Some("[none] integrity confidentiality")).found,
            "none"
        );
        assert_eq!(lockdown(Some("]x[")).found, "none");
        assert_eq!(jit(Some("0")).status, Status::Degraded);
    }
}
