//! The HTTP/2 programs, in an object of their own: beside the others at the same cgroup.

use std::fs::File;
use std::path::Path;

use aya::programs::CgroupSkbAttachType;
use aya::{Btf, Ebpf, EbpfLoader};
use tracer_common::Http2Loss;

use super::maps::Records;
use super::{
    KERNEL_BTF, LoadError, LoadOptions, ProgramCost, ReadHook, ThreadKey, attach_skb,
    attach_tracepoint,
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

/// The attached programs. Dropping it detaches them.
pub struct Http2Hooks {
    ebpf: Ebpf,
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
        if close {
            let btf = Btf::from_sys_fs().map_err(LoadError::Btf)?;
            attach_tracepoint(&mut ebpf, CLOSE, "inet_sock_set_state", &btf)?;
        }
        attach_skb(&mut ebpf, IN, &cgroup, CgroupSkbAttachType::Ingress)?;
        // What cannot be probed is not used.
        let out =
            ThreadKey::probe().map_or(ThreadKey::ReaderOnly.http2_out(), ThreadKey::http2_out);
        attach_skb(&mut ebpf, out, &cgroup, CgroupSkbAttachType::Egress)?;
        Ok(Self { ebpf, records })
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
