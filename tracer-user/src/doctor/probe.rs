//! Loads a program of two instructions for a BTF tracepoint: aya's own probes have none for it.

use aya_obj::btf::{Btf, BtfError, BtfKind};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
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
    #[error("cannot load a program for the tracepoint {name}")]
    Load {
        /// Which one.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Loads and lets go a program that does nothing. It is not attached.
pub(super) fn load_tracepoint(name: &'static str) -> Result<(), ProbeError> {
    let btf = Btf::from_sys_fs().map_err(ProbeError::Btf)?;
    // The kernel describes each tracepoint by a typedef of its handler's type
    // (`bpf_check_attach_target` in kernel/bpf/verifier.c).
    let btf_id = btf
        .id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .map_err(|_absent| ProbeError::NoTracepoint { name })?;
    load(btf_id).map_err(|source| ProbeError::Load { name, source })
}

fn load(btf_id: u32) -> io::Result<()> {
    // r0 = 0; exit
    let program = [instruction(0xb7), instruction(0x95)];
    let license = c"GPL";
    // SAFETY: bpf_attr is a union of plain integers, for which zero is valid everywhere.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: this arm of the union is plain integers as well, all zero so far.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
    load.insns = program.as_ptr() as u64;
    load.insn_cnt = program.len() as u32;
    load.license = license.as_ptr() as u64;
    load.attach_btf_id = btf_id;
    // SAFETY: the kernel reads `attr` and through it `program` and `license`, which outlive the
    // call; it writes nothing, because no log buffer is given.
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

fn instruction(code: u8) -> bpf_insn {
    // SAFETY: bpf_insn is plain integers, for which zero is valid.
    let mut instruction: bpf_insn = unsafe { mem::zeroed() };
    instruction.code = code;
    instruction
}
