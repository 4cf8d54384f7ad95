//! `cargo xtask screenshots`: the pictures of the page in docs/images, taken in a real browser.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use hoptrace_lab::browser;

use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

/// Names the directory to the test that looks at the page.
const PICTURES: &str = "HOPTRACE_PICTURES";
/// The one that takes them.
const TEST: &str = "pictures_are_small";

/// Makes them anew.
pub(crate) fn run() -> Result<()> {
    setup::ensure()?;
    if browser::find().is_none() {
        bail!("there is no Chromium: run `cargo xtask setup`");
    }
    ebpf::build()?;
    let images = paths::root().join("docs/images");
    fs::create_dir_all(&images).with_context(|| format!("making {}", images.display()))?;
    let mut command = host_cargo("test");
    command
        .env(PICTURES, &images)
        .args(["--package", "tracer-user", "--test", "page", TEST]);
    run::shown("page", &mut command)?;
    let mut made = 0;
    for entry in fs::read_dir(&images)? {
        let entry = entry?;
        let kib = entry.metadata()?.len() / 1024;
        println!("{} ({kib} KiB)", entry.path().display());
        made += 1;
    }
    ensure!(made > 0, "the test was skipped: it says why");
    Ok(())
}
