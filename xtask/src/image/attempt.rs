//! Starts what was put into an image, with the libraries that were put beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_image::{Content, Image, Node, Platform};

/// Runs `<program> --version` by the image's own loader, emulated for another architecture; returns
/// what it printed. Needs no root, as `chroot` would.
///
/// # Errors
/// It does not start.
pub(super) fn version(image: &Image) -> Result<String> {
    let program = image.config.entrypoint.first();
    let program = program.context("the image starts nothing")?;
    let files = || {
        let entries = image.layers.iter().flat_map(|tree| tree.entries());
        entries.filter_map(|(path, entry)| match &entry.node {
            Node::File(Content::Host(host)) => Some((path, host.as_path())),
            _ => None,
        })
    };
    let find = |wanted: &dyn Fn(&str) -> bool| {
        let mut files = files();
        files.find(|(path, _)| wanted(path)).map(|(_, host)| host)
    };
    let loader = find(&|path| path.contains("/ld-linux-")).context("the image has no loader")?;
    let program = find(&|path| Some(path) == program.strip_prefix('/'))
        .with_context(|| format!("{program} is not in the image"))?;
    let libraries: BTreeSet<&Path> = files()
        .filter(|(path, _)| path.contains(".so"))
        .filter_map(|(_, host)| host.parent())
        .collect();
    let libraries: Vec<_> = libraries.iter().map(|dir| dir.to_string_lossy()).collect();

    let mut command = match image.platform {
        platform if platform == Platform::host()? => Command::new(loader),
        Platform::Amd64 => emulated("qemu-x86_64-static", loader),
        Platform::Arm64 => emulated("qemu-aarch64-static", loader),
    };
    command.arg("--library-path").arg(libraries.join(":"));
    command.arg(program).arg("--version");
    let output = command
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} does not start with the image's libraries ({}): {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn emulated(emulator: &str, loader: &Path) -> Command {
    let mut command = Command::new(emulator);
    command.arg(loader);
    command
}
