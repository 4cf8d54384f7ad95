//! How the programs tell one thread from another: what `cgroup_skb` may ask for differs by kernel.

use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};

/// What stands for a thread in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKey {
    /// Its `pid` in all hooks: from Linux 6.10 on (commit 437ffcb0bf97 of the kernel).
    Pid,
    /// The address of its `task_struct` in all hooks. As good as the `pid`: the agent only compares.
    Task,
    /// Nothing in `cgroup_skb`; its `pid` in the read hook.
    ReaderOnly,
}

impl ThreadKey {
    /// Asks the running kernel, by loading programs of two instructions.
    ///
    /// # Errors
    /// It lets this process load none.
    pub fn probe() -> Result<Self, ProgramError> {
        let offered = |helper| is_helper_supported(ProgramType::CgroupSkb, helper);
        Ok(if offered(BpfHelper::BPF_FUNC_get_current_pid_tgid)? {
            Self::Pid
        } else if offered(BpfHelper::BPF_FUNC_get_current_task)? {
            Self::Task
        } else {
            Self::ReaderOnly
        })
    }

    /// The same of HTTP/2's.
    pub(super) const fn http2_out(self) -> &'static str {
        match self {
            Self::Pid => "hoptrace_http2_out",
            Self::Task => "hoptrace_http2_out_by_task",
            Self::ReaderOnly => "hoptrace_http2_out_blind",
        }
    }

    /// The egress program that tells threads so, and logs or has no code for it.
    pub(super) const fn egress(self, log: bool) -> &'static str {
        match (self, log) {
            (Self::Pid, false) => "hoptrace_egress",
            (Self::Pid, true) => "hoptrace_egress_log",
            (Self::Task, false) => "hoptrace_egress_by_task",
            (Self::Task, true) => "hoptrace_egress_by_task_log",
            (Self::ReaderOnly, false) => "hoptrace_egress_blind",
            (Self::ReaderOnly, true) => "hoptrace_egress_blind_log",
        }
    }
}
