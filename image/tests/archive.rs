//! An archive is what engines expect, the same each time, and its tree runs by itself.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an error is the result of the test"
)]

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::thread::UnshareFlags;

use hoptrace_image::{Archive, Config, FileCapabilities, Image, Platform, Sysroot, Tree};

fn host() -> Platform {
    Platform::host().unwrap()
}

fn image(tree: Tree) -> Image {
    Image {
        reference: "docker.io/hoptrace/test:1.2.3".parse().unwrap(),
        platform: host(),
        created: 1_700_000_000,
        config: Config {
            entrypoint: vec!["/bin/x".into(), "agent".into()],
            environment: [("A".into(), "b".into())].into(),
            user: "65532:65532".into(),
            ports: vec![9465],
            labels: [("z".into(), "1".into()), ("a".into(), "2".into())].into(),
            ..Config::default()
        },
        annotations: [("org.opencontainers.image.version".into(), "1.2.3".into())].into(),
        layers: vec![tree],
    }
}

fn small_tree(payload: &Path) -> Tree {
    let mut tree = Tree::distroless().unwrap();
    tree.file("/bin/x", payload, 0o755).unwrap().capabilities =
        Some(FileCapabilities::permitted(&[12]));
    tree.symlink("/bin/y", "x").unwrap();
    tree.directory("/var/lib/x", 0o750).unwrap().owned_by(33);
    tree
}

/// Says why the rest of a test is left out, as `cargo xtask test` counts it.
fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}\n");
    if let Some(file) = std::env::var_os("HOPTRACE_SKIP_FILE") {
        let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    } else {
        print!("{line}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload");
    fs::write(&payload, vec![7; 100_000]).unwrap();
    let paths: Vec<PathBuf> = (0..2)
        .map(|n| dir.path().join(format!("{n}.oci.tar")))
        .collect();
    for path in &paths {
        // A second build of the same program: another inode, another time, the same bytes.
        let bytes = fs::read(&payload).unwrap();
        fs::remove_file(&payload).unwrap();
        fs::write(&payload, bytes).unwrap();
        image(small_tree(&payload)).write(path).unwrap();
    }
    let [first, second] = [&paths[0], &paths[1]].map(|path| fs::read(path).unwrap());
    assert!(first == second, "the archives differ");
}

#[test]
fn only_changed_input_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload");
    let path = dir.path().join("a.oci.tar");
    fs::write(&payload, "one").unwrap();
    let first = image(small_tree(&payload)).write(&path).unwrap();
    let again = image(small_tree(&payload)).write(&path).unwrap();
    assert!(!first.reused && again.reused);
    assert_eq!(
        (&first.manifest, first.bytes),
        (&again.manifest, again.bytes)
    );

    fs::write(&payload, "three").unwrap();
    let changed = image(small_tree(&payload)).write(&path).unwrap();
    assert!(!changed.reused);
    assert_ne!(changed.manifest, first.manifest);

    // What is not whole is not reused.
    fs::write(&path, "torn").unwrap();
    assert!(!image(small_tree(&payload)).write(&path).unwrap().reused);
    Archive::open(&path).unwrap();
}

#[test]
fn an_archive_says_what_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload");
    let path = dir.path().join("a.oci.tar");
    fs::write(&payload, "one").unwrap();
    let written = image(small_tree(&payload)).write(&path).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.reference(), "docker.io/hoptrace/test:1.2.3");
    assert_eq!(archive.digest(), &written.manifest);
    assert_eq!(
        archive.annotations()["org.opencontainers.image.version"],
        "1.2.3"
    );
    let config = archive.config();
    assert_eq!(config["architecture"], host().as_str());
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let process = serde_json::json!({
        "User": "65532:65532",
        "ExposedPorts": { "9465/tcp": {} },
        "Env": ["A=b"],
        "Entrypoint": ["/bin/x", "agent"],
        "Labels": { "a": "2", "z": "1" },
    });
    assert_eq!(config["config"], process);
}

#[test]
fn a_wrong_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.oci.tar");
    let payload = dir.path().join("payload");
    fs::write(&payload, "one").unwrap();
    image(small_tree(&payload)).write(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The first blob begins behind two directories and its own header, 512 bytes each.
    bytes[3 * 512] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Archive::open(&path).unwrap_err().to_string();
    assert!(error.contains("blob sha256:"), "{error}");
}

#[test]
fn modes_owners_links_and_capabilities_arrive() {
    if !is_root() {
        skip("modes_owners_links_and_capabilities_arrive", "needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload");
    let path = dir.path().join("a.oci.tar");
    fs::write(&payload, "one").unwrap();
    image(small_tree(&payload)).write(&path).unwrap();
    let root = dir.path().join("root");
    Archive::open(&path).unwrap().unpack(&root).unwrap();
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(meta("tmp").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(meta("var/lib/x").permissions().mode() & 0o7777, 0o750);
    assert_eq!((meta("var/lib/x").uid(), meta("var/lib").uid()), (33, 0));
    assert_eq!(fs::read_link(root.join("bin/y")).unwrap(), Path::new("x"));
    assert_eq!(meta("bin/x").mtime(), 1_700_000_000);
    let said = Command::new("/usr/sbin/getcap")
        .arg(root.join("bin/x"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.trim_end().ends_with(" cap_net_admin=p"), "{said:?}");
}

/// Unpacks a distroless tree with these programs of this machine and runs one in it.
fn run(programs: &[&str], files: &[(&str, String)], script: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let sysroot = Sysroot::host().unwrap();
    let mut tree = Tree::distroless().unwrap();
    for program in programs {
        tree.program(program, Path::new(program), &sysroot).unwrap();
    }
    for (path, text) in files {
        tree.bytes(path, text.as_str(), 0o644).unwrap();
    }
    let path = dir.path().join("a.oci.tar");
    image(tree).write(&path).unwrap();
    let root = dir.path().join("root");
    Archive::open(&path).unwrap().unpack(&root).unwrap();
    Command::new("/usr/sbin/chroot")
        .arg(&root)
        .args(script.split(' '))
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn a_program_finds_all_it_needs_in_its_image() {
    if !is_root() {
        skip("a_program_finds_all_it_needs_in_its_image", "needs root");
        return;
    }
    let output = run(&["/usr/bin/id"], &[], "/usr/bin/id -nu 65532");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nonroot\n");
}

/// The copied libc resolves names by DNS with no plugin beside it.
#[test]
fn names_are_resolved_by_dns_inside_of_an_image() {
    if !is_root() {
        skip("names_are_resolved_by_dns_inside_of_an_image", "needs root");
        return;
    }
    // resolv.conf names no port, and the machine's may be taken: a network of its own, for this
    // thread and those that it starts.
    // SAFETY: the descriptors and the memory of the threads stay shared as they were.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let mut link = Command::new("ip");
    assert!(
        link.args(["link", "set", "lo", "up"])
            .status()
            .unwrap()
            .success()
    );
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let answering = std::thread::spawn(move || answer(&server));
    let output = run(
        &["/usr/bin/getent"],
        &[(
            "/etc/resolv.conf",
            "nameserver 127.0.0.1\nsearch default.svc.cluster.test\n".to_owned(),
        )],
        "/usr/bin/getent --no-addrconfig ahostsv4 kubernetes",
    );
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("10.96.0.1 "), "{text}");
    let asked = answering.join().unwrap();
    assert_eq!(asked, "kubernetes.default.svc.cluster.test");
}

/// Answers one question for an address (RFC 1035, section 4.1) with 10.96.0.1; returns its name.
fn answer(server: &UdpSocket) -> String {
    let mut packet = [0; 512];
    let (length, client) = server.recv_from(&mut packet).unwrap();
    let question = &packet[12..length];
    let mut labels = Vec::new();
    let mut at = 0;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).into_owned());
        at = end;
    }
    let question = &question[..at + 5];
    let mut reply = packet[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend(question);
    // A pointer to the name, type A, class IN, a minute to live, four bytes.
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 96, 0, 1]);
    server.send_to(&reply, client).unwrap();
    labels.join(".")
}
