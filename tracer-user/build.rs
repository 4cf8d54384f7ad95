//! Finds the eBPF objects that the agent embeds.

use std::path::PathBuf;

/// By variable, and where it is without one.
const OBJECTS: [(&str, &str); 2] = [
    ("HOPTRACE_EBPF_OBJECT", "../target/bpf/hoptrace.o"),
    (
        "HOPTRACE_BOUNDARY_OBJECT",
        "../target/bpf/hoptrace-boundary.o",
    ),
];

fn main() {
    for (variable, usual) in OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        let object = std::env::var_os(variable).map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(usual),
            PathBuf::from,
        );
        println!("cargo::rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(path) => println!("cargo::rustc-env={variable}={}", path.display()),
            Err(_) => println!(
                "cargo::error=the eBPF object {} is missing: run `cargo xtask build-ebpf` first",
                object.display()
            ),
        }
    }
}
