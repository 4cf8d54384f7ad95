//! Images into the node's runtime.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::capture;
use crate::layout::Layout;
use crate::node;

const SOCKET: &str = "/run/containerd/containerd.sock";
/// Unpacking 110 MB on a busy machine.
const IMPORT_LIMIT: Duration = Duration::from_secs(120);
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// Whether the runtime answers.
pub(crate) fn answers(holder: u32) -> bool {
    ctr(holder, &["version"], ASK_LIMIT).is_ok()
}

/// Imports an archive; returns the names of the images in it.
///
/// # Errors
/// The runtime refuses it.
pub(crate) fn import(layout: &Layout, holder: u32, archive: &Path) -> Result<Vec<String>> {
    // The archive may be somewhere that the node does not see.
    let inside = layout.file("import.tar");
    let copying = || format!("cannot copy {} into the node", archive.display());
    fs::copy(archive, &inside).with_context(copying)?;
    let imported = ctr(
        holder,
        &["images", "import", "/run/hoptrace/import.tar"],
        IMPORT_LIMIT,
    );
    fs::remove_file(&inside).with_context(copying)?;
    let said = imported.with_context(|| format!("importing {}", archive.display()))?;
    // `unpacking docker.io/x/y:1 (sha256:…)...done`
    Ok(said
        .lines()
        .filter_map(|line| line.strip_prefix("unpacking ")?.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// The images there are.
///
/// # Errors
/// The runtime does not answer.
pub(crate) fn images(holder: u32) -> Result<Vec<String>> {
    let said = ctr(holder, &["images", "list", "--quiet"], ASK_LIMIT)?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn ctr(holder: u32, arguments: &[&str], limit: Duration) -> Result<String> {
    let mut command = node::enter(holder, "/run/hoptrace/tools/bin/ctr")?;
    command
        .args(["--address", SOCKET, "--namespace", "k8s.io"])
        .args(arguments);
    capture(
        &format!("`ctr {}`", arguments.join(" ")),
        &mut command,
        None,
        limit,
    )
}
