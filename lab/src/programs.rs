//! Where the lab's own programs are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// Names the directory.
const VARIABLE: &str = "HOPTRACE_LAB_BIN";
/// The lab's services and tools.
pub(crate) const PROGRAMS: [&str; 2] = ["capitol-info", "hoptrace-load"];

/// The server and client of odd cases, which not every lab needs.
pub(crate) const WIRE: &str = "hoptrace-wire";
/// The services of a chain, which not every lab needs either.
pub(crate) const CHAIN: &str = "hoptrace-chain";

/// The directory of `capitol-info` and `hoptrace-load`: `$HOPTRACE_LAB_BIN`, else where cargo put
/// the running program (a test is one directory below), else the workspace's `target/release` or
/// `target/debug`.
///
/// # Errors
/// They are in none of these.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os(VARIABLE).map(PathBuf::from) {
        return complete(&dir).then_some(dir.clone()).with_context(|| {
            format!(
                "{VARIABLE} names {}, where {} are not: run `cargo build --release --package \
                 hoptrace-lab --bins`, and name its directory",
                dir.display(),
                PROGRAMS.join(" and ")
            )
        });
    }
    let running = env::current_exe().ok();
    let above = running
        .iter()
        .flat_map(|path| path.ancestors().skip(1).take(2));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    above
        .map(Path::to_path_buf)
        .chain(["release", "debug"].map(|profile| target.join(profile)))
        .find(|dir| complete(dir))
        .with_context(|| {
            format!(
                "{} are not built: run `cargo build --release --package hoptrace-lab --bins`",
                PROGRAMS.join(" and ")
            )
        })
}

fn complete(dir: &Path) -> bool {
    PROGRAMS
        .iter()
        .all(|name| host::is_executable(&dir.join(name)))
}
