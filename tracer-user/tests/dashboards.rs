//! Every query of every panel and every variable, put to a real Prometheus that scraped agents on
//! real meshes; and what the chart ships.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod kube_api;
mod markdown;
mod mesh;
mod rendered;
// The dashboards' only source, so that what is tested is what is shipped.
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../../xtask/src/dashboards/source/mod.rs"]
mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{
    AgentProcess, Container, Lab, LoadRun, Mode, NAMESPACE, Pod, Prometheus, Target, free_port,
    http, netns,
};
use kube_api::Server;
use markdown::root;
use rendered::{chart, try_chart};
use serde_json::{Value, json};
use source::model::{Dashboard, Look, Panel, Query, Variable};
use source::promql::{Over, Reporter, Select};

const AGENT: &str = env!("CARGO_BIN_EXE_hoptrace");
/// Shorter than what Grafana would choose for a scrape every second, so that the test is too.
const RATE_INTERVAL: &str = "15s";
/// How much of the run a page shows.
const PAGE: &str = "30s";
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Values of variables, by name.
type Chosen = BTreeMap<&'static str, String>;

#[test]
fn the_files_are_what_the_source_makes() {
    for dashboard in source::all() {
        let path = format!("deploy/grafana/{}.json", dashboard.uid);
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let made = source::render::text(&dashboard);
        assert!(text == made, "{path}: run `cargo xtask dashboards`");
        let json: Value = serde_json::from_str(&text).unwrap();
        let mut free = [0; 24];
        for panel in json["panels"].as_array().unwrap() {
            let at =
                |field: &str| usize::try_from(panel["gridPos"][field].as_u64().unwrap()).unwrap();
            let columns = free.get_mut(at("x")..at("x") + at("w")).unwrap();
            assert!(
                columns.iter().all(|from| *from <= at("y")),
                "{path}: overlap"
            );
            columns.fill(at("y") + at("h"));
        }
    }
}

#[test]
fn every_runbook_that_a_panel_names_is_there() {
    let mut seen = 0;
    for dashboard in source::all() {
        for panel in dashboard.panels() {
            if let Some(page) = panel.runbook {
                let path = root().join(format!("docs/runbooks/{page}.md"));
                assert!(path.exists(), "{}: {}", panel.title, path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "only {seen} panels name a runbook");
}

#[test]
fn the_chart_ships_the_dashboards_on_demand() {
    let none = chart(&[]);
    assert!(!none.names().iter().any(|name| name.contains("dashboards")));
    for (docs, value) in [
        ("./docs", None),
        (
            "https://docs.example/hoptrace",
            Some(r#"docsUrl="https://docs.example/hoptrace""#),
        ),
    ] {
        let mut values = vec![
            "dashboards.enabled=true",
            r#"dashboards.annotations={"grafana_folder": "Mesh"}"#,
            "prometheusRule.enabled=true",
        ];
        values.extend(value);
        let objects = chart(&values);
        let map = objects.get("ConfigMap", "hoptrace-dashboards");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Mesh");
        let data = map["data"].as_object().unwrap();
        assert_eq!(data.len(), source::all().len());
        for dashboard in source::all() {
            let shipped = data[&format!("{}.json", dashboard.uid)].as_str().unwrap();
            let shipped: Value = serde_json::from_str(shipped).unwrap();
            let made = source::render::text(&dashboard).replace("./docs", docs);
            let made: Value = serde_json::from_str(&made).unwrap();
            assert_eq!(shipped, made, "{}", dashboard.uid);
        }
        let rules = &objects.get("PrometheusRule", "hoptrace")["spec"]["groups"];
        let link = rules[0]["rules"][2]["annotations"]["runbook_url"].as_str();
        let start = docs.trim_start_matches("./");
        assert_eq!(
            link,
            Some(format!("{start}/runbooks/coverage-low.md").as_str())
        );
    }
    let said = try_chart(&[r#"docsUrl="https://docs.example/""#])
        .err()
        .unwrap();
    assert!(said.contains("docsUrl"), "{said}");
}

/// Meshes under load, agents on them, and a Prometheus for each question.
struct Run {
    /// Of a mesh with sidecars and one without, each traced as a whole; the names of one are from a
    /// file, those of the other from an API.
    pages: Prometheus,
    /// Of the mesh with sidecars, traced as if its pods were on two nodes.
    nodes: Prometheus,
    /// As `nodes` names the agent on the node of the pod that calls.
    caller: String,
    /// Of the mesh with sidecars, by an agent that watches the pods' veths: it and Prometheus are in
    /// the network namespace of the mesh's node.
    split: Prometheus,
    load: Vec<LoadRun>,
    _agents: Vec<AgentProcess>,
    _api: Server,
    labs: [Lab; 2],
}

impl Run {
    fn start() -> Option<Self> {
        let what = "every_panel_is_answered_from_a_real_run";
        if hoptrace_lab::host::program("prometheus").is_err() {
            mesh::skip(what, "prometheus is not installed");
            return None;
        }
        let meshed = mesh::lab("dash", Mode::Mtls, |_| {})?;
        let bare = mesh::lab("dash-bare", Mode::None, |_| {})?;
        let whole = agent(&meshed, "whole", meshed.cgroup_root(), &["--bpf-stats"]);
        let api = api(&bare);
        let kubeconfig = bare.state().dir.join("kubeconfig");
        std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let by_api = ["--identity=kubernetes", "--node-name=node-1", &kubeconfig];
        let without = agent(&bare, "bare", bare.cgroup_root(), &by_api);
        // An agent that sees one pod only is an agent whose node has no other.
        let nodes = [Pod::Load, Pod::Info].map(|pod| {
            let container = meshed.container_cgroup(pod, Container::App);
            agent(&meshed, pod.short(), container.parent().unwrap(), &[])
        });
        let load = traffic(&meshed, &bare);
        let rules = root().join("deploy/rules/hoptrace.rules.yml");
        let prometheus = |agents: [&AgentProcess; 2]| {
            let targets = agents.map(AgentProcess::address);
            let dir = &meshed.state().dir;
            Prometheus::start_with_rules(dir, free_port().unwrap(), &targets, &[&rules]).unwrap()
        };
        let (pages, of_nodes) = (
            prometheus([&whole, &without]),
            prometheus([&nodes[0], &nodes[1]]),
        );
        let caller = nodes[0].address().to_string();
        let (splitting, split) = splitting(&meshed);
        let agents = [whole, without, splitting].into_iter().chain(nodes);
        let run = Self {
            pages,
            nodes: of_nodes,
            caller,
            split,
            load,
            _agents: agents.collect(),
            _api: api,
            labs: [meshed, bare],
        };
        // The first scrapes find the counters; what they grow by is what is looked at.
        let limit = Duration::from_secs(30);
        let requests = "hoptrace_request_duration_seconds_count > 0";
        for prometheus in [&run.pages, &run.nodes] {
            prometheus.wait_for(requests, limit).unwrap();
        }
        thread::sleep(Duration::from_secs(20));
        Some(run)
    }
}

/// An agent that splits the network, and a Prometheus beside it.
fn splitting(lab: &Lab) -> (AgentProcess, Prometheus) {
    let start = || {
        let args = ["--pod-boundary=on"];
        let agent = agent(lab, "split", lab.cgroup_root(), &args);
        let dir = lab.state().dir.join("split");
        let prometheus = Prometheus::start(&dir, free_port()?, &[agent.address()])?;
        Ok((agent, prometheus))
    };
    netns::within(&lab.node_netns(), start).unwrap()
}

fn agent(lab: &Lab, name: &str, cgroups: &Path, args: &[&str]) -> AgentProcess {
    let mut options = lab.agent_options(AGENT, free_port().unwrap());
    options.cgroup_root = cgroups.to_path_buf();
    options.log = lab.state().dir.join(format!("agent-{name}.log"));
    // An option may be given once.
    let (identity, rest): (Vec<&str>, Vec<&str>) =
        args.iter().partition(|arg| arg.starts_with("--identity="));
    if let Some(identity) = identity.first() {
        options.identity = identity.replace("--identity=", "");
    }
    options.args = rest.into_iter().map(str::to_owned).collect();
    AgentProcess::start(&options).unwrap()
}

/// An API server that knows the pods of a mesh by the names that they have in its file.
fn api(lab: &Lab) -> Server {
    let mut api = Server::new();
    for pod in Pod::ALL {
        let object = json!({
            "metadata": {
                "name": pod.workload(), "namespace": NAMESPACE, "uid": pod.uid(&lab.state().name),
            },
            "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "podIP": pod.ip_v4(), "hostIP": "192.0.2.1",
                "podIPs": [{"ip": pod.ip_v4()}, {"ip": pod.ip_v6()}]},
        });
        api.put("pods", object);
    }
    api.up();
    api
}

/// Requests straight and through the gateway, good ones and bad ones, and some that keep the
/// service's worker busy, so that others queue.
fn traffic(meshed: &Lab, bare: &Lab) -> Vec<LoadRun> {
    let start = |lab: &Lab, target: Target, path: &str, connections: usize, per_second: f64| {
        let spec = LoadSpec {
            url: lab.url(Pod::Load, target) + path,
            method: "GET".into(),
            headers: Vec::new(),
            body: String::new(),
            connections,
            schedule: Schedule::Rate {
                per_second,
                seconds: 120.0,
            },
            request_ids: true,
        };
        lab.start_load(Pod::Load, &spec).unwrap()
    };
    vec![
        start(meshed, Target::Gateway, "capitols", 4, 40.0),
        start(meshed, Target::Gateway, "capitols/999999", 1, 5.0),
        start(meshed, Target::Info, "capitols/1", 4, 60.0),
        start(meshed, Target::Info, "capitols/1?burn_ms=2", 4, 20.0),
        start(meshed, Target::Info, "capitols/999999", 1, 5.0),
        start(bare, Target::Gateway, "capitols", 2, 20.0),
        start(bare, Target::Info, "capitols/1", 2, 20.0),
    ]
}

#[test]
fn every_panel_is_answered_from_a_real_run() {
    let Some(run) = Run::start() else { return };
    let (mut queries, mut empty, mut variables) = (0, Vec::new(), 0);
    for dashboard in source::all() {
        let (usual, others) = choices(&run.pages, &dashboard);
        variables += dashboard.variables.len();
        for panel in dashboard.panels() {
            for query in &panel.queries {
                let place = format!("{}: {}: {}", dashboard.title, panel.title, query.legend);
                let mut found = values(&run.pages, panel, query, &usual);
                if found == 0 && panel.may_be_empty.is_some() {
                    let ask = || Ok(values(&run.split, panel, query, &usual));
                    found = netns::within(&run.labs[0].node_netns(), ask).unwrap();
                }
                if found == 0 {
                    let reason = panel.may_be_empty.unwrap_or_else(|| {
                        panic!("{place}: no data from {}", filled(&query.expr, &usual))
                    });
                    empty.push(format!("{place}: {reason}"));
                }
                queries += 1;
                // Whatever else is chosen: the query is taken, whether there is data or not.
                for other in &others {
                    values(&run.pages, panel, query, other);
                }
            }
        }
    }
    println!("{queries} queries, {variables} variables; empty, as they may be: {empty:#?}");
    assert!(queries >= 80, "only {queries} queries");
    // This run has some of everything, also of what elsewhere may be missing.
    assert!(empty.is_empty(), "{empty:#?}");
    every_rule_has_figures(&run.pages);
    sidecars_cost(&run.pages);
    the_figures_are_right(run);
}

/// The usual choice (all where all can be chosen, else the gateway, which has callers and calls),
/// and every other value of each variable.
fn choices(prometheus: &Prometheus, dashboard: &Dashboard) -> (Chosen, Vec<Chosen>) {
    let mut usual = Chosen::new();
    for variable in &dashboard.variables {
        let offered = offered(prometheus, variable, &usual);
        assert!(!offered.is_empty(), "{}: nothing to choose", variable.name);
        let value = if variable.many {
            ".*".to_owned()
        } else {
            let gateway = Pod::Client.workload();
            assert!(offered.iter().any(|one| one == gateway), "{offered:?}");
            gateway.to_owned()
        };
        usual.insert(variable.name, value);
    }
    let mut others = Vec::new();
    for variable in &dashboard.variables {
        for value in offered(prometheus, variable, &usual) {
            let mut other = usual.clone();
            // As Grafana writes values into a regular expression within a string.
            let escaped = value.replace('.', "\\\\.");
            other.insert(variable.name, if variable.many { escaped } else { value });
            others.push(other);
        }
    }
    (usual, others)
}

/// What a variable offers, asked for as Grafana does.
fn offered(prometheus: &Prometheus, variable: &Variable, chosen: &Chosen) -> Vec<String> {
    let series = http::encode(&filled(&variable.series, chosen));
    let path = format!("/api/v1/label/{}/values?match[]={series}", variable.label);
    let data = ask(prometheus, &path)["data"].clone();
    serde_json::from_value(data).unwrap()
}

/// An expression as Grafana sends it.
fn filled(expr: &str, chosen: &Chosen) -> String {
    let mut text = expr
        .replace("$__rate_interval", RATE_INTERVAL)
        .replace("$__range", PAGE);
    // The longest name first: one may be the beginning of another.
    let mut names: Vec<_> = chosen.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in names {
        text = text.replace(&format!("${name}"), value);
    }
    assert!(!text.contains('$'), "{text}");
    text
}

fn ask(prometheus: &Prometheus, path: &str) -> Value {
    let answer = http::get(prometheus.address(), path, ANSWER_LIMIT).unwrap();
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["status"], "success", "{path}: {}", answer.body);
    body
}

/// How many series have a number, asked for as the panel asks. Each has the labels that its name on
/// the panel is made of.
fn values(prometheus: &Prometheus, panel: &Panel, query: &Query, chosen: &Chosen) -> usize {
    let expr = http::encode(&filled(&query.expr, chosen));
    let body = if panel.is_instant() {
        ask(prometheus, &format!("/api/v1/query?query={expr}"))
    } else {
        let now = prometheus.query("time()").unwrap()[0].1;
        let start = now - 8.0;
        let path = format!("/api/v1/query_range?query={expr}&start={start}&end={now}&step=4");
        ask(prometheus, &path)
    };
    let is_number = |pair: &Value| {
        let value = pair[1].as_str().unwrap().parse::<f64>().unwrap();
        value.is_finite()
    };
    let result = body["data"]["result"].as_array().unwrap();
    let mut found = 0;
    for series in result {
        let numbers = match series["values"].as_array() {
            Some(pairs) => pairs.iter().any(is_number),
            None => is_number(&series["value"]),
        };
        if numbers {
            found += 1;
        }
        let labels = series["metric"].as_object().unwrap();
        for label in shown_labels(panel, query) {
            assert!(
                labels.contains_key(label),
                "{}: no {label} in {labels:?}",
                panel.title
            );
        }
    }
    found
}

/// Labels without which a series of the panel has no name, or no place.
fn shown_labels<'a>(panel: &'a Panel, query: &'a Query) -> Vec<&'a str> {
    match panel.look {
        Look::Bars { .. } => vec!["pair", "hop"],
        Look::Heatmap => vec!["le"],
        // Rows of a table are joined by all their labels, which every query has to have.
        Look::Table(_) => outer_labels(&panel.queries[0].expr),
        _ => {
            let pieces = query.legend.split("{{").skip(1);
            pieces
                .map(|piece| piece.split("}}").next().unwrap())
                .collect()
        }
    }
}

/// Labels of an expression that begins with `sum by (…)`.
fn outer_labels(expr: &str) -> Vec<&str> {
    let list = expr.strip_prefix("sum by (").unwrap();
    list.split(')').next().unwrap().split(", ").collect()
}

/// Every rule of the file was evaluated without a fault, and each that records has recorded.
fn every_rule_has_figures(prometheus: &Prometheus) {
    let groups = ask(prometheus, "/api/v1/rules")["data"]["groups"].clone();
    let groups = groups.as_array().unwrap().iter();
    let (mut recorded, mut alerts) = (0, 0);
    for rule in groups.flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["name"].as_str().unwrap();
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        if rule["type"] == "recording" {
            let found = prometheus.query(name).unwrap();
            let numbers = found.iter().filter(|(_, value)| value.is_finite()).count();
            assert!(numbers > 0, "{name}: {found:?}");
            recorded += 1;
        } else {
            alerts += 1;
        }
    }
    println!("{recorded} recording rules with figures, {alerts} alerts evaluated");
    assert!(recorded >= 10 && alerts >= 9, "{recorded}, {alerts}");
}

const STRAIGHT: &str = "source_workload=\"load\", destination_workload=\"capitol-info\", \
                        connection_security_policy=\"mutual_tls\"";

fn one(prometheus: &Prometheus, expr: &str) -> f64 {
    let expr = filled(expr, &Chosen::new());
    let found = prometheus.query(&expr).unwrap();
    assert_eq!(found.len(), 1, "{expr}: {found:?}");
    found[0].1
}

/// The table that tells pairs with sidecars from those without finds both, and the difference.
fn sidecars_cost(prometheus: &Prometheus) {
    let dashboards = source::all();
    let panel = dashboards[0]
        .panels()
        .find(|panel| panel.title == "Mean wait with and without sidecars")
        .unwrap();
    let (usual, _) = choices(prometheus, &dashboards[0]);
    let mean = |at: usize| {
        let expr = filled(&panel.queries[at].expr, &usual);
        let found = prometheus.query(&expr).unwrap();
        let of_pair = found.iter().find(|(labels, _)| {
            labels["source_workload"] == "capitol-client"
                && labels["destination_workload"] == "capitol-info"
        });
        of_pair.unwrap().1
    };
    let (with, without) = (mean(0), mean(2));
    println!("with {:.1} µs, without {:.1} µs", 1e6 * with, 1e6 * without);
    assert!(with > without, "{with} with sidecars, {without} without");
}

/// An expression over what counters have grown by since a moment, in place of rates: so it is of
/// the very same requests for agents that are scraped at moments of their own.
fn grown_since(expr: &str, moment: f64) -> String {
    let mut pieces = expr.split("rate(");
    let mut text = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (series, rest) = piece.split_once("[$__rate_interval])").unwrap();
        text += &format!("({series} - {series} @ {moment:.3}){rest}");
    }
    text
}

/// The stack of hops is what the client waits: capitol-info calls nobody. The network that a panel
/// makes of two agents that see one end each is what an agent that sees both ends measures, request
/// by request; and the rule says what the panel says.
fn the_figures_are_right(mut run: Run) {
    // Until all that was sent is counted.
    let settle = || thread::sleep(Duration::from_secs(3));
    run.load.clear();
    settle();
    let pair = "source_workload=\"load\", destination_workload=\"capitol-info\"";
    let by_difference = Select::new(pair, Over::Moment)
        .network_by_difference("source_workload, destination_workload");
    let rule = format!("pair:hoptrace_network_seconds:mean_rate5m{{{pair}}}");
    let (ruled, shown) = (
        one(&run.nodes, &rule),
        one(&run.nodes, &by_difference.replace("$__rate_interval", "5m")),
    );
    println!(
        "network between nodes: {:.1} µs by the rule, {:.1} µs on the panel",
        1e6 * ruled,
        1e6 * shown
    );
    assert!((ruled - shown).abs() < 3e-6, "{ruled} {shown}");

    // The mesh without sidecars has workloads of the same names.
    let straight = Select::new(STRAIGHT, Over::Moment);
    let measured = straight.hop_mean("", "", "hop=\"network\"");
    let pieces = format!("sum({})", straight.hop_mean("hop", "hop", ""));
    let wait = straight.mean(Reporter::Source, "", "");
    // The panel gives the caller half of both loopback connections, whatever each of them took.
    let loopback = |matchers: &str| {
        let series =
            format!("hoptrace_hop_duration_seconds_sum{{{pair}, hop=\"loopback\"{matchers}}}");
        let seen = Select::new(pair, Over::Moment).seen(Reporter::Source, "", "");
        format!("sum(rate({series}[$__rate_interval])) / {seen}")
    };
    let (both, callers) = (
        loopback(""),
        loopback(&format!(", instance=\"{}\"", run.caller)),
    );
    let lab = &run.labs[0];
    let spec = mesh::spec(
        lab,
        2,
        Schedule::Rate {
            per_second: 100.0,
            seconds: 4.0,
        },
    );
    // A machine that stands still for longer than the hold time cuts requests in two, and takes pieces
    // away: then it is tried again.
    let close = (0..4).any(|_| {
        let since = one(&run.nodes, "time()");
        mesh::load(lab, &spec);
        settle();
        let figure = |prometheus, expr: &str| one(prometheus, &grown_since(expr, since));
        let measured = figure(&run.pages, &measured);
        let shown = figure(&run.nodes, &by_difference);
        let unlike = figure(&run.nodes, &callers) - figure(&run.nodes, &both) / 2.0;
        let (pieces, wait) = (figure(&run.pages, &pieces), figure(&run.pages, &wait));
        println!(
            "hops {:.1} µs, wait {:.1} µs; network measured {:.1} µs, by difference of two nodes {:.1} µs \
             (with half of both loopbacks, of which the caller's took {:+.1} µs)",
            1e6 * pieces,
            1e6 * wait,
            1e6 * measured,
            1e6 * shown,
            1e6 * unlike
        );
        (shown - unlike - measured).abs() < 10e-6 && (pieces - wait).abs() < 1e-6
    });
    assert!(close, "the figures do not agree, see above");
}
