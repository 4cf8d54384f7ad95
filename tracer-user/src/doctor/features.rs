//! What the kernel really loads: programs, maps and helpers, probed by loading tiny ones.

use super::probe::{self, ProbeError};
use super::{Check, Status};
use crate::load::ThreadKey;
use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use std::error::Error;

type Probe = fn() -> Result<bool, Box<dyn Error>>;

/// One thing to probe, and what it means when it is not there.
struct Feature {
    name: &'static str,
    probe: Probe,
    without: Status,
    lost: &'static str,
    remedy: &'static str,
}

const CONFIG: &str = "run a kernel from 5.10 on with CONFIG_BPF_SYSCALL=y and CONFIG_CGROUP_BPF=y";
const READ_LOST: &str = "the split of hops into queue and processing";

const FEATURES: [Feature; 9] = [
    Feature {
        name: "cgroup_skb programs",
        probe: || Ok(is_program_supported(ProgramType::CgroupSkb)?),
        without: Status::Missing,
        lost: "everything: they see the packets",
        remedy: CONFIG,
    },
    Feature {
        name: "packets in cgroup_skb",
        probe: || Ok(probe::packet_access()?),
        without: Status::Missing,
        lost: "everything: they cannot be read",
        remedy: "give the agent CAP_PERFMON, whatever --read-hook says, or run a kernel from 6.6 on",
    },
    Feature {
        name: "ring buffer map",
        probe: || Ok(is_map_supported(MapType::RingBuf)?),
        without: Status::Missing,
        lost: "everything: records leave the kernel through it",
        remedy: CONFIG,
    },
    Feature {
        name: "socket storage map",
        probe: || Ok(is_map_supported(MapType::SkStorage)?),
        without: Status::Missing,
        lost: "everything: the state of a socket lives there",
        remedy: CONFIG,
    },
    Feature {
        name: "socket storage in cgroup_skb",
        probe: || helper(BpfHelper::BPF_FUNC_sk_storage_get),
        without: Status::Missing,
        lost: "everything: the state of a socket lives there",
        remedy: CONFIG,
    },
    Feature {
        name: "cgroup id in cgroup_skb",
        probe: || helper(BpfHelper::BPF_FUNC_skb_cgroup_id),
        without: Status::Missing,
        lost: "everything: it tells which container a socket belongs to",
        remedy: "run a kernel with CONFIG_SOCK_CGROUP_DATA=y",
    },
    Feature {
        name: "current thread in cgroup_skb",
        probe: || Ok(ThreadKey::probe()? != ThreadKey::ReaderOnly),
        without: Status::Degraded,
        lost: "the thread that writes: an app's calls without x-request-id, and without a read hook \
               the workers of a sidecar",
        remedy: "run a kernel from 6.10 on, or give the agent CAP_PERFMON",
    },
    Feature {
        name: "tp_btf tcp_rcv_space_adjust",
        probe: || match probe::load_tracepoint("tcp_rcv_space_adjust") {
            Ok(()) => Ok(true),
            Err(ProbeError::NoTracepoint { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        },
        without: Status::Degraded,
        lost: READ_LOST,
        remedy: "run a kernel with CONFIG_DEBUG_INFO_BTF=y and CONFIG_FTRACE=y",
    },
    Feature {
        name: "socket storage in tp_btf",
        probe: || {
            let helper = BpfHelper::BPF_FUNC_sk_storage_get;
            Ok(probe::tracepoint_offers("tcp_rcv_space_adjust", helper)?)
        },
        without: Status::Degraded,
        lost: READ_LOST,
        remedy: "run a kernel from 5.11 on",
    },
];

pub(super) fn checks() -> Vec<Check> {
    FEATURES.iter().map(check).collect()
}

fn helper(helper: BpfHelper) -> Result<bool, Box<dyn Error>> {
    Ok(is_helper_supported(ProgramType::CgroupSkb, helper)?)
}

fn check(feature: &Feature) -> Check {
    let &Feature {
        name,
        probe,
        without: status,
        lost,
        remedy,
    } = feature;
    match probe() {
        Ok(true) => Check::ok(name, "loads"),
        Ok(false) => Check {
            status,
            name,
            found: "this kernel has none".into(),
            lost,
            remedy,
        },
        Err(error) => Check {
            status,
            name,
            found: format!("cannot be probed: {}", with_causes(error.as_ref())),
            lost,
            remedy: "give this command CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or run it as root",
        },
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
