//! The HTTP/2 programs, in an object of their own: beside the others at the same cgroup.

use std::fs::File;
use std::path::Path;

use aya::maps::{MapData, ProgramArray};
use aya::programs::CgroupSkbAttachType;
use aya::{Btf, Ebpf, EbpfLoader};
use tracer_common::Http2Loss;

use super::maps::{self, Records};
use super::{
    KERNEL_BTF, LoadError, LoadOptions, ProgramCost, ReadHook, ThreadKey, attach_skb,
    attach_tracepoint, load_skb,
};

/// The object, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HOPTRACE_HTTP2_OBJECT"));

const IN: &str = "hoptrace_http2_in";
const CLOSE: &str = "hoptrace_http2_close";

/// Name of each program and the metrics' `program` label. Of those that see what leaves one is loaded.
const PROGRAMS: [(&str, &str); 5] = [
    ("hoptrace_http2_out", "http2_out"),
    ("hoptrace_http2_out_by_task", "http2_out"),
    ("hoptrace_http2_out_blind", "http2_out"),
    (IN, "http2_in"),
    (CLOSE, "http2_close"),
];

/// Programs that go on with a segment of many frames, and the maps through which they are called. The
/// kernel accounts them to their callers.
const MORE: [(&str, &str); 2] = [
    ("hoptrace_http2_out_more", "MORE_OUT"),
    ("hoptrace_http2_in_more", "MORE_IN"),
];

/// The attached programs. Dropping it detaches them.
pub struct Http2Hooks {
    ebpf: Ebpf,
    /// The kernel empties them with the last descriptor.
    _more: Vec<ProgramArray<MapData>>,
    records: Records,
}

impl Http2Hooks {
    /// Loads the object and attaches its programs. To be called before the main object's are attached:
    /// what those see of a connection, these have seen.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays attached then.
    pub fn attach(options: &LoadOptions) -> Result<Self, LoadError> {
        let close = options.read_hook != ReadHook::Off && Path::new(KERNEL_BTF).exists();
        match Self::try_attach(options, close) {
            Err(LoadError::Btf(_) | LoadError::Program { program: CLOSE, .. })
                if options.read_hook == ReadHook::Auto =>
            {
                Self::try_attach(options, false)
            }
            done => done,
        }
    }

    fn try_attach(options: &LoadOptions, close: bool) -> Result<Self, LoadError> {
        let cgroup = File::open(&options.cgroup_root).map_err(|source| LoadError::CgroupRoot {
            path: options.cgroup_root.clone(),
            source,
        })?;
        let mut ebpf = EbpfLoader::new()
            .override_global("HEADERS", &(options.headers as u8), true)
            .override_global("SIDECAR_INBOUND_PORT", &options.sidecar_inbound_port, true)
            .map_max_entries("HTTP2_FRAMES", options.ring_bytes)
            .load(OBJECT)
            .map_err(|source| LoadError::Object(Box::new(source)))?;
        let records = Records::take(&mut ebpf, "HTTP2_FRAMES", "HTTP2_LOSSES")?;
        let more = MORE
            .into_iter()
            .map(|(program, map)| more(&mut ebpf, program, map))
            .collect::<Result<_, _>>()?;
        if close {
            let btf = Btf::from_sys_fs().map_err(LoadError::Btf)?;
            attach_tracepoint(&mut ebpf, CLOSE, "inet_sock_set_state", &btf)?;
        }
        attach_skb(&mut ebpf, IN, &cgroup, CgroupSkbAttachType::Ingress)?;
        // What cannot be probed is not used.
        let out =
            ThreadKey::probe().map_or(ThreadKey::ReaderOnly.http2_out(), ThreadKey::http2_out);
        attach_skb(&mut ebpf, out, &cgroup, CgroupSkbAttachType::Egress)?;
        Ok(Self {
            ebpf,
            _more: more,
            records,
        })
    }

    /// Hands over what the ring has; true when more may be waiting.
    pub fn drain(&mut self, each: impl FnMut(&[u8])) -> bool {
        self.records.drain(each)
    }

    /// Counter of one loss reason, summed over the CPUs.
    #[must_use]
    pub fn lost(&self, loss: Http2Loss) -> u64 {
        self.records.lost(loss as u32)
    }

    /// The kernel's accounting of each attached program; all zero unless it is switched on.
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static str, ProgramCost)> {
        super::costs(&self.ebpf, &PROGRAMS)
    }

    /// Detaches, but keeps the ring and the counters, so that the last records can be read.
    pub fn detach(&mut self) {
        super::unload(&mut self.ebpf, &PROGRAMS);
    }
}

/// Loads a program and makes it the one that a map calls.
fn more(
    ebpf: &mut Ebpf,
    program: &'static str,
    map: &'static str,
) -> Result<ProgramArray<MapData>, LoadError> {
    let mut called: ProgramArray<_> = maps::take(ebpf, map)?;
    let failed = |source| LoadError::Program {
        program,
        step: "load",
        source: Box::new(source),
    };
    let fd = load_skb(ebpf, program)?.fd().map_err(failed)?;
    let set = called.set(0, fd, 0);
    set.map_err(|source| LoadError::Map { name: map, source })?;
    Ok(called)
}
