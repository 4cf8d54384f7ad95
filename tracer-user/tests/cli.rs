//! The command as a person runs it.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod markdown;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

fn hoptrace(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let inherited = std::env::vars().filter(|(name, _)| name.starts_with("HOPTRACE_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrace"));
    for (name, _) in inherited {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("h.toml");
    std::fs::write(&file, "hold = \"3s\"\nmax_series = 30\nlog = \"warn\"\n").unwrap();
    let path = file.to_str().unwrap();
    let variables = [
        ("HOPTRACE_CONFIG", path),
        ("HOPTRACE_HOLD", "2s"),
        ("HOPTRACE_MAX_SERIES", "20"),
    ];
    for command in [&["config"][..], &["agent", "--print-config"][..]] {
        let output = hoptrace(&[command, &["--hold", "1s"]].concat(), &variables);
        let text = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        for line in [
            "hold = \"1s\" # flag --hold",
            "max_series = 20 # environment HOPTRACE_MAX_SERIES",
            "log = \"warn\" # file",
            "poll_interval = \"50ms\" # default",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "`{line}` is not in:\n{text}"
            );
        }
    }
}

#[test]
fn switches_take_a_value_or_none() {
    for (args, line) in [
        (
            &["config", "--bpf-stats"][..],
            "bpf_stats = true # flag --bpf-stats",
        ),
        (
            &["config", "--bpf-stats=false"],
            "bpf_stats = false # flag --bpf-stats",
        ),
    ] {
        assert!(stdout(&hoptrace(args, &[])).contains(line), "{args:?}");
    }
    let output = hoptrace(&["config"], &[("HOPTRACE_BPF_STATS", "true")]);
    assert!(stdout(&output).contains("bpf_stats = true # environment"));
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("h.toml");
    std::fs::write(&file, "\nhodl = \"3s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (
            &["config", "--config", file],
            1,
            &["h.toml:2:", "`hodl`", "`hold`"],
        ),
        (
            &["config", "--config", "/does/not/exist"],
            1,
            &["/does/not/exist", "because: No such file"],
        ),
        (&["config", "--hold", "5"], 2, &["--hold", "`5`", "200ms"]),
        (
            &["config", "--labels", "pod"],
            2,
            &["--labels", "`pod`", "source_workload"],
        ),
        (&["agent", "--log", "a=b=c"], 1, &["a=b=c", "write a level"]),
        (&[], 2, &["Usage"]),
    ];
    for (args, code, parts) in cases {
        let output = hoptrace(args, &[]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: `{part}` is not in `{text}`");
        }
    }
}

#[test]
fn help_version_and_completions_are_there() {
    let version = stdout(&hoptrace(&["--version"], &[]));
    assert_eq!(version, format!("hoptrace {}\n", env!("CARGO_PKG_VERSION")));
    let details = stdout(&hoptrace(&["-V"], &[]));
    assert!(details.starts_with(&version), "{details}");
    for part in ["\ncommit: ", "\ntarget: ", "\nkernel object: sha256 "] {
        assert!(details.contains(part), "{details}");
    }
    let here = env!("CARGO_MANIFEST_DIR").trim_end_matches("tracer-user");
    assert!(!details.contains(here), "a path of this machine: {details}");
    for (args, part) in [
        (&["--help"][..], "Examples:"),
        (&["agent", "--help"], "HOPTRACE_MAX_SERIES"),
        (&["doctor", "--help"], "Exits with 0"),
        (&["completions", "bash"], "_hoptrace"),
        (&["completions", "zsh"], "#compdef hoptrace"),
        (&["completions", "fish"], "complete -c hoptrace"),
        (&["man"], ".TH hoptrace 1"),
    ] {
        let output = hoptrace(args, &[]);
        assert!(
            output.status.success() && stdout(&output).contains(part),
            "{args:?}"
        );
    }
}

#[test]
fn the_doctor_says_the_same_as_text_and_json() {
    let text = hoptrace(&["doctor"], &[]);
    let json = hoptrace(&["doctor", "--output", "json"], &[]);
    assert_eq!(text.status.code(), json.status.code());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let code = match report["status"].as_str().unwrap() {
        "ok" => 0,
        "missing" => 1,
        "degraded" => 2,
        other => unreachable!("status {other}"),
    };
    assert_eq!(json.status.code(), Some(code));
    for check in report["checks"].as_array().unwrap() {
        assert!(stdout(&text).contains(check["name"].as_str().unwrap()));
        let needs_words = check["status"] != "ok";
        assert_eq!(check["lost"].is_string(), needs_words, "{check}");
    }
}

#[test]
fn the_configuration_says_the_same_as_toml_and_json() {
    let toml = stdout(&hoptrace(&["config", "--hold", "1s"], &[]));
    let json = hoptrace(&["config", "--hold", "1s", "--output", "json"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let json = json.as_object().unwrap();
    assert_eq!(json["hold"]["value"], "1s");
    assert_eq!(json.len(), toml.lines().count());
    for line in toml.lines() {
        let (start, source) = line.rsplit_once(" # ").unwrap();
        let start = start.trim_start_matches("# ");
        let key = start.split(' ').next().unwrap();
        assert_eq!(json[key]["source"], source, "{line}");
        let unset = start.ends_with("is not set");
        assert_eq!(json[key]["value"].is_null(), unset, "{line}");
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = hoptrace(&["man", path], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    for page in [
        "hoptrace",
        "hoptrace-agent",
        "hoptrace-doctor",
        "hoptrace-top",
    ] {
        let text = std::fs::read_to_string(directory.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")), "{page}");
    }
}

/// An agent that has measured nothing.
fn quiet_agent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = "hoptrace_build_info{version=\"0.1.0\"} 1\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _asked = stream.read(&mut [0; 4096]);
            let _told = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

/// Rows of the table in `docs/command.md`.
fn documented() -> BTreeSet<(String, i32)> {
    let page = markdown::page("docs/command.md");
    let rows = page.text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let command = cells.next()?.trim_end_matches('`').to_owned();
        Some((command, cells.next()?.parse().ok()?))
    });
    rows.collect()
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent");
    let absent = absent.to_str().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mesh.rec");
    let agent = quiet_agent();
    let wrong = "--no-such-option";
    let watch = ["report", "--load", "none", "--with", "x", "--runs", "1"];
    let watch = [&watch[..], &["--time", "100ms", "--agent"]].concat();
    let told_nothing = [&watch[..], &[&agent]].concat();
    let cases: [(&[&str], i32); 26] = [
        (&["agent", "--print-config"], 0),
        (&["agent", "--log", "a=b=c"], 1),
        (&["agent", wrong], 2),
        (&["doctor", "--config", absent], 1),
        (&["doctor", wrong], 2),
        (
            &["top", "--once", "--interval", "100ms", "--agent", &agent],
            0,
        ),
        (&["top", "--once", "--agent", "http://127.0.0.1:1"], 1),
        (&["top", wrong], 2),
        (&["requests", "http://127.0.0.1:1"], 1),
        (&["requests", wrong], 2),
        (&told_nothing, 3),
        (
            &[
                "report",
                "--with",
                "http://127.0.0.1:1/",
                "--baseline",
                absent,
            ],
            1,
        ),
        (&["report"], 2),
        (&["record", absent, "--config", absent], 1),
        (&["record", wrong], 2),
        (&["replay", fixture], 0),
        (&["replay", absent], 1),
        (&["replay", wrong], 2),
        (&["config"], 0),
        (&["config", "--config", absent], 1),
        (&["config", wrong], 2),
        (&["completions", "bash"], 0),
        (&["completions", wrong], 2),
        (&["man"], 0),
        (&["man", absent], 1),
        (&["man", wrong], 2),
    ];
    let mut seen = BTreeSet::new();
    for (args, code) in cases {
        let output = hoptrace(args, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        seen.insert((args[0].to_owned(), code));
    }
    // As the node is; the other test holds the code to what it says. And what takes a kernel is in
    // tests/replay.rs.
    seen.insert(("doctor".to_owned(), 0));
    // An agent that tells requests: tests/live/main.rs.
    seen.insert(("requests".to_owned(), 0));
    seen.insert(("record".to_owned(), 0));
    // What takes a mesh is in tests/report.rs.
    seen.insert(("report".to_owned(), 0));
    assert_eq!(seen, documented());
}
