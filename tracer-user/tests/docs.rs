//! What the pages say is what the program does: metrics, options, commands, files, queries, links.
//!
//! `UPDATE_DOCS=1 cargo test -p tracer-user --test docs` writes the generated tables.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod markdown;
mod mesh;
mod programs;

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::CommandFactory;
use markdown::{Page, page, pages, root};
use programs::{hoptrace_config, promtool, succeeds};
use tracer_common::{BoundaryLoss, Loss};
use tracer_user::boundary::Verdict;
use tracer_user::cli::Cli;
use tracer_user::identity::StaticFile;
use tracer_user::identity::kubernetes::facts::Feed;
use tracer_user::identity::kubernetes::status::{FeedReport, Reason};
use tracer_user::load::boundary::Interfaces;
use tracer_user::metrics::names::{self, CommonLabel, Family};
use tracer_user::metrics::{LabelSet, Metrics, MetricsConfig, ResponseCode};
use tracer_user::model::{
    CallMethod, Fate, GrpcStatus, Hop, HopTime, Leg, Method, Part, Protocol, Reporter,
    RequestLabels, RequestTimes, Workload,
};

/// Every family of names.rs; [`no_family_is_forgotten`] counts them there.
const FAMILIES: [Family; 24] = [
    names::HOP_DURATION,
    names::REQUEST_DURATION,
    names::TCP_RTT,
    names::GRPC_RESPONSES,
    names::EXCHANGES,
    names::APP_CALLS,
    names::RECORDS,
    names::PENDING,
    names::TRACED_SECONDS,
    names::RECORDS_LOST,
    names::LABEL_SETS_CAPPED,
    names::TIMES_DROPPED,
    names::NETWORK_SPLITS,
    names::POD_INTERFACES,
    names::POD_INTERFACE_ERRORS,
    names::TAP_REQUESTS,
    names::TAP_LISTENERS,
    names::BPF_RUN_SECONDS,
    names::BPF_RUNS,
    names::IDENTITY_SYNCED,
    names::IDENTITY_OBJECTS,
    names::IDENTITY_ERRORS,
    names::IDENTITY_RESTARTS,
    names::BUILD_INFO,
];

/// An exposition in which every family has a sample.
fn exposition() -> String {
    let mut metrics = Metrics::new(&MetricsConfig {
        buckets: vec![1.0],
        labels: LabelSet::usual(),
        response_code: ResponseCode::Class,
        max_series: 1,
    })
    .unwrap();
    metrics.observe(&RequestTimes {
        labels: RequestLabels {
            source: Workload::unknown(),
            destination: Workload::unknown(),
            service: "s".into(),
            protocol: Protocol::Http,
            response_code: 200,
            mutual_tls: true,
        },
        hops: vec![HopTime {
            hop: Hop::App,
            leg: Leg::Both,
            part: Part::Whole,
            duration_ns: 1,
        }],
        totals: vec![(Reporter::Source, 1)],
        grpc: Some(GrpcStatus::Code(0)),
        tcp_rtt_ns: Some(1),
        dropped: Vec::new(),
        calls: [0; CallMethod::ALL.len()],
    });
    metrics.set_splits(Some([0; Verdict::ALL.len()]));
    metrics.set_interfaces(Interfaces::default());
    metrics.set_bpf("egress", 1.0, 1);
    metrics.set_identity(&FeedReport {
        feed: Feed::NodePods,
        synced: true,
        objects: 1,
        restarts: 0,
        errors: [0; Reason::ALL.len()],
    });
    metrics.encode()
}

/// What follows `# HELP` or `# TYPE` and a name, by name.
fn described(exposition: &str, what: &str) -> BTreeMap<String, String> {
    let lines = exposition
        .lines()
        .filter_map(|line| line.strip_prefix(what));
    lines
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn no_family_is_forgotten() {
    let source = include_str!("../src/metrics/names.rs");
    let declared = source.matches(": Family = Family {").count();
    assert_eq!(declared, FAMILIES.len(), "list the new family above");
    let types = described(&exposition(), "# TYPE");
    let ours = types.keys().filter(|name| name.starts_with("hoptrace_"));
    assert_eq!(ours.count(), FAMILIES.len());
}

#[test]
fn the_table_of_metrics_is_what_is_exported() {
    let text = exposition();
    let types = described(&text, "# TYPE");
    let helps = described(&text, "# HELP");
    let mut table = "| metric | type | own labels | what it is |\n|---|---|---|---|\n".to_owned();
    for family in FAMILIES {
        let kind = &types[family.name];
        let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = match (labels.is_empty(), kind.as_str()) {
            (true, "histogram") => "common only".to_owned(),
            (false, "histogram") => labels.join(", ") + ", and the common ones",
            _ => labels.join(", "),
        };
        writeln!(
            table,
            "| `{}` | {kind} | {labels} | {} |",
            family.name, family.help
        )
        .unwrap();
    }
    for (name, help) in helps
        .iter()
        .filter(|(name, _)| !name.starts_with("hoptrace_"))
    {
        writeln!(table, "| `{name}` | {} | | {help} |", types[name]).unwrap();
    }
    page("docs/metrics.md").check_generated("metrics", &table);
}

#[test]
fn every_label_and_value_is_explained() {
    let page = page("docs/metrics.md");
    let labels = CommonLabel::ALL.map(CommonLabel::as_str);
    let values = Hop::ALL.map(Hop::as_str).into_iter();
    let values = values
        .chain(Leg::ALL.map(Leg::as_str))
        .chain(Part::ALL.map(Part::as_str))
        .chain([Reporter::Source, Reporter::Destination].map(Reporter::as_str))
        .chain(Fate::ALL.map(Fate::as_str))
        .chain(Method::ALL.map(Method::as_str))
        .chain(names::AGENT_LOSS_REASONS.iter().copied())
        .chain(names::PASSAGE_LOSS_REASONS.iter().copied())
        .chain(BoundaryLoss::ALL.into_iter().map(BoundaryLoss::reason))
        .chain(Verdict::ALL.map(Verdict::as_str))
        .chain(Feed::ALL.map(Feed::as_str))
        .chain(Reason::ALL.map(Reason::as_str))
        .chain(Loss::ALL.into_iter().map(Loss::reason));
    for value in labels.into_iter().chain(values) {
        let explained = page
            .text
            .lines()
            .any(|line| line.starts_with("| ") && line.contains(&format!("`{value}`")));
        assert!(explained, "docs/metrics.md has no row for `{value}`");
    }
}

#[test]
fn the_tables_of_options_are_the_command_line() {
    let command = Cli::command();
    let agent = command.find_subcommand("agent").unwrap();
    let mut groups: Vec<(&str, String)> = Vec::new();
    for arg in agent.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long().filter(|long| *long != "help") else {
            continue;
        };
        let key = long.replace('-', "_");
        let variable = arg.get_env().map(|name| name.to_str().unwrap());
        if let Some(variable) = variable {
            assert_eq!(variable, format!("HOPTRACE_{}", key.to_uppercase()));
        }
        let help = arg.get_help().unwrap().to_string();
        let (text, default) = match help.split_once("[default: ") {
            Some((text, default)) => (text.trim(), default.trim_end_matches(']')),
            None => (help.trim(), ""),
        };
        let values: Vec<_> = arg
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let switch = values == ["`true`", "`false`"];
        let takes = if switch || values.is_empty() {
            String::new()
        } else {
            format!(" ({})", values.join(", "))
        };
        let name = match arg.get_value_names() {
            Some([name]) if arg.get_action().takes_values() => format!("`--{long} {name}`"),
            _ => format!("`--{long}`"),
        };
        let heading = arg.get_help_heading().unwrap_or("The command itself");
        let row = format!(
            "| {name} | {} | {text}{takes} |\n",
            default.replace('|', "\\|")
        );
        match groups.iter_mut().find(|(title, _)| *title == heading) {
            Some((_, rows)) => rows.push_str(&row),
            None => groups.push((heading, row)),
        }
    }
    let mut text = String::new();
    for (title, rows) in groups {
        write!(
            text,
            "### {title}\n\n| flag | default | what it is |\n|---|---|---|\n{rows}\n"
        )
        .unwrap();
    }
    page("docs/configuration.md").check_generated("options", &text);
}

#[test]
fn every_command_that_is_shown_is_one() {
    let mut seen = 0;
    for page in pages() {
        for (place, words) in page.commands(&["hoptrace"]) {
            let words = ["hoptrace".to_owned()].into_iter().chain(words);
            if let Err(error) = Cli::command().try_get_matches_from(words) {
                // Help and version end by such an "error" too.
                assert!(!error.use_stderr(), "{place}: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} commands were found");
}

#[test]
fn every_toml_example_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("example.toml");
    let (mut configs, mut identities) = (0, 0);
    for page in pages() {
        for block in page.blocks() {
            if block.language != "toml" {
                continue;
            }
            let place = format!("{}:{}", page.path.display(), block.line);
            std::fs::write(&file, &block.text).unwrap();
            if block.text.contains("[[") {
                StaticFile::read(&file).unwrap_or_else(|error| panic!("{place}: {error}"));
                identities += 1;
            } else {
                hoptrace_config(&file).unwrap_or_else(|error| panic!("{place}: {error}"));
                configs += 1;
            }
        }
    }
    assert!(configs >= 1 && identities >= 1, "{configs}, {identities}");
}

/// Expressions of a block, which stand apart by empty lines; `#` begins a comment.
fn expressions(text: &str) -> Vec<String> {
    let code = |line: &str| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    };
    let lines: Vec<_> = text.lines().map(code).collect();
    let apart = lines.split(String::is_empty);
    apart
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join(" "))
        .collect()
}

#[test]
fn promtool_takes_every_query_that_is_shown() {
    let Some(mut command) = promtool("promtool_takes_every_query_that_is_shown") else {
        return;
    };
    let mut rules = Vec::new();
    for page in pages() {
        for block in page.blocks() {
            if block.language == "promql" {
                let found = expressions(&block.text);
                rules.extend(found.into_iter().map(|expr| {
                    serde_json::json!({"record": format!("query:n{}", block.line), "expr": expr,
                        "labels": {"page": page.path.display().to_string()}})
                }));
            }
        }
    }
    assert!(rules.len() >= 10, "only {} queries were found", rules.len());
    // Each in a group of its own, so that two of the same name are no fault.
    let groups: Vec<_> = rules
        .into_iter()
        .enumerate()
        .map(|(at, rule)| serde_json::json!({"name": format!("g{at}"), "rules": [rule]}))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.yml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::json!({"groups": groups}).to_string()).unwrap();
    command.args(["check", "rules", "--lint=none"]).arg(&file);
    succeeds(command);
}

#[test]
fn every_metric_that_is_named_exists() {
    let mut texts: Vec<(String, String)> = pages()
        .into_iter()
        .map(|page| (page.path.display().to_string(), page.text))
        .collect();
    for file in [
        "rules/hoptrace.rules.yml",
        "rules/hoptrace.test.yml",
        "grafana/hoptrace-mesh-tax.json",
        "grafana/hoptrace-slow-service.json",
        "grafana/hoptrace-agent.json",
    ] {
        let text = std::fs::read_to_string(root().join("deploy").join(file)).unwrap();
        texts.push((file.to_owned(), text));
    }
    let ends = [
        "_total", "_seconds", "_pending", "_info", "_synced", "_objects",
    ];
    let parts = ["_bucket", "_sum", "_count"];
    for (place, text) in texts {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        for word in text.split(|c| !is_name(c)) {
            // A colon marks the name of a recording rule.
            if !word.starts_with("hoptrace_") || word.contains(':') {
                continue;
            }
            let name = parts
                .iter()
                .find_map(|part| word.strip_suffix(part))
                .unwrap_or(word);
            if ends.iter().any(|end| name.ends_with(end)) {
                let exists = FAMILIES.iter().any(|family| family.name == name);
                assert!(exists, "{place}: there is no metric {word}");
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for from in pages() {
        let directory = from.path.parent().unwrap();
        for (line, target) in from.links() {
            let place = format!("{}:{line}: {target}", from.path.display());
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                from.path.clone()
            } else {
                directory.join(file)
            };
            assert!(root().join(&path).exists(), "{place} is not there");
            if !fragment.is_empty() {
                assert!(
                    page(path).has_fragment(fragment),
                    "{place}: no such heading"
                );
            }
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} links were found");
}

#[test]
fn every_source_file_that_is_named_exists() {
    for page in pages() {
        for (line, code) in page.inline_code() {
            let is_path = code.contains('/') && !code.contains(['*', ' ', '<', '{', '…']);
            // Files of the kernel are named too, by the same shape.
            let kernel = ["net/", "kernel/", "include/", "fs/"];
            if is_path
                && code.ends_with(".rs")
                && !kernel.iter().any(|start| code.starts_with(start))
            {
                let place = format!("{}:{line}", page.path.display());
                assert!(root().join(code).exists(), "{place}: {code} is not there");
            }
        }
    }
}

/// ARCHITECTURE.md, "Invariants": what is not there.
#[test]
fn the_absences_hold() {
    let check = |directory: &str, files: Option<&[&str]>, words: &[&str]| {
        let mut seen = 0;
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let meant = files.is_none_or(|files| files.contains(&stem));
            if path.extension().is_none_or(|extension| extension != "rs") || !meant {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for word in words {
                    assert!(!line.contains(word), "{}: {line}", path.display());
                }
            }
        }
        assert_eq!(seen, files.map_or(seen, <[_]>::len), "{directory}");
    };
    let pure = [
        "attribute",
        "boundary",
        "calls",
        "decode",
        "http2",
        "http_head",
        "join",
        "message",
        "model",
        "pair",
        "pipeline",
        "roles",
        "sockets",
        "underway",
    ];
    let outside = [
        "tokio",
        "prometheus",
        "aya",
        "std::time",
        "std::fs",
        "std::io",
        "rustix",
    ];
    check("tracer-user/src", Some(&pure), &outside);
    let hooks = [
        "kprobe",
        "uprobe",
        "fentry",
        "fexit",
        "lsm",
        "sock_ops",
        "classifier",
        "xdp",
    ];
    check("tracer-ebpf/src", None, &hooks);
    check(
        "tracer-user/src",
        None,
        &[".pin(", "pin_path", "map_pin_path"],
    );
}

#[test]
fn the_marks_for_pasted_runs_are_there() {
    let has = |page: &Page, name: &str| {
        let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
        let at = |mark: &str| page.text.find(mark);
        matches!((at(&open), at(&close)), (Some(open), Some(close)) if open < close)
    };
    assert!(has(&page("README.md"), "demo"));
    assert!(has(&page("docs/cost.md"), "bench"));
    assert!(has(&page("docs/kernels.md"), "kernels"));
}
