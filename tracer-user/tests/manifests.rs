//! The kustomize base and its overlays, and the demo, built by the real kubectl; the demo's
//! configuration taken by the real Envoy, NGINX and shell.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic fails the test"
)]

mod markdown;
mod mesh;
mod programs;
mod rendered;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use hoptrace_lab::envoy;
use markdown::{pages, root};
use rendered::{Objects, Pod, chart, helm, kustomize, parse};
use serde_json::{Value, json};
use tracer_user::cli::Cli;

const OVERLAYS: [&str; 6] = ["docker-desktop", "eks", "gke", "k3s", "kind", "openshift"];

fn overlay(name: &str) -> Objects {
    kustomize(&format!("deploy/kustomize/overlays/{name}"))
}

#[test]
fn the_base_is_what_the_chart_deploys() {
    let (base, chart) = (kustomize("deploy/kustomize/base"), chart(&[]));
    // In what is not Helm's own.
    assert_eq!(base.agent().spec(), chart.agent().spec());
    let rules =
        |objects: &Objects| objects.get("ClusterRole", "hoptrace-hoptrace")["rules"].clone();
    assert_eq!(rules(&base), rules(&chart));
    let mut names = chart.names();
    names.push("Namespace hoptrace".to_owned());
    names.sort();
    assert_eq!(base.names(), names);
    let namespace = base.get("Namespace", "hoptrace");
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn the_agent_takes_its_arguments() {
    for objects in OVERLAYS.map(overlay) {
        let mut words = vec!["hoptrace"];
        let agent = objects.agent();
        words.extend(agent.arguments());
        Cli::command().try_get_matches_from(words).unwrap();
    }
}

/// Where two values differ, and what stands there in the second.
fn difference(one: &Value, other: &Value, at: &str, found: &mut BTreeMap<String, Value>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let pick =
                    |from: &serde_json::Map<_, _>| from.get(key).cloned().unwrap_or_default();
                difference(&pick(one), &pick(other), &format!("{at}/{key}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for index in 0..one.len().max(other.len()) {
                let pick = |from: &[Value]| from.get(index).cloned().unwrap_or_default();
                difference(&pick(one), &pick(other), &format!("{at}/{index}"), found);
            }
        }
        _ if one == other => {}
        _ => {
            found.insert(at.to_owned(), other.clone());
        }
    }
}

#[test]
fn overlays_differ_from_the_base_in_what_their_pages_say() {
    let small = [
        ("/spec/containers/0/resources/limits/memory", json!("256Mi")),
        ("/spec/containers/0/resources/requests/cpu", json!("20m")),
        (
            "/spec/containers/0/resources/requests/memory",
            json!("48Mi"),
        ),
    ];
    let no_escalation = (
        "/spec/containers/0/securityContext/allowPrivilegeEscalation",
        json!(false),
    );
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                 /nodeSelectorTerms/0/matchExpressions/2";
    let gvisor =
        json!({"key": "sandbox.gke.io/runtime", "operator": "NotIn", "values": ["gvisor"]});
    let containerd_and_small: Vec<_> = small
        .clone()
        .into_iter()
        .chain([no_escalation.clone()])
        .collect();
    let openshift = vec![
        (
            "/metadata/annotations/openshift.io~1required-scc",
            json!("hoptrace"),
        ),
        ("/metadata/annotations/prometheus.io~1path", Value::Null),
        ("/metadata/annotations/prometheus.io~1port", Value::Null),
        ("/metadata/annotations/prometheus.io~1scrape", Value::Null),
        (
            "/spec/containers/0/securityContext/seLinuxOptions",
            json!({"type": "spc_t"}),
        ),
        (
            "/spec/securityContext/seccompProfile/type",
            json!("Unconfined"),
        ),
    ];
    let cases = [
        ("docker-desktop", small.to_vec()),
        ("eks", vec![no_escalation.clone()]),
        ("gke", vec![(terms, gvisor), no_escalation]),
        ("k3s", containerd_and_small.clone()),
        ("kind", containerd_and_small),
        ("openshift", openshift),
    ];
    let base = kustomize("deploy/kustomize/base");
    for (name, expected) in cases {
        let overlay = overlay(name);
        let mut found = BTreeMap::new();
        difference(base.agent().0, overlay.agent().0, "", &mut found);
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(path, value)| (path.replace("~1", "/"), value))
            .collect();
        assert_eq!(found, expected, "{name}");
        // Everything else is the base's.
        for object in base.names() {
            assert!(overlay.names().contains(&object), "{name}: {object}");
        }
        let page = root().join(format!("docs/platforms/{name}.md"));
        let text = fs::read_to_string(&page).unwrap();
        assert!(
            text.contains(&format!("overlays/{name}")),
            "{}",
            page.display()
        );
    }
}

#[test]
fn every_overlay_is_tested() {
    let mut found: Vec<_> = fs::read_dir(root().join("deploy/kustomize/overlays"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, OVERLAYS);
}

#[test]
fn openshift_allows_what_the_agent_asks_for_and_no_more() {
    let objects = overlay("openshift");
    let scc = objects.get("SecurityContextConstraints", "hoptrace");
    let agent = objects.agent();
    let context = &agent.container("hoptrace")["securityContext"];
    assert_eq!(scc["allowedCapabilities"], context["capabilities"]["add"]);
    assert_eq!(
        scc["requiredDropCapabilities"],
        context["capabilities"]["drop"]
    );
    assert_eq!(scc["runAsUser"]["uid"], context["runAsUser"]);
    assert_eq!(
        scc["allowPrivilegeEscalation"],
        context["allowPrivilegeEscalation"]
    );
    assert_eq!(
        scc["readOnlyRootFilesystem"],
        context["readOnlyRootFilesystem"]
    );
    let seccomp = agent.spec()["securityContext"]["seccompProfile"]["type"]
        .as_str()
        .unwrap();
    let profiles = scc["seccompProfiles"].as_array().unwrap();
    assert!(profiles.contains(&json!(seccomp.to_lowercase())));
    for host in ["IPC", "Network", "PID", "Ports"] {
        assert_eq!(scc[format!("allowHost{host}")], false, "{host}");
    }
    assert_eq!(scc["allowPrivilegedContainer"], false);
    let volumes = scc["volumes"].as_array().unwrap();
    for volume in agent.spec()["volumes"].as_array().unwrap() {
        let kinds = volume.as_object().unwrap().keys();
        for kind in kinds.filter(|key| *key != "name") {
            assert!(volumes.contains(&json!(kind)), "{kind}");
        }
    }
    // Only the agent's account may use it.
    let role = objects.get("Role", "hoptrace-scc");
    assert_eq!(role["rules"][0]["resourceNames"], json!(["hoptrace"]));
    assert_eq!(role["rules"][0]["verbs"], json!(["use"]));
    let binding = objects.get("RoleBinding", "hoptrace-scc");
    assert_eq!(
        binding["subjects"][0]["name"],
        agent.spec()["serviceAccountName"]
    );
    assert_eq!(
        agent.0["metadata"]["annotations"]["openshift.io/required-scc"],
        "hoptrace"
    );
    assert_eq!(
        objects.get("PodMonitor", "hoptrace")["spec"]["podMetricsEndpoints"][0]["port"],
        "metrics"
    );
}

/// Fields of an SCC and their kinds, a stand-in for the definition in openshift/api
/// (`security/v1`, `SecurityContextConstraints`); with `!` those that must be there.
const SCC_FIELDS: [(&str, &str); 28] = [
    ("allowHostDirVolumePlugin", "bool!"),
    ("allowHostIPC", "bool!"),
    ("allowHostNetwork", "bool!"),
    ("allowHostPID", "bool!"),
    ("allowHostPorts", "bool!"),
    ("allowPrivilegeEscalation", "bool"),
    ("allowPrivilegedContainer", "bool!"),
    ("allowedCapabilities", "texts!"),
    ("allowedFlexVolumes", "objects"),
    ("allowedUnsafeSysctls", "texts"),
    ("apiVersion", "text!"),
    ("defaultAddCapabilities", "texts!"),
    ("defaultAllowPrivilegeEscalation", "bool"),
    ("forbiddenSysctls", "texts"),
    ("fsGroup", "strategy"),
    ("groups", "texts"),
    ("kind", "text!"),
    ("metadata", "object!"),
    ("priority", "number!"),
    ("readOnlyRootFilesystem", "bool!"),
    ("requiredDropCapabilities", "texts!"),
    ("runAsUser", "strategy"),
    ("seLinuxContext", "strategy"),
    ("seccompProfiles", "texts"),
    ("supplementalGroups", "strategy"),
    ("userNamespaceLevel", "text"),
    ("users", "texts"),
    ("volumes", "texts!"),
];

#[test]
fn openshift_would_take_the_constraints() {
    let objects = overlay("openshift");
    let scc = objects.get("SecurityContextConstraints", "hoptrace");
    for (field, kind) in SCC_FIELDS {
        let Some(value) = scc.get(field) else {
            assert!(!kind.ends_with('!'), "{field} has to be there");
            continue;
        };
        let texts = |value: &Value| {
            value
                .as_array()
                .is_some_and(|all| all.iter().all(Value::is_string))
        };
        let fits = match kind.trim_end_matches('!') {
            "bool" => value.is_boolean(),
            "number" => value.is_i64(),
            "text" => value.is_string(),
            "texts" => texts(value),
            "strategy" => value["type"].is_string(),
            _ => value.is_object(),
        };
        assert!(fits, "{field}: {value} is no {kind}");
    }
    for field in scc.as_object().unwrap().keys() {
        let known = SCC_FIELDS.iter().any(|(name, _)| name == field);
        assert!(known, "there is no field {field}");
    }
    // None may be allowed and required to be dropped.
    let dropped = scc["requiredDropCapabilities"].as_array().unwrap();
    for capability in scc["allowedCapabilities"].as_array().unwrap() {
        assert!(!dropped.contains(capability), "{capability}");
    }
}

#[test]
fn every_deployment_that_is_shown_can_be_built() {
    let (mut charts, mut trees) = (0, 0);
    for page in pages() {
        for (place, words) in page.commands(&["helm"]) {
            if !words.iter().any(|word| word == "deploy/helm/hoptrace") {
                continue;
            }
            let mut arguments = vec!["template", "hoptrace", "deploy/helm/hoptrace"];
            let mut rest = words.iter();
            while let Some(word) = rest.next() {
                if ["--set", "--set-json", "--set-file"].contains(&word.as_str()) {
                    arguments.extend([word.as_str(), rest.next().unwrap()]);
                }
            }
            let output = helm(&arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{place}: {said}");
            charts += 1;
        }
        for (_, words) in page.commands(&["kubectl"]) {
            let tree = words.iter().skip_while(|word| *word != "-k").nth(1);
            if let Some(tree) = tree.filter(|tree| tree.starts_with("deploy/")) {
                assert!(!kustomize(tree).0.is_empty());
                trees += 1;
            }
        }
    }
    assert!(charts >= 5 && trees >= 8, "{charts} charts, {trees} trees");
}

fn demo(objects: &Objects, workload: &str) -> Value {
    let deployment = objects.get("Deployment", workload);
    assert_eq!(deployment["metadata"]["namespace"], "capitol");
    deployment["spec"]["template"].clone()
}

const WORKLOADS: [&str; 2] = ["capitol-client", "capitol-info"];

#[test]
fn the_demo_is_the_same_with_and_without_sidecars() {
    let base = kustomize("deploy/demo/base");
    let meshed = kustomize("deploy/demo/envoy");
    for workload in WORKLOADS {
        let (plain, sidecar) = (demo(&base, workload), demo(&meshed, workload));
        assert_eq!(
            Pod(&plain).container(workload),
            Pod(&sidecar).container(workload)
        );
        assert_eq!(plain["spec"]["containers"].as_array().unwrap().len(), 1);
        let proxy = Pod(&sidecar).container("istio-proxy");
        assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
        let init = Pod(&sidecar).container("istio-init");
        assert_eq!(
            init["securityContext"]["capabilities"]["add"],
            json!(["NET_ADMIN", "NET_RAW"])
        );
        let service = base.get("Service", workload);
        assert_eq!(
            service["spec"]["selector"]["app"],
            plain["metadata"]["labels"]["app"]
        );
        // The identity in the certificate is that of the account.
        assert_eq!(plain["spec"]["serviceAccountName"], workload);
    }
    let enforced = |objects: &Objects| {
        let labels = objects.get("Namespace", "capitol")["metadata"]["labels"].clone();
        labels["pod-security.kubernetes.io/enforce"].clone()
    };
    assert_eq!(enforced(&base), "restricted");
    assert_eq!(enforced(&meshed), "privileged");
    let istio = kustomize("deploy/demo/istio");
    assert_eq!(istio.names(), base.names());
    let labels = &istio.get("Namespace", "capitol")["metadata"]["labels"];
    assert_eq!(labels["istio-injection"], "enabled");
}

#[test]
fn every_image_of_the_demo_is_of_this_version() {
    let mut images = BTreeSet::new();
    for tree in ["base", "envoy", "istio", "load"] {
        for object in kustomize(&format!("deploy/demo/{tree}")).0 {
            let spec = &object["spec"]["template"]["spec"];
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array().into_iter().flatten() {
                    images.insert(container["image"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    let expected: BTreeSet<_> = ["capitol-info", "envoy", "load", "nginx", "tools"]
        .map(|name| format!("docker.io/hoptrace/{name}:{}", env!("CARGO_PKG_VERSION")))
        .into();
    assert_eq!(images, expected);
}

/// The Secrets that `certs.sh` writes, as files below a directory.
fn certificates(directory: &Path) {
    let output = Command::new("sh")
        .arg(root().join("deploy/demo/envoy/certs.sh"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let secrets = parse(&output.stdout);
    for workload in WORKLOADS {
        let secret = secrets.get("Secret", &format!("certs-{workload}"));
        assert_eq!(secret["metadata"]["namespace"], "capitol");
        let home = directory.join(workload);
        fs::create_dir(&home).unwrap();
        for (name, text) in secret["data"].as_object().unwrap() {
            let mut base64 = Command::new("base64");
            let mut child = base64
                .arg("-d")
                .stdin(std::process::Stdio::piped())
                .stdout(fs::File::create(home.join(name)).unwrap())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            std::io::Write::write_all(&mut stdin, text.as_str().unwrap().as_bytes()).unwrap();
            drop(stdin);
            assert!(child.wait().unwrap().success());
        }
    }
}

#[test]
fn envoy_takes_the_bootstraps_with_those_certificates() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    for workload in WORKLOADS {
        let home = directory.path().join(workload);
        let config = fs::read_to_string(root().join(format!("deploy/demo/envoy/{workload}.json")));
        let here = config
            .unwrap()
            .replace("/etc/certs", home.to_str().unwrap());
        let file = home.join("envoy.json");
        fs::write(&file, here).unwrap();
        let output = Command::new(envoy::find().unwrap())
            .args(["--mode", "validate", "--config-path"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{workload}: {said}");
        // The identity that the other side asks for is the one in the certificate.
        let chain = Command::new("openssl")
            .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
            .arg(home.join("tls.crt"))
            .output()
            .unwrap();
        let identity = format!("URI:spiffe://cluster.local/ns/capitol/sa/{workload}");
        assert!(String::from_utf8_lossy(&chain.stdout).contains(&identity));
    }
}
