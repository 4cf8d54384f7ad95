//! Finds the eBPF object that the agent embeds.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=HOPTRACE_EBPF_OBJECT");
    let object = std::env::var_os("HOPTRACE_EBPF_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/hoptrace.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(path) => println!("cargo::rustc-env=HOPTRACE_EBPF_OBJECT={}", path.display()),
        Err(_) => println!(
            "cargo::error=the eBPF object {} is missing: run `cargo xtask build-ebpf` first",
            object.display()
        ),
    }
}
