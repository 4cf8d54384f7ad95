//! Programs in the agent's place that mark the two ends of the scale: empty ones, which cost what
//! the kernel asks for a hook and for its accounting, and naive ones, which send a record for every
//! packet and let it wake the reader.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::{io, thread};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program};
use aya::sys::{Stats, enable_stats};
use aya::{Btf, Ebpf, EbpfLoader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::cost::Cost;
use crate::paths;

/// A map that nobody uses comes with the object all the same: a page will do.
const UNUSED: u32 = 4096;
/// As large as the agent's.
const RING_BYTES: u32 = 4 << 20;
/// How long the reader sleeps when nothing wakes it: it looks then whether it should end.
const READER_TIMEOUT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Which end of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Programs that do nothing.
    Empty,
    /// A record for every packet and every read.
    Naive,
}

impl Kind {
    fn ring_bytes(self) -> u32 {
        match self {
            Self::Empty => UNUSED,
            Self::Naive => RING_BYTES,
        }
    }

    /// The program on a hook, by the name of the agent's program there.
    fn program(self, hook: &str) -> String {
        match self {
            Self::Empty => format!("empty_{hook}"),
            Self::Naive => format!("naive_{hook}"),
        }
    }
}

/// Attached programs of one kind; dropping them detaches them and ends their accounting.
pub(super) struct Yardstick {
    ebpf: Ebpf,
    kind: Kind,
    _reader: Option<Reader>,
    accounting: Option<OwnedFd>,
}

impl Yardstick {
    /// Attaches them to the sockets of a cgroup.
    ///
    /// # Errors
    /// The object is missing or of another make, or the kernel refuses.
    pub(super) fn attach(kind: Kind, cgroup: &Path) -> Result<Self> {
        let object = paths::ebpf_object();
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("EXCHANGES", kind.ring_bytes())
            .map_max_entries("AYA_LOGS", UNUSED)
            .load_file(&object)
            .with_context(|| format!("cannot load {}", object.display()))?;
        let directory =
            File::open(cgroup).with_context(|| format!("cannot open {}", cgroup.display()))?;
        for (hook, direction) in [
            ("ingress", CgroupSkbAttachType::Ingress),
            ("egress", CgroupSkbAttachType::Egress),
        ] {
            let name = kind.program(hook);
            let attaching = || format!("cannot attach {name}");
            let program: &mut CgroupSkb =
                find(&mut ebpf, &name)?.try_into().with_context(attaching)?;
            program.load().with_context(attaching)?;
            program
                .attach(&directory, direction, CgroupAttachMode::Single)
                .with_context(attaching)?;
        }
        let btf = Btf::from_sys_fs().context("cannot read the kernel's type information")?;
        let name = kind.program("read");
        let attaching = || format!("cannot attach {name}");
        let program: &mut BtfTracePoint =
            find(&mut ebpf, &name)?.try_into().with_context(attaching)?;
        program
            .load("tcp_rcv_space_adjust", &btf)
            .with_context(attaching)?;
        program.attach().with_context(attaching)?;
        let reader = (kind == Kind::Naive)
            .then(|| {
                let ring = ebpf
                    .take_map("EXCHANGES")
                    .context("the object has no ring")?;
                Reader::start(RingBuf::try_from(ring).context("cannot map the ring")?)
            })
            .transpose()?;
        Ok(Self {
            ebpf,
            kind,
            _reader: reader,
            accounting: None,
        })
    }

    /// Has the kernel account what they cost, from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn account(&mut self) -> Result<()> {
        let accounting = enable_stats(Stats::RunTime)
            .context("cannot switch on the kernel's accounting of eBPF programs")?;
        self.accounting = Some(accounting);
        Ok(())
    }

    /// What was accounted so far.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn costs(&self) -> Result<HookCosts> {
        let cost = |hook| {
            let name = self.kind.program(hook);
            let info = match self.ebpf.program(&name) {
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
        Ok(HookCosts {
            egress: cost("egress")?,
            ingress: cost("ingress")?,
            read: cost("read")?,
        })
    }
}

/// What the kernel has accounted to a yardstick.
#[derive(Clone, Copy)]
pub(super) struct HookCosts {
    pub(super) egress: Cost,
    pub(super) ingress: Cost,
    pub(super) read: Cost,
}

impl HookCosts {
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

/// What the naive programs cost for one request.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct NaiveCost {
    /// Processor time in the hooks, microseconds, less that of the empty programs.
    pub(super) net_us_per_request: f64,
    /// One run of a packet's program, nanoseconds, as accounted.
    pub(super) packet_raw_ns: f64,
}

impl NaiveCost {
    pub(super) fn of(naive: &HookCosts, empty: &HookCosts, requests: f64) -> Self {
        let hooks = [
            (naive.egress, empty.egress),
            (naive.ingress, empty.ingress),
            (naive.read, empty.read),
        ];
        let net_ns: f64 = hooks
            .iter()
            .map(|(naive, empty)| (naive.ns_per_run() - empty.ns_per_run()) * naive.runs)
            .sum();
        let packets = Cost {
            runs: naive.egress.runs + naive.ingress.runs,
            run_ns: naive.egress.run_ns + naive.ingress.run_ns,
        };
        Self {
            net_us_per_request: net_ns / requests / 1e3,
            packet_raw_ns: packets.ns_per_run(),
        }
    }
}

/// Waits for the ring, as a reader does that wants each record at once.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(mut ring: RingBuf<MapData>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("naive reader".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) && wait(&ring).is_ok() {
                    while ring.next().is_some() {}
                }
            })
            .context("cannot start the naive reader")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A reader that panicked has nothing left to end.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// Sleeps until the ring has a record, or for a while.
fn wait(ring: &RingBuf<MapData>) -> io::Result<()> {
    let mut waiting = [PollFd::new(ring, PollFlags::IN)];
    match poll(&mut waiting, Some(&READER_TIMEOUT)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| {
        format!("the eBPF object has no {name}: build it again with `cargo xtask build-ebpf`")
    })
}
