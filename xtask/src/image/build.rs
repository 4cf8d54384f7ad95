//! The programs that go into images: built, and stripped into a place of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use hoptrace_image::Platform;

use super::{Name, Target};
use crate::toolchain::host_cargo;
use crate::{ebpf, paths, run, setup};

/// A program of the workspace.
struct Program {
    image: Name,
    package: &'static str,
    binary: &'static str,
}

const PROGRAMS: [Program; 3] = [
    Program {
        image: Name::Hoptrace,
        package: "tracer-user",
        binary: "hoptrace",
    },
    Program {
        image: Name::CapitolInfo,
        package: "hoptrace-lab",
        binary: "capitol-info",
    },
    Program {
        image: Name::Load,
        package: "hoptrace-lab",
        binary: "hoptrace-load",
    },
];

/// Builds what these images need. The packages one by one: together they would be built with each
/// other's features.
pub(super) fn programs(names: &[Name], target: &Target<'_>) -> Result<()> {
    setup::ensure()?;
    if target.programs.is_some() {
        return Ok(());
    }
    if target.platform != Platform::host()? {
        setup::need_cross(target.platform)?;
    }
    if names.contains(&Name::Hoptrace) {
        ebpf::build()?;
    }
    for package in ["tracer-user", "hoptrace-lab"] {
        let binaries: Vec<_> = PROGRAMS
            .iter()
            .filter(|program| program.package == package && names.contains(&program.image))
            .map(|program| program.binary)
            .collect();
        if !binaries.is_empty() {
            let mut command = cargo_build(target)?;
            command.args(["--package", package]);
            command.args(binaries.iter().flat_map(|binary| ["--bin", binary]));
            run::shown(&binaries.join(" and "), &mut command)?;
        }
    }
    Ok(())
}

fn cargo_build(target: &Target<'_>) -> Result<Command> {
    let mut command = host_cargo("build");
    command.args(["--locked", "--release"]);
    if target.platform != Platform::host()? {
        let rust = target.platform.rust_target();
        let linker = format!(
            "CARGO_TARGET_{}_LINKER",
            rust.to_uppercase().replace('-', "_")
        );
        command.args(["--target", rust]);
        command.env(linker, tool(target, "gcc")?);
    }
    Ok(command)
}

/// Where a program of the workspace is.
fn built(name: &str, target: &Target<'_>) -> Result<PathBuf> {
    if let Some(dir) = target.programs {
        let path = dir.join(name);
        if !path.is_file() {
            bail!(
                "{name} is not in {}: build it, or leave out --programs",
                dir.display()
            );
        }
        return Ok(path);
    }
    let mut dir = paths::cargo_target();
    if target.platform != Platform::host()? {
        dir.push(target.platform.rust_target());
    }
    Ok(dir.join("release").join(name))
}

/// A program of binutils or the compiler, for the image's architecture.
fn tool(target: &Target<'_>, name: &str) -> Result<String> {
    Ok(if target.platform == Platform::host()? {
        name.to_owned()
    } else {
        format!("{}-{name}", target.platform.triplet())
    })
}

/// The program without symbols and debug information. With `debug`, that information is kept in
/// this file, and the program names it (`.gnu_debuglink`), so that debuggers find it.
pub(super) fn stripped(name: &str, target: &Target<'_>, debug: Option<&Path>) -> Result<PathBuf> {
    let source = built(name, target)?;
    let output = stage(name, target)?;
    if is_newer(&output, &source) && debug.is_none_or(Path::exists) {
        return Ok(output);
    }
    let objcopy = tool(target, "objcopy")?;
    if let Some(debug) = debug {
        create_parent(debug)?;
        let mut command = Command::new(&objcopy);
        command.arg("--only-keep-debug").arg(&source).arg(debug);
        run::quiet("debug information", &mut command)?;
    }
    let mut command = Command::new(&objcopy);
    command.arg("--strip-all");
    if let Some(debug) = debug {
        command.arg(format!("--add-gnu-debuglink={}", debug.display()));
    }
    let partial = output.with_extension("partial");
    command.arg(&source).arg(&partial);
    run::quiet(&format!("stripping {name}"), &mut command)?;
    rename(&partial, &output)?;
    Ok(output)
}

/// The program that holds a pod's namespaces: static, with nothing beside it.
pub(super) fn pause(target: &Target<'_>) -> Result<PathBuf> {
    let source = paths::root().join("image/pause/pause.c");
    let output = stage("pause", target)?;
    if is_newer(&output, &source) {
        return Ok(output);
    }
    let partial = output.with_extension("partial");
    let mut command = Command::new(tool(target, "gcc")?);
    command
        .args(["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wl,--build-id=none", "-o"])
        .args([&partial, &source]);
    run::quiet("pause", &mut command)?;
    rename(&partial, &output)?;
    Ok(output)
}

/// Whether `output` was made after `source` changed for the last time.
fn is_newer(output: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    matches!((modified(output), modified(source)), (Some(made), Some(changed)) if made > changed)
}

/// Beside the archives, so that two outputs do not share it.
fn stage(name: &str, target: &Target<'_>) -> Result<PathBuf> {
    let dir = format!("programs-{}", target.platform);
    let path = target.output.join(dir).join(name);
    create_parent(&path)?;
    Ok(path)
}

fn create_parent(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        bail!("{} was not made", from.display());
    }
    fs::rename(from, to).with_context(|| format!("writing {}", to.display()))
}
