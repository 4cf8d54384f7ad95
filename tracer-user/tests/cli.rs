//! The command as a person runs it.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

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
    for (args, part) in [
        (&["--help"][..], "Examples:"),
        (&["agent", "--help"], "HOPTRACE_MAX_SERIES"),
        (&["doctor", "--help"], "Exits with 0"),
        (&["completions", "bash"], "_hoptrace"),
        (&["completions", "zsh"], "#compdef hoptrace"),
        (&["completions", "fish"], "complete -c hoptrace"),
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
    let json = hoptrace(&["doctor", "--json"], &[]);
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
