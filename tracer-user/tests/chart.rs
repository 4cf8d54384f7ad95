//! The Helm chart, rendered by the real Helm: what comes out of which values.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod markdown;
mod mesh;
mod programs;
mod rendered;

use std::collections::BTreeSet;

use clap::CommandFactory;
use markdown::{page, root};
use programs::hoptrace_config;
use rendered::{CHART, chart, helm, try_chart};
use serde_json::{Value, json};
use tracer_user::cli::Cli;

#[test]
fn lint_finds_nothing() {
    let output = helm(&["lint", "--strict", CHART]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("[WARNING]") && !said.contains("[ERROR]"),
        "{said}"
    );
}

#[test]
fn pods_veths_are_seen_from_the_nodes_network() {
    let objects = chart(&["podBoundary=true"]);
    let agent = objects.agent();
    assert_eq!(agent.spec()["hostNetwork"], true);
    assert_eq!(agent.spec()["dnsPolicy"], "ClusterFirstWithHostNet");
    let args = agent.container("hoptrace")["args"]
        .as_array()
        .unwrap()
        .clone();
    assert!(args.contains(&json!("--pod-boundary=on")), "{args:?}");
    assert_eq!(chart(&[]).agent().spec()["dnsPolicy"], Value::Null);
}

#[test]
fn http2_is_followed_on_demand() {
    let args = |values: &[&str]| chart(values).agent().container("hoptrace")["args"].to_string();
    assert!(args(&["http2=true"]).contains("--http2=on"));
    assert!(!args(&[]).contains("--http2"));
}

#[test]
fn the_chart_is_of_the_workspaces_version() {
    let text = std::fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    let about: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn by_default_there_is_what_an_agent_needs() {
    let objects = chart(&[]);
    assert_eq!(
        objects.names(),
        [
            "ClusterRole hoptrace-hoptrace",
            "ClusterRoleBinding hoptrace-hoptrace",
            "DaemonSet hoptrace",
            "Service hoptrace",
            "ServiceAccount hoptrace",
        ]
    );
    let agent = objects.agent();
    let spec = agent.spec();
    let tag = env!("CARGO_PKG_VERSION");
    let container = agent.container("hoptrace");
    assert_eq!(
        container["image"],
        format!("docker.io/hoptrace/hoptrace:{tag}")
    );
    assert_eq!(spec["hostNetwork"], false);
    assert_eq!(spec["hostPID"], false);
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec["serviceAccountName"], "hoptrace");
    assert_eq!(spec["priorityClassName"], Value::Null);
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"],
        "spec.nodeName"
    );
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    // A throttled agent loses records.
    assert_eq!(container["resources"]["limits"]["cpu"], Value::Null);
    let service = objects.get("Service", "hoptrace");
    assert_eq!(service["spec"]["clusterIP"], "None");
}

#[test]
fn the_agent_has_three_capabilities_and_no_root() {
    let objects = chart(&[]);
    let context = &objects.agent().container("hoptrace")["securityContext"];
    assert_eq!(
        *context,
        json!({
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": true,
            "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "NET_ADMIN"]},
        })
    );
    let pod = &objects.agent().spec()["securityContext"];
    assert_eq!(*pod, json!({"seccompProfile": {"type": "RuntimeDefault"}}));
}

#[test]
fn as_root_it_has_them_without_escalation() {
    let objects = chart(&["security.runAsUser=0"]);
    let context = &objects.agent().container("hoptrace")["securityContext"];
    assert_eq!(context["runAsNonRoot"], false);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    let objects = chart(&["security.allowPrivilegeEscalation=false"]);
    let context = objects.agent().container("hoptrace")["securityContext"].clone();
    assert_eq!(context["allowPrivilegeEscalation"], false);
    let add = |values: &[&str]| {
        let objects = chart(values);
        let context = objects.agent().container("hoptrace")["securityContext"].clone();
        context["capabilities"]["add"].clone()
    };
    let root = "security.runAsUser=0";
    assert_eq!(add(&[root]), json!(["BPF", "PERFMON", "NET_ADMIN"]));
    assert_eq!(
        add(&[root, "security.sysAdmin=true"]),
        json!(["SYS_ADMIN", "NET_ADMIN"])
    );
    assert_eq!(
        add(&[root, r#"security.extraCapabilities=["SYS_RESOURCE"]"#]),
        json!(["BPF", "PERFMON", "NET_ADMIN", "SYS_RESOURCE"])
    );
}

#[test]
fn rights_follow_from_what_is_watched() {
    for (peers, resources) in [
        ("pods", ["/pods", "/services"].as_slice()),
        (
            "endpointslices",
            &[
                "/nodes",
                "/pods",
                "/services",
                "discovery.k8s.io/endpointslices",
            ],
        ),
        ("none", &["/pods"]),
    ] {
        let objects = chart(&[&format!("identity.peers=\"{peers}\"")]);
        let rules = &objects.get("ClusterRole", "hoptrace-hoptrace")["rules"];
        let mut found = BTreeSet::new();
        for rule in rules.as_array().unwrap() {
            assert_eq!(rule["verbs"], json!(["list", "watch"]), "{peers}");
            for group in rule["apiGroups"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    let name = |value: &Value| value.as_str().unwrap().to_owned();
                    found.insert(format!("{}/{}", name(group), name(resource)));
                }
            }
        }
        let expected: BTreeSet<_> = resources.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{peers}");
        let flag = format!("--peers={peers}");
        assert!(objects.agent().arguments().contains(&flag.as_str()));
    }
}

#[test]
fn configuration_is_mounted_and_rolls_the_pods() {
    let checksum = |values: &[&str]| {
        let objects = chart(values);
        objects.agent().0["metadata"]["annotations"]["checksum/config"].clone()
    };
    let (one, two) = (
        r#"config="max_series = 10\nhold = \"1s\"\n""#,
        r#"config="max_series = 20\n""#,
    );
    assert_ne!(checksum(&[one]), checksum(&[two]));
    let objects = chart(&[one]);
    let agent = objects.agent();
    assert!(
        agent
            .arguments()
            .contains(&"--config=/etc/hoptrace/hoptrace.toml")
    );
    let mounts = agent.container("hoptrace")["volumeMounts"]
        .as_array()
        .unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| mount["mountPath"] == "/etc/hoptrace")
    );
    let text = objects.get("ConfigMap", "hoptrace")["data"]["hoptrace.toml"]
        .as_str()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hoptrace.toml");
    std::fs::write(&file, text).unwrap();
    let taken = hoptrace_config(&file).unwrap();
    assert!(
        taken.contains("max_series = 10 ") && taken.contains("hold = \"1s\""),
        "{taken}"
    );
}

#[test]
fn one_way_to_be_scraped_and_not_two() {
    let annotation = |values: &[&str]| {
        let objects = chart(values);
        objects.agent().0["metadata"]["annotations"]["prometheus.io/scrape"].clone()
    };
    assert_eq!(annotation(&[]), "true");
    assert_eq!(annotation(&["scrapeAnnotations=false"]), Value::Null);
    for monitor in ["podMonitor", "serviceMonitor"] {
        let on = format!("{monitor}.enabled=true");
        assert_eq!(annotation(&[&on]), Value::Null, "{monitor}");
    }
    let both = ["podMonitor.enabled=true", "serviceMonitor.enabled=true"];
    let said = try_chart(&both).err().unwrap();
    assert!(said.contains("scraped twice"), "{said}");
}

#[test]
fn monitors_name_the_job_as_the_rules_want_it() {
    let values = [
        "podMonitor.enabled=true",
        r#"podMonitor.interval="15s""#,
        r#"podMonitor.labels={"release": "prometheus"}"#,
    ];
    let objects = chart(&values);
    let monitor = objects.get("PodMonitor", "hoptrace");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["interval"], "15s");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(
        endpoint["relabelings"][0],
        json!({"targetLabel": "job", "replacement": "hoptrace"})
    );
    let pod_labels = &objects.agent().0["metadata"]["labels"];
    let selected = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    for (key, value) in selected {
        assert_eq!(pod_labels[key], *value);
    }
    let objects = chart(&["serviceMonitor.enabled=true"]);
    let monitor = objects.get("ServiceMonitor", "hoptrace");
    let service = objects.get("Service", "hoptrace");
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
}

#[test]
fn the_rules_are_those_of_the_repository() {
    let objects = chart(&["prometheusRule.enabled=true"]);
    let rule = objects.get("PrometheusRule", "hoptrace");
    let text = std::fs::read_to_string(root().join("deploy/rules/hoptrace.rules.yml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(rule["spec"], rules);
}

#[test]
fn the_network_policy_lets_in_scrapes_and_out_to_the_api() {
    let values = [
        "networkPolicy.enabled=true",
        r#"networkPolicy.from=[{"namespaceSelector": {}}]"#,
    ];
    let objects = chart(&values);
    let spec = &objects.get("NetworkPolicy", "hoptrace")["spec"];
    assert_eq!(
        spec["ingress"],
        json!([{
            "ports": [{"port": "metrics", "protocol": "TCP"}],
            "from": [{"namespaceSelector": {}}],
        }])
    );
    assert_eq!(
        spec["egress"],
        json!([{"ports": [
            {"port": 443, "protocol": "TCP"},
            {"port": 6443, "protocol": "TCP"},
        ]}])
    );
}

#[test]
fn metrics_speak_tls_with_the_secrets_certificate() {
    let values = [
        r#"tls={"secretName": "cert", "prometheus": {"serverName": "hoptrace"}}"#,
        "podMonitor.enabled=true",
    ];
    let objects = chart(&values);
    let agent = objects.agent();
    let container = agent.container("hoptrace");
    let arguments = agent.arguments();
    assert!(arguments.contains(&"--tls-cert=/etc/hoptrace-tls/tls.crt"));
    assert!(arguments.contains(&"--tls-key=/etc/hoptrace-tls/tls.key"));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{probe}");
    }
    assert_eq!(agent.spec()["securityContext"]["fsGroup"], 65532);
    let tls = &agent.spec()["volumes"][1]["secret"];
    assert_eq!(*tls, json!({"secretName": "cert", "defaultMode": 0o440}));
    let monitor = objects.get("PodMonitor", "hoptrace");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["scheme"], "https");
    assert_eq!(endpoint["tlsConfig"], json!({"serverName": "hoptrace"}));
    let scheme = |values: &[&str]| {
        let objects = chart(values);
        objects.agent().0["metadata"]["annotations"]["prometheus.io/scheme"].clone()
    };
    assert_eq!(scheme(&values[..1]), "https");
    assert_eq!(scheme(&[]), Value::Null);
}

#[test]
fn metrics_can_be_guarded() {
    let basic = [
        r#"auth={"type": "basic", "secretName": "users", "prometheus": {"basicAuth": {"username": {"name": "users", "key": "u"}}}}"#,
        "serviceMonitor.enabled=true",
    ];
    let objects = chart(&basic);
    let agent = objects.agent();
    assert!(
        agent
            .arguments()
            .contains(&"--auth=basic:/etc/hoptrace-auth/users")
    );
    assert_eq!(agent.spec()["volumes"][1]["secret"]["secretName"], "users");
    let monitor = objects.get("ServiceMonitor", "hoptrace");
    let shown = &monitor["spec"]["endpoints"][0]["basicAuth"]["username"]["name"];
    assert_eq!(*shown, "users");

    let objects = chart(&[r#"auth.type="token-review""#]);
    assert!(objects.agent().arguments().contains(&"--auth=token-review"));
    let role = &objects.get("ClusterRole", "hoptrace-hoptrace")["rules"];
    let created: Vec<_> = role
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["verbs"] == json!(["create"]))
        .map(|rule| rule["resources"][0].as_str().unwrap())
        .collect();
    assert_eq!(created, ["tokenreviews", "subjectaccessreviews"]);
    for values in [basic.as_slice(), &[r#"auth.type="token-review""#]] {
        let objects = chart(values);
        let words = ["hoptrace"].into_iter().chain(objects.agent().arguments());
        Cli::command().try_get_matches_from(words).unwrap();
    }
}

#[test]
fn each_value_reaches_its_field() {
    let cases = [
        (
            r#"image.tag="1""#,
            "/container/image",
            json!("docker.io/hoptrace/hoptrace:1"),
        ),
        (
            r#"image.pullSecrets=["a"]"#,
            "/spec/imagePullSecrets",
            json!([{"name": "a"}]),
        ),
        (
            r#"image.pullPolicy="Never""#,
            "/container/imagePullPolicy",
            json!("Never"),
        ),
        (
            r#"priorityClassName="p""#,
            "/spec/priorityClassName",
            json!("p"),
        ),
        (
            r#"nodeSelector={"a": "b"}"#,
            "/spec/nodeSelector/a",
            json!("b"),
        ),
        (
            r#"affinity={"podAffinity": {}}"#,
            "/spec/affinity",
            json!({"podAffinity": {}}),
        ),
        ("tolerations=[]", "/spec/tolerations", Value::Null),
        (
            r#"cgroupRoot="/c""#,
            "/spec/volumes/0/hostPath/path",
            json!("/c"),
        ),
        (
            "listen.port=9999",
            "/container/ports/0/containerPort",
            json!(9999),
        ),
        (
            r#"extraEnv=[{"name": "A", "value": "b"}]"#,
            "/container/env/1",
            json!({"name": "A", "value": "b"}),
        ),
        (
            r#"security.seLinuxOptions={"type": "spc_t"}"#,
            "/container/securityContext/seLinuxOptions/type",
            json!("spc_t"),
        ),
        (
            r#"security.seccomp={"type": "Localhost"}"#,
            "/spec/securityContext/seccompProfile",
            json!({"type": "Localhost", "localhostProfile": "hoptrace.json"}),
        ),
        (r#"podLabels={"a": "b"}"#, "/metadata/labels/a", json!("b")),
        (
            r#"podAnnotations={"a": "b"}"#,
            "/metadata/annotations/a",
            json!("b"),
        ),
        (
            r#"commonLabels={"a": "b"}"#,
            "/metadata/labels/a",
            json!("b"),
        ),
        (
            r#"serviceAccount={"create": false}"#,
            "/spec/serviceAccountName",
            json!("default"),
        ),
    ];
    for (value, pointer, expected) in cases {
        let objects = chart(&[value]);
        let agent = objects.agent();
        let seen = json!({
            "spec": agent.spec(),
            "metadata": agent.0["metadata"],
            "container": agent.container("hoptrace"),
        });
        let found = seen.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{value}: {pointer}");
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let objects = chart(&[&format!("image.digest=\"{digest}\"")]);
    let image = &objects.agent().container("hoptrace")["image"];
    assert!(
        image.as_str().unwrap().ends_with(&format!("@{digest}")),
        "{image}"
    );
}

#[test]
fn what_is_no_value_is_refused_with_its_name() {
    for (value, word) in [
        ("imge={}", "imge"),
        (r#"identity.peers="all""#, "/identity/peers"),
        (r#"image.tag="a b""#, "/image/tag"),
        (r#"image.digest="sha256:0""#, "/image/digest"),
        ("listen.port=80", "/listen/port"),
        (
            r#"security.seccomp.type="Default""#,
            "/security/seccomp/type",
        ),
        (
            r#"security.extraCapabilities=["CAP_SYS_PTRACE"]"#,
            "/security/extraCapabilities",
        ),
        ("updateStrategy.rollingUpdate={\"maxSurge\": 1}", "maxSurge"),
        (r#"auth.type="basic""#, "auth.secretName"),
        (r#"auth.type="bearer""#, "/auth/type"),
        ("security.sysAdmin=true", "security.runAsUser=0"),
        (
            r#"security.extraCapabilities=["SYS_RESOURCE"]"#,
            "security.runAsUser=0",
        ),
    ] {
        let said = try_chart(&[value]).err().unwrap();
        assert!(said.contains(word), "{value}: {said}");
    }
    let said = try_chart(&["serviceMonitor.enabled=true", "service.enabled=false"]).err();
    assert!(said.unwrap().contains("service.enabled"));
}

#[test]
fn kubernetes_before_1_20_is_refused() {
    for (version, taken) in [("1.19.16", false), ("1.20.0", true), ("1.36.1", true)] {
        let output = helm(&["template", CHART, "--kube-version", version]);
        assert_eq!(output.status.success(), taken, "{version}");
    }
}

#[test]
fn selectors_do_not_change_with_the_version() {
    let objects = chart(&[]);
    let set = objects.get("DaemonSet", "hoptrace");
    let expected = json!({
        "app.kubernetes.io/name": "hoptrace",
        "app.kubernetes.io/instance": "hoptrace",
    });
    assert_eq!(set["spec"]["selector"]["matchLabels"], expected);
    assert_eq!(
        objects.get("Service", "hoptrace")["spec"]["selector"],
        expected
    );
}

/// A value's dotted path, its default, and the comment above it.
struct Described {
    path: String,
    default: String,
    about: String,
}

/// Reads `values.yaml` line by line: it is written so that each value has its comment above it.
fn described(text: &str) -> Vec<Described> {
    let mut values: Vec<Described> = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut about = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        if trimmed.is_empty() {
            about.clear();
        } else if let Some(comment) = trimmed.strip_prefix('#') {
            let separator = if about.is_empty() { "" } else { " " };
            about += &format!("{separator}{}", comment.trim());
        } else if let Some((key, default)) = trimmed
            .split_once(':')
            .filter(|_| !trimmed.starts_with("- "))
        {
            above.retain(|(at, _)| *at < depth);
            above.push((depth, key.to_owned()));
            let keys: Vec<_> = above.iter().map(|(_, key)| key.as_str()).collect();
            values.push(Described {
                path: keys.join("."),
                default: default.trim().to_owned(),
                about: std::mem::take(&mut about),
            });
        } else if let Some(value) = values.last_mut() {
            // An item of a list in lines of its own.
            value.default += &format!("{{{}}}", trimmed.trim_start_matches("- "));
        }
    }
    values
}

#[test]
fn every_value_is_described() {
    let text = std::fs::read_to_string(root().join(CHART).join("values.yaml")).unwrap();
    let values = described(&text);
    let is_parent = |path: &str| {
        let prefix = format!("{path}.");
        values.iter().any(|value| value.path.starts_with(&prefix))
    };
    let mut rows = String::from("| value | default | what it is |\n|---|---|---|\n");
    for value in &values {
        if is_parent(&value.path) && value.about.is_empty() {
            continue;
        }
        assert!(!value.about.is_empty(), "{} has no comment", value.path);
        let default = match value.default.as_str() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        rows += &format!("| `{}` | {default} | {} |\n", value.path, value.about);
    }
    page("deploy/helm/hoptrace/README.md").check_generated("values", &rows);
    // The table and the file name the same values.
    let parsed: Value = serde_saphyr::from_str(&text).unwrap();
    for value in &values {
        let pointer = format!("/{}", value.path.replace('.', "/"));
        assert!(parsed.pointer(&pointer).is_some(), "{}", value.path);
    }
}
