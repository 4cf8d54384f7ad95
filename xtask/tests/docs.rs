//! Every `cargo xtask` line that the pages show is one that `cargo xtask` takes.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

#[path = "../../tracer-user/tests/markdown/mod.rs"]
mod markdown;

use std::process::Command;

#[test]
fn every_command_that_is_shown_is_one() {
    let mut seen = 0;
    for page in markdown::pages() {
        for (place, words) in page.commands(&["cargo", "xtask"]) {
            // With `--help` behind them the arguments are read, and nothing is done.
            let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .args(&words)
                .arg("--help")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{place}: {said}");
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} commands were found");
}

#[test]
fn the_readme_shows_the_two_commands() {
    let readme = markdown::page("README.md");
    for task in ["demo", "test"] {
        let found = readme.commands(&["cargo", "xtask", task]);
        assert!(!found.is_empty(), "cargo xtask {task}");
    }
}
