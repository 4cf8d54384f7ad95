//! Labs whose creators come to a sudden end.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod common;

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use common::{assert_gone, options};
use hoptrace_lab::{Lab, Mode, clean_stale, signals};
use rustix::process::{Pid, Signal, kill_process};

/// Names the lab that a second process of this test brings up.
const CREATES: &str = "HOPTRACE_TEST_CREATES";

/// In the second process, brings a lab up, waits for an interrupt, and says so.
fn was_creator() -> bool {
    let Some(name) = std::env::var_os(CREATES) else {
        return false;
    };
    let mut options = options("unused", Mode::None).unwrap();
    options.name = name.into_string().unwrap();
    options.dir = std::env::temp_dir().join(&options.name);
    signals::on_interrupt().unwrap();
    let lab = Lab::up(&options);
    // The signal may come while it waits, which is an error then.
    while lab.is_ok() && !signals::interrupted() {
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A lab in another process, up: one that runs the same test.
fn create(test: &str, name: &str) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CREATES, name)
        .spawn()
        .unwrap();
    let started = Instant::now();
    let has_processes =
        |lab: &hoptrace_lab::LabState| lab.name == name && !lab.processes.is_empty();
    while !Lab::list().unwrap().iter().any(has_processes) {
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
    child
}

fn end(child: &mut Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
    child.wait().unwrap();
}

#[test]
fn an_interrupted_creator_cleans_up() {
    const TEST: &str = "an_interrupted_creator_cleans_up";
    if was_creator() {
        return;
    }
    let Some(options) = options("interrupted", Mode::None) else {
        return;
    };
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = create(TEST, &options.name);
        end(&mut child, signal);
        assert_gone(&options.name);
    }
}

#[test]
fn a_killed_creators_lab_is_stale() {
    const TEST: &str = "a_killed_creators_lab_is_stale";
    if was_creator() {
        return;
    }
    let Some(options) = options("killed", Mode::None) else {
        return;
    };
    let mut child = create(TEST, &options.name);
    end(&mut child, Signal::KILL);
    // The same name again takes the old lab away first.
    let lab = Lab::up(&options).unwrap();
    assert_eq!(lab.state().creator.pid, std::process::id());
    assert!(!std::env::temp_dir().join(&options.name).exists());
    lab.down().unwrap();

    let mut child = create(TEST, &options.name);
    end(&mut child, Signal::KILL);
    assert!(clean_stale().unwrap().contains(&options.name));
    assert_gone(&options.name);
}
