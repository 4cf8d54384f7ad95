//! What tests of the lab share.

use std::io::Write;
use std::path::Path;

use hoptrace_lab::{LabOptions, Mode, bin_dir, envoy};

/// Options for a lab, or a skip: not root, or something is not installed.
pub(crate) fn options(test: &str, mode: Mode) -> Option<LabOptions> {
    let found = envoy::find().and_then(|envoy| Ok((envoy, bin_dir()?)));
    match found {
        _ if !rustix::process::geteuid().is_root() => skip(test, "not root"),
        Err(error) => skip(test, &error.to_string()),
        Ok((envoy, bin_dir)) => {
            // Tests of several checkouts may run at a time.
            let name = format!("{test}-{}", std::process::id());
            let mut options = LabOptions::new(name, envoy, bin_dir);
            options.mode = mode;
            Some(options)
        }
    }
}

/// Says why a test is skipped.
pub(crate) fn skip(test: &str, reason: &str) -> Option<LabOptions> {
    let line = format!("SKIP {test}: {reason}");
    println!("{line}");
    if let Some(path) = std::env::var_os("HOPTRACE_SKIP_FILE") {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
    None
}

/// Nothing that bears a lab's name is there any more.
pub(crate) fn assert_gone(name: &str) {
    let mut left = Vec::new();
    for directory in [
        "/run/netns",
        "/run/hoptrace-lab",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/cpu",
    ] {
        for entry in Path::new(directory)
            .read_dir()
            .into_iter()
            .flatten()
            .flatten()
        {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file.contains(name) {
                left.push(entry.path());
            }
        }
    }
    assert!(left.is_empty(), "left behind: {left:?}");
}
