//! Room for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: the usual 1,024 is below what 1,024
/// connections and their event loop take.
///
/// A limit that cannot be raised is left as it is; opening the connections then says so.
pub fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}
