//! Finds the eBPF objects that the agent embeds, and what tells one build from another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// By variable, and where it is without one. The first is the one that `-V` tells of.
const OBJECTS: [(&str, &str); 3] = [
    ("HOPTRACE_EBPF_OBJECT", "../target/bpf/hoptrace.o"),
    (
        "HOPTRACE_BOUNDARY_OBJECT",
        "../target/bpf/hoptrace-boundary.o",
    ),
    ("HOPTRACE_HTTP2_OBJECT", "../target/bpf/hoptrace-http2.o"),
];
/// Digits of hashes: enough to tell any two apart.
const DIGITS: usize = 12;

fn main() {
    for (at, (variable, usual)) in OBJECTS.into_iter().enumerate() {
        println!("cargo::rerun-if-env-changed={variable}");
        let object = std::env::var_os(variable).map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(usual),
            PathBuf::from,
        );
        println!("cargo::rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(path) => {
                println!("cargo::rustc-env={variable}={}", path.display());
                if at == 0 {
                    println!("cargo::rustc-env=HOPTRACE_OBJECT_HASH={}", hash(&path));
                }
            }
            Err(_) => println!(
                "cargo::error=the eBPF object {} is missing: run `cargo xtask build-ebpf` first",
                object.display()
            ),
        }
    }
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=HOPTRACE_TARGET={target}");
    println!("cargo::rustc-env=HOPTRACE_COMMIT={}", commit());
}

/// The commit that is checked out, with its date. Only optimised builds tell it: all others would be built anew
/// after each commit for it.
fn commit() -> String {
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return "not told by a development build".to_owned();
    }
    // Both change when another commit is checked out; one that is not there would be looked for each time.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let format = [
        "show",
        "-s",
        "--format=%H %cd",
        "--date=format-local:%Y-%m-%d",
    ];
    git(&format)
        .and_then(|line| {
            let (commit, date) = line.split_once(' ')?;
            Some(format!("{}, {date}", commit.get(..DIGITS)?))
        })
        .unwrap_or_else(|| "not known: built outside of a checkout".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    // The same date wherever it is built.
    let output = git.env("TZ", "UTC").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn hash(object: &Path) -> String {
    let digest = Sha256::digest(fs::read(object).unwrap_or_default());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(DIGITS).collect()
}
