//! Programs that do nothing, attached in the agent's place: what they cost is the kernel's price
//! for a hook and for the accounting itself, not ours.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program};
use aya::sys::{Stats, enable_stats};
use aya::{Btf, Ebpf, EbpfLoader};

use super::cost::Cost;
use crate::paths;

/// Each of the object's empty programs, with the agent's programs whose hook it shares.
const EGRESS: &str = "empty_egress";
const INGRESS: &str = "empty_ingress";
const READ: &str = "empty_read";

/// Attached empty programs, accounted; dropping them ends both.
pub(super) struct EmptyPrograms {
    ebpf: Ebpf,
    _accounting: OwnedFd,
}

impl EmptyPrograms {
    /// Attaches them to the sockets of a cgroup.
    ///
    /// # Errors
    /// The object is missing or of another make, or the kernel refuses.
    pub(super) fn attach(cgroup: &Path) -> Result<Self> {
        let object = paths::ebpf_object();
        let mut ebpf = EbpfLoader::new()
            // The maps come with the object though nobody here uses them: a page will do.
            .map_max_entries("EXCHANGES", 4096)
            .map_max_entries("AYA_LOGS", 4096)
            .load_file(&object)
            .with_context(|| format!("cannot load {}", object.display()))?;
        let directory =
            File::open(cgroup).with_context(|| format!("cannot open {}", cgroup.display()))?;
        for (name, direction) in [
            (INGRESS, CgroupSkbAttachType::Ingress),
            (EGRESS, CgroupSkbAttachType::Egress),
        ] {
            let attaching = || format!("cannot attach {name}");
            let program: &mut CgroupSkb =
                find(&mut ebpf, name)?.try_into().with_context(attaching)?;
            program.load().with_context(attaching)?;
            program
                .attach(&directory, direction, CgroupAttachMode::Single)
                .with_context(attaching)?;
        }
        let btf = Btf::from_sys_fs().context("cannot read the kernel's type information")?;
        let attaching = || format!("cannot attach {READ}");
        let program: &mut BtfTracePoint =
            find(&mut ebpf, READ)?.try_into().with_context(attaching)?;
        program
            .load("tcp_rcv_space_adjust", &btf)
            .with_context(attaching)?;
        program.attach().with_context(attaching)?;
        let accounting = enable_stats(Stats::RunTime)
            .context("cannot switch on the kernel's accounting of eBPF programs")?;
        Ok(Self {
            ebpf,
            _accounting: accounting,
        })
    }

    /// What was accounted so far.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn costs(&self) -> Result<EmptyCosts> {
        let cost = |name| {
            let info = match self.ebpf.program(name) {
                Some(Program::CgroupSkb(program)) => program.info(),
                Some(Program::BtfTracePoint(program)) => program.info(),
                _ => anyhow::bail!("{name} is gone"),
            };
            let info = info.with_context(|| format!("cannot read the accounting of {name}"))?;
            Ok(Cost {
                runs: info.run_count() as f64,
                run_ns: info.run_time().as_nanos() as f64,
            })
        };
        Ok(EmptyCosts {
            egress: cost(EGRESS)?,
            ingress: cost(INGRESS)?,
            read: cost(READ)?,
        })
    }
}

/// What the kernel has accounted to the empty programs.
pub(super) struct EmptyCosts {
    pub(super) egress: Cost,
    pub(super) ingress: Cost,
    pub(super) read: Cost,
}

impl EmptyCosts {
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            egress: self.egress.since(earlier.egress),
            ingress: self.ingress.since(earlier.ingress),
            read: self.read.since(earlier.read),
        }
    }

    /// The one on the hook of a program of the agent's, by the value of its `program` label. The
    /// hook of `close` is a tracepoint like that of `read`.
    ///
    /// # Errors
    /// The label is unknown.
    pub(super) fn on_hook_of(&self, program: &str) -> Result<Cost> {
        match program {
            "egress" => Ok(self.egress),
            "ingress" => Ok(self.ingress),
            "read" | "close" => Ok(self.read),
            other => anyhow::bail!("the agent's program `{other}` has no empty one on its hook"),
        }
    }
}

fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| {
        format!("the eBPF object has no {name}: build it again with `cargo xtask build-ebpf`")
    })
}
