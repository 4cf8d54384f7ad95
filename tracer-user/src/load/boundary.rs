//! The programs at the pods' veths: loaded once, attached to each veth that comes, by a thread of
//! its own that keeps CAP_NET_ADMIN for that and nothing else.
//!
//! With TCX each attachment belongs to a file descriptor of this process, as the hooks' do. Where the
//! kernel has no TCX (before Linux 6.6) they are filters below a `clsact` queueing discipline, which
//! stay when the process is killed: the next one that comes by removes them.

use std::collections::HashMap;
use std::io::{self, PipeWriter};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use aya::programs::tc::{
    NlOptions, SchedClassifierLinkId, TcAttachOptions, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracer_common::BoundaryLoss;

use super::maps::Records;
use super::{LoadError, ProgramCost};
use crate::lock::lock;
use crate::privilege::{self, Capability};
use veths::{News, Veth, Veths};

mod veths;

/// The object of the boundary, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HOPTRACE_BOUNDARY_OBJECT"));

/// Name of each program, the metrics' `program` label, and where it is attached: what comes out of
/// a pod comes in at the host's end of its veth.
const PROGRAMS: [(&str, &str, TcAttachType); 2] = [
    ("hoptrace_pod_out", "pod_out", TcAttachType::Ingress),
    ("hoptrace_pod_in", "pod_in", TcAttachType::Egress),
];

/// Veths attached to at most: a node has 110 pods, or some hundreds where it was told to.
const MOST: usize = 4096;

/// Priority of the filters below clsact: before what gets its priority from the kernel.
const PRIORITY: u16 = 1;

/// How programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// By links of the kernel's multi-program interface, from Linux 6.6 on.
    Tcx,
    /// By filters below a `clsact` queueing discipline.
    Clsact,
}

impl Attachment {
    /// What this kernel has.
    #[must_use]
    pub fn probe() -> Self {
        // Every network namespace has one. Nothing is attached: the question is known or not.
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => Self::Tcx,
            Err(_) => Self::Clsact,
        }
    }
}

/// How many veths of this network namespace lead into another one.
///
/// # Errors
/// The kernel does not tell.
pub fn veths() -> io::Result<usize> {
    let veths = Veths::listen()?;
    let mut count = 0;
    veths.all(|news| count += usize::from(matches!(news, News::There(_))))?;
    Ok(count)
}

/// What became of the veths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Attached to now.
    pub attached: u64,
    /// Could not be attached to, though they were there, or were more than there is room for.
    pub refused: u64,
    /// Times when the kernel had more news than the socket held, and all were asked for again.
    pub overruns: u64,
}

/// The attached boundary. Dropping it detaches everything.
pub struct PodBoundary {
    programs: Arc<Mutex<Programs>>,
    records: Records,
    counts: Arc<Counts>,
    /// While it is open the thread goes on.
    running: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    attached: AtomicU64,
    refused: AtomicU64,
    overruns: AtomicU64,
}

impl PodBoundary {
    /// Loads the programs, attaches them to every veth of the calling thread's network namespace
    /// that leads into another one, and to those that come.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays attached then.
    pub fn attach(attachment: Attachment) -> Result<Self, LoadError> {
        // Without the kernel's type information, which is for tracing programs.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .load(OBJECT)
            .map_err(|source| LoadError::Object(Box::new(source)))?;
        let records = Records::take(&mut ebpf, "BOUNDARIES", "BOUNDARY_LOSSES")?;
        let mut programs = Programs {
            ebpf,
            attachment,
            links: HashMap::new(),
        };
        for (name, ..) in PROGRAMS {
            let program = programs.of(name).ok_or(LoadError::Missing(name))?;
            program.load().map_err(|source| LoadError::Program {
                program: name,
                step: "load",
                source: Box::new(source),
            })?;
        }
        let programs = Arc::new(Mutex::new(programs));
        let counts = Arc::new(Counts::default());
        let (stopped, running) = io::pipe().map_err(LoadError::Veths)?;
        let veths = Veths::listen().map_err(LoadError::Veths)?;
        let mut watch = Watch {
            veths,
            programs: Arc::clone(&programs),
            counts: Arc::clone(&counts),
        };
        watch.first().map_err(LoadError::Veths)?;
        let thread = thread::Builder::new()
            .name("pod boundary".to_owned())
            .spawn(move || watch.run(&stopped))
            .map_err(LoadError::Veths)?;
        Ok(Self {
            programs,
            records,
            counts,
            running: Some(running),
            thread: Some(thread),
        })
    }

    /// Hands over what the ring has; true when more may be waiting.
    pub fn drain(&mut self, each: impl FnMut(&[u8])) -> bool {
        self.records.drain(each)
    }

    /// Counter of one loss reason, summed over the CPUs.
    #[must_use]
    pub fn lost(&self, loss: BoundaryLoss) -> u64 {
        self.records.lost(loss as u32)
    }

    /// What became of the veths.
    #[must_use]
    pub fn interfaces(&self) -> Interfaces {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Interfaces {
            attached: of(&self.counts.attached),
            refused: of(&self.counts.refused),
            overruns: of(&self.counts.overruns),
        }
    }

    /// The kernel's accounting of both programs; all zero unless it is switched on.
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static str, ProgramCost)> {
        let mut programs = lock(&self.programs);
        let cost = |(name, label, _): (&str, &'static str, _)| {
            let info = programs.of(name)?.info().ok()?;
            let run_time_ns = u64::try_from(info.run_time().as_nanos()).ok()?;
            let runs = info.run_count();
            Some((label, ProgramCost { run_time_ns, runs }))
        };
        PROGRAMS.into_iter().filter_map(cost).collect()
    }

    /// Detaches, but keeps the ring and the counters, so that the last records can be read.
    pub fn detach(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has left its links to the descriptors.
            let _ended = thread.join();
        }
    }
}

impl Drop for PodBoundary {
    fn drop(&mut self) {
        self.detach();
    }
}

/// The programs and where they are attached.
struct Programs {
    ebpf: Ebpf,
    attachment: Attachment,
    links: HashMap<u32, Vec<(&'static str, SchedClassifierLinkId)>>,
}

impl Programs {
    fn of(&mut self, name: &str) -> Option<&mut SchedClassifier> {
        self.ebpf.program_mut(name)?.try_into().ok()
    }

    fn attach(&mut self, veth: &Veth) -> Result<(), ProgramError> {
        if self.links.contains_key(&veth.index) {
            return Ok(());
        }
        // What is attached to one side stays known if the other side refuses.
        let mut links = Vec::with_capacity(PROGRAMS.len());
        let mut attach = || {
            for (name, _, side) in PROGRAMS {
                let options = self.options(veth, name, side)?;
                let Some(program) = self.of(name) else {
                    continue;
                };
                let link = program.attach_with_options(&veth.name, side, options)?;
                links.push((name, link));
            }
            Ok(())
        };
        let done = attach();
        self.links.insert(veth.index, links);
        if done.is_err() {
            self.detach(veth.index);
        }
        done
    }

    /// First: others may redirect a packet, and end the row.
    fn options(
        &self,
        veth: &Veth,
        name: &str,
        side: TcAttachType,
    ) -> Result<TcAttachOptions, ProgramError> {
        if self.attachment == Attachment::Tcx {
            return Ok(TcAttachOptions::TcxOrder(LinkOrder::first()));
        }
        // There may be one of somebody else's. If it cannot be made, attaching fails and says why.
        let _there = qdisc_add_clsact(&veth.name);
        // What an agent left that was killed. Mostly there is none, which is an error.
        let _left = qdisc_detach_program(&veth.name, side, name);
        Ok(TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: TcHandle::AUTO_ASSIGN,
            classid: None,
        }))
    }

    fn detach(&mut self, index: u32) {
        for (name, link) in self.links.remove(&index).unwrap_or_default() {
            if let Some(program) = self.of(name) {
                // It goes with the interface, which may be gone already.
                let _gone = program.detach(link);
            }
        }
    }

    fn detach_all(&mut self) {
        let indices: Vec<_> = self.links.keys().copied().collect();
        for index in indices {
            self.detach(index);
        }
    }
}

/// What the thread has.
struct Watch {
    veths: Veths,
    programs: Arc<Mutex<Programs>>,
    counts: Arc<Counts>,
}

impl Watch {
    /// Attaches to all that are there.
    fn first(&mut self) -> io::Result<()> {
        let mut told = Vec::new();
        self.veths.all(|news| told.push(news))?;
        told.into_iter().for_each(|news| self.take(news));
        Ok(())
    }

    /// Goes on until the other end of the pipe is closed.
    fn run(mut self, stopped: &io::PipeReader) {
        if let Err(error) = privilege::drop_all_but(Some(Capability::CAP_NET_ADMIN)) {
            tracing::warn!(%error, "the thread that watches the pods' veths keeps its capabilities");
        }
        loop {
            let mut ready = [
                PollFd::new(&self.veths, PollFlags::IN),
                PollFd::new(stopped, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for veths: those of new pods are not traced");
                    break;
                }
            }
            let [news, stop] = ready.map(|fd| !fd.revents().is_empty());
            if stop {
                break;
            }
            if news && let Err(error) = self.hear() {
                tracing::error!(%error, "cannot hear of veths: those of new pods are not traced");
                break;
            }
        }
        lock(&self.programs).detach_all();
        self.counts.attached.store(0, Ordering::Relaxed);
    }

    fn hear(&mut self) -> io::Result<()> {
        match self.veths.next() {
            Ok(news) => {
                news.into_iter().for_each(|news| self.take(news));
                Ok(())
            }
            // One message that nobody can read says nothing against the next.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "the kernel told something unknown of an interface");
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                self.counts.overruns.fetch_add(1, Ordering::Relaxed);
                self.veths.ask()
            }
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, news: News) {
        let mut programs = lock(&self.programs);
        match news {
            News::There(veth) if programs.links.contains_key(&veth.index) => {}
            News::There(veth) if programs.links.len() >= MOST => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(interface = veth.name, most = MOST, "no room for this veth");
            }
            News::There(veth) => match programs.attach(&veth) {
                Ok(()) => tracing::debug!(interface = veth.name, "at the boundary of a pod"),
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(interface = veth.name, %error, "cannot attach to this veth");
                }
            },
            News::Gone(index) => programs.detach(index),
            News::Done => {}
        }
        let attached = u64::try_from(programs.links.len()).unwrap_or(u64::MAX);
        self.counts.attached.store(attached, Ordering::Relaxed);
    }
}

/// Whether an interface went while it was attached to.
fn is_gone(error: &ProgramError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(Errno::NODEV.raw_os_error());
        }
        cause = error.source();
    }
    false
}
