//! The agent's image: made as `cargo xtask image` makes it, of the programs that the tests have
//! built, and run from its unpacked tree.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an error is the result of the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoptrace_image::{Archive, Platform};

/// Where the agent is: `cargo xtask test` says so, else beside xtask.
fn programs() -> PathBuf {
    let agent = std::env::var_os("HOPTRACE_BIN").map(PathBuf::from);
    let agent = agent.unwrap_or_else(|| {
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_xtask"));
        path.set_file_name("hoptrace");
        path
    });
    assert!(
        agent.is_file(),
        "{} is not built: cargo build --package tracer-user",
        agent.display()
    );
    agent.parent().unwrap().to_path_buf()
}

fn xtask(output: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["image", "--output"])
        .arg(output)
        .arg("--programs")
        .arg(programs())
        .args(arguments)
        .output()
        .unwrap()
}

/// Makes the image and returns what was printed.
fn make(output: &Path, names: &[&str]) -> String {
    let done = xtask(output, names);
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{complaint}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn file(output: &Path, name: &str, what: &str) -> PathBuf {
    let arch = Platform::host().unwrap();
    output.join(format!("{name}-{}-{arch}{what}", env!("CARGO_PKG_VERSION")))
}

/// Says why a test is left out, as `cargo xtask test` counts it.
fn is_root(name: &str) -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        let line = format!("SKIP {name}: it needs root\n");
        match std::env::var_os("HOPTRACE_SKIP_FILE") {
            Some(file) => {
                let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
                file.write_all(line.as_bytes()).unwrap();
            }
            None => print!("{line}"),
        }
    }
    is_root
}

#[test]
fn the_image_is_the_same_each_time_and_not_made_twice() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for dir in &dirs {
        let said = make(dir.path(), &["hoptrace", "pause"]);
        assert_eq!(said.matches(" written in ").count(), 2, "{said}");
        assert!(said.contains("it starts: hoptrace "), "{said}");
    }
    for name in ["hoptrace", "pause"] {
        let [first, second] = [0, 1].map(|n| {
            let path = file(dirs[n].path(), name, ".oci.tar");
            fs::read(path).unwrap()
        });
        assert!(first == second, "{name}: the archives differ");
    }
    let said = make(dirs[0].path(), &["hoptrace", "pause"]);
    assert_eq!(said.matches(" unchanged in ").count(), 2, "{said}");
}

#[test]
fn the_agent_starts_as_another_user_than_root_and_may_load() {
    if !is_root("the_agent_starts_as_another_user_than_root_and_may_load") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["hoptrace"]);
    let archive = Archive::open(&file(dir.path(), "hoptrace", ".oci.tar")).unwrap();
    let process = &archive.config()["config"];
    assert_eq!(process["User"], "65532:65532");
    assert_eq!(process["Entrypoint"][0], "/usr/bin/hoptrace");
    assert_eq!(process["Cmd"][0], "agent");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        archive.reference(),
        format!("docker.io/hoptrace/hoptrace:{version}")
    );

    let root = dir.path().join("root");
    archive.unpack(&root).unwrap();
    let files: BTreeSet<String> = walk(&root);
    for absent in ["bin/sh", "usr/bin/dpkg", "etc/shadow"] {
        assert!(!files.contains(absent), "{absent} is in the image");
    }
    // The namespace of mounts ends with the command, and what it mounted with it.
    let script = "\
        mkdir proc sys && mount --rbind /proc proc && mount --rbind /sys sys && \
        exec chroot --userspec=65532:65532 . /usr/bin/hoptrace doctor";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .current_dir(&root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"] {
        let expected = format!("ok        {capability:<30}effective");
        assert!(said.contains(&expected), "{said}");
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status.code();
    // 2: something is lost on this kernel; 1: it cannot run.
    assert!(
        matches!(status, Some(0 | 2)),
        "{status:?} {said}{complaint}"
    );
}

fn walk(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap();
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[test]
fn the_bill_of_materials_is_the_lock_file_and_the_packages() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["hoptrace"]);
    let text = fs::read_to_string(file(dir.path(), "hoptrace", ".cdx.json")).unwrap();
    let bom: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&bom["bomFormat"], &bom["specVersion"]),
        (&"CycloneDX".into(), &"1.6".into())
    );

    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock: toml::Table = fs::read_to_string(lock).unwrap().parse().unwrap();
    let checksums: BTreeMap<String, Option<&str>> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
            let purl = format!(
                "pkg:cargo/{}@{}",
                text("name").unwrap(),
                text("version").unwrap()
            );
            (purl, text("checksum"))
        })
        .collect();
    let mut references = BTreeSet::new();
    for component in bom["components"].as_array().unwrap() {
        let purl = component["purl"].as_str().unwrap();
        assert!(
            references.insert(component["bom-ref"].as_str().unwrap()),
            "{purl} is twice there"
        );
        for field in ["type", "name", "version", "scope"] {
            assert!(component[field].is_string(), "{purl} has no {field}");
        }
        if purl.starts_with("pkg:cargo/") {
            let hash = component["hashes"][0]["content"].as_str();
            assert_eq!(Some(&hash), checksums.get(purl), "{purl}");
            assert!(component["licenses"][0]["expression"].is_string(), "{purl}");
        }
    }
    for expected in [
        "pkg:cargo/tracer-user@",
        "pkg:cargo/tracer-ebpf@",
        "pkg:cargo/aya@",
        "pkg:deb/debian/libc6@",
        "pkg:generic/rust-std@",
    ] {
        let found = references.iter().any(|purl| purl.starts_with(expected));
        assert!(found, "{expected} is missing");
    }
    // The lab's and xtask's own are not in the agent.
    for absent in ["pkg:cargo/rusqlite@", "pkg:cargo/xtask@", "pkg:cargo/axum@"] {
        let found = references.iter().any(|purl| purl.starts_with(absent));
        assert!(!found, "{absent} is there");
    }
    references.insert(bom["metadata"]["component"]["bom-ref"].as_str().unwrap());
    for dependency in bom["dependencies"].as_array().unwrap() {
        let above = dependency["ref"].as_str().unwrap();
        assert!(references.contains(above), "{above} is no component");
        for below in dependency["dependsOn"].as_array().unwrap() {
            let below = below.as_str().unwrap();
            assert!(references.contains(below), "{below} is no component");
        }
    }
}

#[test]
fn what_cannot_be_made_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let other = match Platform::host().unwrap() {
        Platform::Amd64 => "arm64",
        Platform::Arm64 => "amd64",
    };
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_string_lossy().into_owned();
    for (arguments, words) in [
        (vec!["--arch", "riscv64"], ["riscv64", "amd64 or arm64"]),
        (
            vec!["nginx", "--arch", other],
            ["nginx", "this machine's packages"],
        ),
        (vec!["hoptrace", "--programs", &empty], [&empty, "build it"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["image", "--output"]).arg(dir.path());
        if !arguments.contains(&"--programs") {
            command.arg("--programs").arg(programs());
        }
        let output = command.args(&arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {said}");
        }
    }
}
