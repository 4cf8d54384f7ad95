//! Loads and attaches the eBPF programs. The only module that does.
//!
//! Every link belongs to a file descriptor of this process: when it ends, however it ends, the
//! kernel detaches and frees everything. Nothing is pinned.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData, MapError, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError,
};
use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use tracer_common::Loss;

use crate::windows::Windows;
use maps::Losses;

pub mod boundary;
pub mod http2;
mod maps;
mod thread;

pub use thread::ThreadKey;

/// The kernel side, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HOPTRACE_EBPF_OBJECT"));

/// Names of the programs as the object has them, with the metrics' `program` label. Of the egress and
/// ingress programs one each is loaded.
const PROGRAMS: [(&str, &str); 10] = [
    ("hoptrace_egress", "egress"),
    ("hoptrace_egress_log", "egress"),
    ("hoptrace_egress_by_task", "egress"),
    ("hoptrace_egress_by_task_log", "egress"),
    ("hoptrace_egress_blind", "egress"),
    ("hoptrace_egress_blind_log", "egress"),
    ("hoptrace_ingress", "ingress"),
    ("hoptrace_ingress_log", "ingress"),
    ("hoptrace_read", "read"),
    ("hoptrace_close", "close"),
];

/// The kernel's own type information.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Whether the moment of reading is traced; without it hops have no queue and processing parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadHook {
    /// Use it when the kernel has BTF.
    Auto,
    /// Fail without it.
    Required,
    /// Do not attach it.
    Off,
}

/// Where plaintext header prefixes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Headers {
    /// Nowhere: no status codes, no request ids.
    Off = 0,
    /// On loopback legs.
    Loopback = 1,
    /// On every leg that the app itself speaks: loopback, and the pod's own port without a sidecar.
    AppLegs = 2,
}

/// What to attach and how.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// cgroup v2 directory whose sockets are traced, with everything below it.
    pub cgroup_root: PathBuf,
    /// Bytes of the ring, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Read hook.
    pub read_hook: ReadHook,
    /// Header policy.
    pub headers: Headers,
    /// When the hooks look. With windows they rest until [`Hooks::look`] opens one.
    pub windows: Windows,
    /// Port on which an inbound sidecar receives: its leg is the wire, not the app's.
    pub sidecar_inbound_port: u16,
    /// Whether HTTP/2 is followed on plaintext legs.
    pub http2: bool,
    /// What the eBPF programs log: 0 nothing, 1 errors, up to 4 everything (`aya_log::Level`).
    pub log_level: u8,
}

/// The attached hooks. Dropping it detaches them.
pub struct Hooks {
    ebpf: Ebpf,
    losses: Losses,
    window: Array<MapData, u32>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    read_hook: bool,
    thread_key: ThreadKey,
}

/// What can go wrong before the first packet.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The cgroup directory.
    #[error(
        "cannot open cgroup root {path}: set --cgroup-root to a directory of a cgroup v2 mount"
    )]
    CgroupRoot {
        /// Directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Object or maps.
    #[error(
        "cannot load the eBPF object (CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed; `hoptrace doctor` tells more)"
    )]
    Object(#[source] Box<EbpfError>),
    /// Kernel type information.
    #[error("cannot read /sys/kernel/btf/vmlinux: use --read-hook off on kernels without BTF")]
    Btf(#[source] BtfError),
    /// One program.
    #[error("cannot {step} eBPF program {program} (`hoptrace doctor` tells what is missing)")]
    Program {
        /// Program.
        program: &'static str,
        /// `load` or `attach`.
        step: &'static str,
        /// Cause.
        source: Box<ProgramError>,
    },
    /// The object lacks something: it was built from other sources.
    #[error("the eBPF object has no {0}: build it again with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// The pods' veths.
    #[error("cannot watch the pods' veths: leave --pod-boundary off")]
    Veths(#[source] io::Error),
    /// The ring of the log.
    #[error("cannot read what the eBPF programs log: leave --bpf-log off")]
    Log(#[source] aya_log::Error),
    /// A map.
    #[error("cannot open eBPF map {name}")]
    Map {
        /// Map.
        name: &'static str,
        /// Cause.
        source: MapError,
    },
}

/// What the kernel accounts to one program since accounting was switched on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramCost {
    /// Nanoseconds in the program.
    pub run_time_ns: u64,
    /// Runs.
    pub runs: u64,
}

impl Hooks {
    /// Loads the object and attaches the hooks; returns them with the ring's reading end.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays attached then.
    pub fn attach(options: &LoadOptions) -> Result<(Self, RingBuf<MapData>), LoadError> {
        match Self::try_attach(options) {
            // The kernel's type information cannot be read, or it refuses tracing programs.
            Err(
                LoadError::Btf(_)
                | LoadError::Program {
                    program: "hoptrace_read" | "hoptrace_close",
                    ..
                },
            ) if options.read_hook == ReadHook::Auto => {
                let read_hook = ReadHook::Off;
                Self::try_attach(&LoadOptions {
                    read_hook,
                    ..options.clone()
                })
            }
            done => done,
        }
    }

    fn try_attach(options: &LoadOptions) -> Result<(Self, RingBuf<MapData>), LoadError> {
        let cgroup = File::open(&options.cgroup_root).map_err(|source| LoadError::CgroupRoot {
            path: options.cgroup_root.clone(),
            source,
        })?;
        let read_hook = match options.read_hook {
            ReadHook::Off => false,
            ReadHook::Auto => Path::new(KERNEL_BTF).exists(),
            ReadHook::Required => true,
        };
        // What cannot be probed is not used.
        let thread_key = ThreadKey::probe().unwrap_or(ThreadKey::ReaderOnly);
        // The loader reads the kernel's type information, 20 MB of it, and lets it go at the end of
        // this statement; the tracing programs' turn comes after, so that it is there once at a time.
        let mut ebpf = EbpfLoader::new()
            .override_global("READ_HOOK", &u8::from(read_hook), true)
            .override_global(
                "THREAD_BY_TASK",
                &u8::from(thread_key == ThreadKey::Task),
                true,
            )
            .override_global("HEADERS", &(options.headers as u8), true)
            .override_global(
                "WINDOWS",
                &u8::from(options.windows != Windows::Always),
                true,
            )
            .override_global("SIDECAR_INBOUND_PORT", &options.sidecar_inbound_port, true)
            .override_global(aya_log::LEVEL, &options.log_level, true)
            .map_max_entries("EXCHANGES", options.ring_bytes)
            // Its own ring, so that diagnostics never push out records.
            .map_max_entries("AYA_LOGS", log_ring_bytes(options.log_level))
            .load(OBJECT)
            .map_err(|source| LoadError::Object(Box::new(source)))?;
        let log = match options.log_level {
            0 => None,
            _ => Some(EbpfLogger::init(&mut ebpf).map_err(LoadError::Log)?),
        };
        let losses = Losses::take(&mut ebpf, "LOSSES")?;
        let window = maps::take(&mut ebpf, "WINDOW")?;
        let ring = maps::take(&mut ebpf, "EXCHANGES")?;
        if read_hook {
            let btf = Btf::from_sys_fs().map_err(LoadError::Btf)?;
            attach_tracepoint(&mut ebpf, "hoptrace_close", "inet_sock_set_state", &btf)?;
            attach_tracepoint(&mut ebpf, "hoptrace_read", "tcp_rcv_space_adjust", &btf)?;
        }
        attach_skb(
            &mut ebpf,
            if log.is_some() {
                "hoptrace_ingress_log"
            } else {
                "hoptrace_ingress"
            },
            &cgroup,
            CgroupSkbAttachType::Ingress,
        )?;
        attach_skb(
            &mut ebpf,
            thread_key.egress(log.is_some()),
            &cgroup,
            CgroupSkbAttachType::Egress,
        )?;
        Ok((
            Self {
                ebpf,
                losses,
                window,
                log,
                read_hook,
                thread_key,
            },
            ring,
        ))
    }

    /// What this kernel or configuration lacks, each with what is lost by it.
    pub fn degraded(&self) -> impl Iterator<Item = &'static str> {
        let reads = (!self.read_hook).then_some(
            "no read hook (no BTF, refused, or switched off): hops are not split into queue and \
             processing, and requests without an answer are not counted",
        );
        let threads = match (self.thread_key, self.read_hook) {
            (ThreadKey::Pid | ThreadKey::Task, _) => None,
            (ThreadKey::ReaderOnly, true) => Some(
                "no thread in cgroup_skb (refused, or CAP_PERFMON is missing before Linux 6.10): an \
                 app's own calls are matched by identifiers and nesting only",
            ),
            (ThreadKey::ReaderOnly, false) => Some(
                "neither a read hook nor a thread in cgroup_skb: the workers of a sidecar are not \
                 told apart, pairing is less exact",
            ),
        };
        reads.into_iter().chain(threads)
    }

    /// Opens the window of this number, from 1 on, or lets the hooks rest.
    ///
    /// # Errors
    /// When the kernel does not take it; the hooks go on as before.
    pub fn look(&mut self, window: Option<NonZeroU32>) -> Result<(), MapError> {
        self.window.set(0, window.map_or(0, NonZeroU32::get), 0)
    }

    /// Whether the counters can be read with the capabilities of the calling thread.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.losses.readable()
    }

    /// Hands what the eBPF programs logged to the `log` crate's logger.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Counter of one loss reason, summed over the CPUs.
    #[must_use]
    pub fn lost(&self, loss: Loss) -> u64 {
        self.losses.of(loss as u32)
    }

    /// Stops all hooks but keeps the ring and the counters, so that the last records can be read.
    pub fn detach(&mut self) {
        unload(&mut self.ebpf, &PROGRAMS);
    }

    /// The kernel's accounting of each attached program; all zero unless it is switched on.
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static str, ProgramCost)> {
        costs(&self.ebpf, &PROGRAMS)
    }
}

/// Stops those programs of an object that are loaded.
fn unload(ebpf: &mut Ebpf, programs: &[(&str, &str)]) {
    for (name, _) in programs {
        let result = match ebpf.program_mut(name) {
            Some(Program::CgroupSkb(program)) => program.unload(),
            Some(Program::BtfTracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
        if let Err(ProgramError::NotLoaded) | Ok(()) = result {
            continue;
        }
    }
}

/// The kernel's accounting of those programs of an object that are loaded.
fn costs(ebpf: &Ebpf, programs: &[(&str, &'static str)]) -> Vec<(&'static str, ProgramCost)> {
    let cost = |(name, label): &(&str, &'static str)| {
        let info = match ebpf.program(name)? {
            Program::CgroupSkb(program) => program.info(),
            Program::BtfTracePoint(program) => program.info(),
            _ => return None,
        };
        let info = info.ok()?;
        let run_time_ns = u64::try_from(info.run_time().as_nanos()).ok()?;
        Some((
            *label,
            ProgramCost {
                run_time_ns,
                runs: info.run_count(),
            },
        ))
    };
    programs.iter().filter_map(cost).collect()
}

/// A page when nothing is logged: the map is there all the same.
fn log_ring_bytes(level: u8) -> u32 {
    if level == 0 { 4096 } else { 1 << 18 }
}

fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<(), LoadError> {
    let failed = |step| {
        move |source| LoadError::Program {
            program: name,
            step,
            source: Box::new(source),
        }
    };
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(failed("load"))?;
    program.load(tracepoint, btf).map_err(failed("load"))?;
    program.attach().map_err(failed("attach"))?;
    Ok(())
}

fn load_skb<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSkb, LoadError> {
    let failed = |source| LoadError::Program {
        program: name,
        step: "load",
        source: Box::new(source),
    };
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let program: &mut CgroupSkb = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    Ok(program)
}

fn attach_skb(
    ebpf: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    direction: CgroupSkbAttachType,
) -> Result<(), LoadError> {
    let program = load_skb(ebpf, name)?;
    // `Single` is not exclusive here: a bpf_link to a cgroup always allows others beside it.
    program
        .attach(cgroup, direction, CgroupAttachMode::Single)
        .map_err(|source| LoadError::Program {
            program: name,
            step: "attach",
            source: Box::new(source),
        })?;
    Ok(())
}
