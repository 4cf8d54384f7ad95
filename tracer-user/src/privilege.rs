//! Capabilities: what the agent needs to start, and that it keeps none of them afterwards.

use caps::{CapSet, CapsHashSet};

pub use caps::Capability;

/// What is wrong with the capabilities.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The kernel refused to tell or to change a set.
    #[error("cannot {operation} the {set} capability set")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// Which set.
        set: &'static str,
        /// Why.
        source: caps::errors::CapsError,
    },
    /// Something needed is not there.
    #[error("{missing}; {remedy}")]
    Missing {
        /// Each capability and what needs it.
        missing: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A set is not empty although it was emptied.
    #[error("the {set} capability set still holds {left} after dropping everything")]
    Kept {
        /// Which set.
        set: &'static str,
        /// What is in it.
        left: String,
    },
    /// `no_new_privs` was refused.
    #[error("cannot set no_new_privs for this thread")]
    NewPrivileges(#[source] std::io::Error),
}

/// What [`drop_all`] could not take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Every set is empty.
    Everything,
    /// The bounding set stays, because dropping it takes CAP_SETPCAP. With `no_new_privs` set,
    /// nothing can be gained from it.
    AllButBounding,
}

const SETS: [(CapSet, &str); 4] = [
    (CapSet::Ambient, "ambient"),
    (CapSet::Effective, "effective"),
    (CapSet::Permitted, "permitted"),
    (CapSet::Inheritable, "inheritable"),
];

/// What is missing may not be had by anything that runs here.
const ADD: &str = "run as root or add it to the container's securityContext.capabilities.add";
/// It may be had, and this user does not get it by starting this file.
const GIVE: &str = "it may be had here, but by itself only root gets it: run as root, or give it to \
    the file as the image does (setcap, with the flag p), on a file system without nosuid";

/// Makes every permitted capability effective. A file's capabilities may be permitted only, so that
/// it starts, and can say what is missing, where one of them may not be had.
///
/// # Errors
/// When the kernel refuses.
pub fn raise() -> Result<(), PrivilegeError> {
    let permitted = read(CapSet::Permitted, "permitted")?;
    caps::set(None, CapSet::Effective, &permitted).map_err(refused("raise", "effective"))
}

/// Checks that each capability is effective; the text says what needs it, as in
/// `"loading eBPF programs"`.
///
/// # Errors
/// One error that names every missing capability.
pub fn require(needed: &[(Capability, &str)]) -> Result<(), PrivilegeError> {
    let held = read(CapSet::Effective, "effective")?;
    match missing(&held, needed) {
        text if text.is_empty() => Ok(()),
        missing => {
            // The bounding set limits what a file can give (capabilities(7)).
            let bounding = read(CapSet::Bounding, "bounding")?;
            let may_be_had = needed.iter().all(|(needed, _)| bounding.contains(needed));
            let remedy = if may_be_had { GIVE } else { ADD };
            Err(PrivilegeError::Missing { missing, remedy })
        }
    }
}

fn missing(held: &CapsHashSet, needed: &[(Capability, &str)]) -> String {
    let absent = needed
        .iter()
        .filter(|(capability, _)| !held.contains(capability));
    let sentences: Vec<_> = absent
        .map(|(capability, why)| format!("{capability} is missing: {why} needs it"))
        .collect();
    sentences.join("; ")
}

/// Whether the capability is effective in this thread.
#[must_use]
pub fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Names of the effective capabilities of the calling thread, sorted; empty if it cannot be told.
#[must_use]
pub fn effective() -> Vec<String> {
    read(CapSet::Effective, "effective")
        .map(|set| names(&set))
        .unwrap_or_default()
}

/// Whether `work` succeeds without any capability; tried in a thread of its own.
pub fn works_without_any(work: impl Fn() -> bool + Sync) -> bool {
    std::thread::scope(|scope| {
        scope
            .spawn(|| drop_all().is_ok() && work())
            .join()
            .unwrap_or(false)
    })
}

/// Empties every capability set of the calling thread for good, and looks that they are empty.
///
/// Capabilities belong to threads (capabilities(7)): call it before any other thread is started;
/// later threads inherit the empty sets.
///
/// # Errors
/// When the kernel refuses, or a set is not empty afterwards.
pub fn drop_all() -> Result<Dropped, PrivilegeError> {
    drop_all_but(None)
}

/// The same, but one capability may stay effective and permitted.
///
/// # Errors
/// As [`drop_all`].
pub fn drop_all_but(keep: Option<Capability>) -> Result<Dropped, PrivilegeError> {
    forbid_new_privileges()?;
    // The bounding set first: dropping it takes CAP_SETPCAP, which is gone with the others.
    let bounding = if has(Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).map_err(refused("drop", "bounding"))?;
        Dropped::Everything
    } else {
        Dropped::AllButBounding
    };
    let kept = |set| match (set, keep) {
        (CapSet::Effective | CapSet::Permitted, Some(keep)) => CapsHashSet::from([keep]),
        _ => CapsHashSet::new(),
    };
    for (set, name) in SETS {
        caps::set(None, set, &kept(set)).map_err(refused("drop", name))?;
    }
    for (set, name) in SETS {
        let left = read(set, name)?;
        if left != kept(set) {
            return Err(PrivilegeError::Kept {
                set: name,
                left: names(&left).join(", "),
            });
        }
    }
    Ok(bounding)
}

fn forbid_new_privileges() -> Result<(), PrivilegeError> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes four integers and touches no memory of this process.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(PrivilegeError::NewPrivileges(
            std::io::Error::last_os_error(),
        ))
    }
}

fn read(set: CapSet, name: &'static str) -> Result<CapsHashSet, PrivilegeError> {
    caps::read(None, set).map_err(refused("read", name))
}

fn refused(
    operation: &'static str,
    set: &'static str,
) -> impl FnOnce(caps::errors::CapsError) -> PrivilegeError {
    move |source| PrivilegeError::Kernel {
        operation,
        set,
        source,
    }
}

fn names(set: &CapsHashSet) -> Vec<String> {
    let mut names: Vec<_> = set.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named_with_its_reason() {
        let held = [Capability::CAP_BPF].into_iter().collect();
        let needed = [
            (Capability::CAP_BPF, "loading eBPF programs"),
            (Capability::CAP_NET_ADMIN, "attaching to cgroups"),
        ];
        assert_eq!(
            missing(&held, &needed),
            "CAP_NET_ADMIN is missing: attaching to cgroups needs it"
        );
        assert_eq!(missing(&held, &[]), "");
    }

    #[test]
    fn a_thread_that_dropped_everything_holds_nothing() {
        // Each test has its own thread, so the others keep what they have.
        let dropped = drop_all().unwrap();
        assert_eq!(effective(), Vec::<String>::new());
        assert!(require(&[(Capability::CAP_BPF, "this test")]).is_err());
        // A second time there is no CAP_SETPCAP left, and that is no error.
        assert_eq!(drop_all().unwrap(), Dropped::AllButBounding);
        let _either = dropped;
    }
}
