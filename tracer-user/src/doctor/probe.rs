//! Loads programs of a few instructions where aya's own probes do not reach: for a BTF tracepoint, and
//! with a look at a packet.

use aya::sys::BpfHelper;
use aya_obj::btf::{Btf, BtfError, BtfKind};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};

/// Why the probe was not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// No type information.
    #[error("cannot read the kernel's BTF")]
    Btf(#[source] BtfError),
    /// The kernel has no such tracepoint.
    #[error("this kernel has no tracepoint {name}")]
    NoTracepoint {
        /// Which one.
        name: &'static str,
    },
    /// The kernel refused.
    #[error("cannot load a program for {name}")]
    Load {
        /// Which hook.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What a probe is loaded as.
enum Kind {
    /// By the type's id in the kernel's own type information.
    Tracepoint(u32),
    CgroupSkb,
}

/// Loads and lets go a program that does nothing. It is not attached.
pub(super) fn load_tracepoint(name: &'static str) -> Result<(), ProbeError> {
    let kind = Kind::Tracepoint(btf_id(name)?);
    // r0 = 0; exit
    let program = [instruction(0xb7, 0, 0), instruction(0x95, 0, 0)];
    load(&kind, &program, &mut []).map_err(|source| ProbeError::Load { name, source })
}

/// Whether programs of the tracepoint may call the helper.
pub(super) fn tracepoint_offers(name: &'static str, helper: BpfHelper) -> Result<bool, ProbeError> {
    /// How the verifier says that it may not, in its versions (`check_helper_call` in
    /// kernel/bpf/verifier.c).
    const REFUSALS: [&str; 3] = [
        "invalid func ",
        "unknown func ",
        "program of this type cannot use helper ",
    ];
    let kind = Kind::Tracepoint(btf_id(name)?);
    // call helper; r0 = 0; exit. The arguments are not right: then the complaint is about them.
    let program = [
        instruction(0x85, 0, helper as i32),
        instruction(0xb7, 0, 0),
        instruction(0x95, 0, 0),
    ];
    let mut log = [0; 4096];
    match load(&kind, &program, &mut log) {
        Ok(()) => Ok(true),
        Err(source) => {
            let log = String::from_utf8_lossy(&log);
            let log = log.trim_end_matches('\0');
            if log.is_empty() {
                // It was refused before the verifier looked at the call.
                return Err(ProbeError::Load { name, source });
            }
            Ok(!REFUSALS.iter().any(|words| log.contains(words)))
        }
    }
}

/// Whether a program may look at packets: where they end has to be compared, and before Linux 6.6
/// that is refused to a process without CAP_PERFMON ("pointer comparison prohibited").
pub(super) fn packet_access() -> Result<bool, ProbeError> {
    // r2 = skb->data; r3 = skb->data_end (include/uapi/linux/bpf.h); r0 = 1; if r2 > r3 exit; exit
    let program = [
        instruction(0x61, 0x12, 0).at(76),
        instruction(0x61, 0x13, 0).at(80),
        instruction(0xb7, 0, 1),
        instruction(0x2d, 0x32, 0),
        instruction(0x95, 0, 0),
    ];
    let mut log = [0; 4096];
    match load(&Kind::CgroupSkb, &program, &mut log) {
        Ok(()) => Ok(true),
        // The verifier had something to say, and that can only be this.
        Err(_) if log.iter().any(|byte| *byte != 0) => Ok(false),
        Err(source) => Err(ProbeError::Load {
            name: "cgroup_skb",
            source,
        }),
    }
}

/// The kernel describes each tracepoint by a typedef of its handler's type
/// (`bpf_check_attach_target` in kernel/bpf/verifier.c).
fn btf_id(name: &'static str) -> Result<u32, ProbeError> {
    let btf = Btf::from_sys_fs().map_err(ProbeError::Btf)?;
    btf.id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .map_err(|_absent| ProbeError::NoTracepoint { name })
}

fn load(kind: &Kind, program: &[Instruction], log: &mut [u8]) -> io::Result<()> {
    let license = c"GPL";
    // SAFETY: bpf_attr is a union of plain integers, for which zero is valid everywhere.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: this arm of the union is plain integers as well, all zero so far.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    match kind {
        Kind::Tracepoint(btf_id) => {
            load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
            load.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
            load.attach_btf_id = *btf_id;
        }
        Kind::CgroupSkb => {
            load.prog_type = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB as u32;
            load.expected_attach_type = bpf_attach_type::BPF_CGROUP_INET_INGRESS as u32;
        }
    }
    load.insns = program.as_ptr() as u64;
    load.insn_cnt = program.len() as u32;
    load.license = license.as_ptr() as u64;
    if !log.is_empty() {
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
        load.log_level = 1;
    }
    // SAFETY: the kernel reads `attr` and through it `program` and `license`, and writes its words
    // into `log`, within its size; all of them outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_LOAD,
            &raw const attr,
            size_of::<bpf_attr>(),
        )
    };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just handed out this descriptor, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct bpf_insn`, whose registers share a byte: the source's number in the upper half.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<aya_obj::generated::bpf_insn>());

const fn instruction(code: u8, registers: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset: 0,
        immediate,
    }
}

impl Instruction {
    /// The same with a field's offset.
    const fn at(self, offset: i16) -> Self {
        Self { offset, ..self }
    }
}
