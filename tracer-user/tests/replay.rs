//! A recording gives again what the agent gave, and a broken one says where it is.
//!
//! `HOPTRACE_BLESS=1 cargo test -p tracer-user --test replay` records the fixture anew: after a change
//! of the wire record, whose shape is in every file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{AgentProcess, Lab, Mode, free_port};
use mesh::{load, spec};
use rustix::process::{Pid, Signal, kill_process};
use tracer_user::recording::replay::exposition;

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
/// What no head may leave behind: the path of the load's requests.
const SECRET: &[u8] = b"/capitols/1";

/// The samples of the families that tell of the mesh.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| {
        // How long one looked is the agent's own, and goes on.
        line.starts_with("hoptrace_") && !line.starts_with("hoptrace_traced_seconds_total")
    });
    lines.map(|line| line.rsplit_once(' ').unwrap()).collect()
}

fn replay(file: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(AGENT);
    command.arg("replay").arg(file).args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs an agent that records a lab's load; returns what it showed in the end.
fn recorded(lab: &Lab, file: &Path, args: &[&str], work: impl FnOnce()) -> String {
    let mut options = lab.agent_options(AGENT, free_port().unwrap());
    options.args = vec!["--record".to_owned(), file.display().to_string()];
    options
        .args
        .extend(args.iter().map(|arg| (*arg).to_owned()));
    let agent = AgentProcess::start(&options).unwrap();
    work();
    let shown = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(100));
        let text = agent.metrics().unwrap();
        let settled = samples(&text).get("hoptrace_exchanges_pending") == Some(&"0");
        settled.then_some(text)
    });
    assert!(agent.terminate().unwrap().success());
    shown.unwrap()
}

fn contains(file: &Path, what: &[u8]) -> bool {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn a_run_replayed_shows_what_the_agent_showed() {
    let Some(lab) = mesh::lab("replay", Mode::Mtls, |_| {}) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for (args, heads) in [(&[][..], false), (&["--record-heads"][..], true)] {
        let file = directory.path().join("run.rec");
        let live = recorded(&lab, &file, args, || {
            load(&lab, &spec(&lab, 8, Schedule::Count(3_000)));
            thread::sleep(Duration::from_millis(500));
        });
        let output = replay(&file, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        println!("{}", text(&output.stderr).trim());
        let (live, again) = (samples(&live), samples(text(&output.stdout)));
        assert!(live.len() > 200, "{} samples", live.len());
        let differing: Vec<_> = live
            .iter()
            .filter(|(name, value)| again.get(*name) != Some(value))
            .collect();
        assert!(differing.is_empty(), "{differing:#?}");
        assert_eq!(live.len(), again.len());
        assert_eq!(contains(&file, SECRET), heads);
        let paired = "hoptrace_exchanges_total{method=\"worker_order\",result=\"paired\"}";
        assert_eq!(again[paired], "12000");
    }
}

#[test]
fn record_serves_nothing_and_ends_when_told() {
    let Some(lab) = mesh::lab("record", Mode::Plain, |_| {}) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.rec");
    let start = |args: &[&str]| {
        let mut command = Command::new(AGENT);
        command.arg("record").arg(&file).args(args);
        command.arg("--cgroup-root").arg(lab.cgroup_root());
        let identity = format!("static:{}", lab.identity_file().display());
        command.args(["--identity", &identity, "--log", "warn"]);
        command.spawn().unwrap()
    };
    let finish = |mut child: std::process::Child| {
        assert!(child.wait().unwrap().success());
        let output = replay(&file, &["--labels", ""]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let samples = samples(text(&output.stdout));
        let requests = "hoptrace_request_duration_seconds_count{reporter=\"source\"}";
        assert_eq!(samples[requests], "200");
    };
    let load = || {
        thread::sleep(Duration::from_secs(1));
        load(&lab, &spec(&lab, 2, Schedule::Count(200)));
    };
    let timed = start(&["--for", "3s"]);
    load();
    finish(timed);
    let told = start(&[]);
    load();
    kill_process(Pid::from_child(&told), Signal::TERM).unwrap();
    finish(told);
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mesh.rec")
}

/// 60 requests over two connections through two sidecars with mutual TLS, from their connecting on.
#[test]
fn the_fixture_gives_what_it_always_gave() {
    let file = fixture();
    let golden = file.with_extension("txt");
    let bless = std::env::var_os("HOPTRACE_BLESS").is_some();
    if bless {
        let Some(lab) = mesh::lab("fixture", Mode::Mtls, |_| {}) else {
            return;
        };
        recorded(&lab, &file, &[], || {
            load(&lab, &spec(&lab, 2, Schedule::Count(60)));
            thread::sleep(Duration::from_millis(500));
        });
    }
    // Few buckets and labels, for a file that can be read.
    let (shown, replayed) = exposition(&file, |settings| {
        settings.buckets = "0.0001,0.001,0.01".parse().unwrap();
        let labels = "source_workload,destination_workload,response_code";
        settings.labels = labels.parse().unwrap();
    })
    .unwrap_or_else(|error| panic!("{error}; HOPTRACE_BLESS=1 records the fixture anew"));
    assert!(replayed.broken.is_none(), "{:?}", replayed.broken);
    assert!(replayed.books.balance(), "{}", replayed.books);
    println!("{replayed}");
    // The version of what replays is no matter of the recording.
    let shown: String = shown
        .lines()
        .filter(|line| line.starts_with("hoptrace_") && !line.contains("build_info"))
        .map(|line| format!("{line}\n"))
        .collect();
    if bless {
        std::fs::write(&golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(shown, expected);
    let count = shown.lines().find(|line| {
        line.starts_with("hoptrace_request_duration_seconds_count")
            && line.contains("reporter=\"source\"")
    });
    assert!(count.is_some_and(|line| line.ends_with(" 60")), "{count:?}");
}

#[test]
fn a_broken_recording_is_told_up_to_where_it_breaks() {
    let whole = std::fs::read(fixture()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.rec");
    let check = |bytes: &[u8], says: &[&str], records: bool| {
        std::fs::write(&file, bytes).unwrap();
        let output = replay(&file, &[]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for part in says {
            assert!(told.contains(part), "`{part}` is not in `{told}`");
        }
        let shown = samples(text(&output.stdout));
        let count = shown.get("hoptrace_records_total");
        assert_eq!(count.is_some_and(|count| *count != "0"), records, "{told}");
        told.lines().count()
    };
    let path = file.display().to_string();
    let half = whole.len() / 2;
    let cut = ["is cut off at byte", "records of", "still records", &path];
    assert_eq!(check(&whole[..half], &cut, true), 2);
    // Without its last frame alone.
    check(&whole[..whole.len() - 1], &cut, true);
    let mut flipped = whole.clone();
    flipped[half] ^= 1;
    check(&flipped, &["is damaged at byte", "records of", &path], true);
    let more = [&whole[..], b"x"].concat();
    check(&more, &["something follows its end"], true);
    assert_eq!(check(b"", &["is no recording", &path], false), 1);
    check(b"HOPTRACE", &["is cut off at byte 0"], false);
    check(
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        &["is no recording"],
        false,
    );
    let mut foreign = whole.clone();
    foreign[8] = 99;
    check(
        &foreign,
        &["format 99", "replay it with the version"],
        false,
    );
    let mut long = whole[..16].to_vec();
    long.extend_from_slice(&[0xff; 16]);
    check(
        &long,
        &["is damaged at byte 16", "none is longer than 65536"],
        false,
    );
    std::fs::remove_file(&file).unwrap();
    let missing = replay(&file, &[]);
    assert!(text(&missing.stderr).contains("give a file that"));
}

#[test]
fn no_change_of_any_byte_goes_unseen() {
    let whole = std::fs::read(fixture()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("changed.rec");
    // Magic, version and layout, then the settings in a frame.
    let length = u32::from_le_bytes(whole[16..20].try_into().unwrap());
    let head = 16 + 5 + usize::try_from(length).unwrap() + 4;
    // Every 37th byte: all kinds of frames, lengths, kinds, bodies and sums are among them.
    for at in (0..whole.len()).step_by(37) {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        std::fs::write(&file, &changed).unwrap();
        match exposition(&file, |_settings| {}) {
            Err(_) => assert!(at < head, "byte {at}: the settings are at the beginning"),
            Ok((_, replayed)) => assert!(replayed.broken.is_some(), "byte {at}"),
        }
    }
}
