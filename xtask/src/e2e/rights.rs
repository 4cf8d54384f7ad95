//! What the agent may do, taken away one by one: each time it has to say so in one sentence, and
//! go on with the rest where it can.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Figures;
use super::bed::{AGENT, Agent, Bed, READY_LIMIT};
use super::scene::{self, Scene, Told};

/// `<namespace>-<release>`, as the chart names it.
pub(super) const ROLE: &str = "hoptrace-hoptrace";
const DAEMONSET: &str = "daemonset/hoptrace";
/// The container that the capabilities are of.
const SECURITY: &str = "/spec/template/spec/containers/0/securityContext/capabilities/add";
/// How soon a container that cannot start has said why.
const SAY_LIMIT: Duration = Duration::from_secs(60);
/// Until a refusal is no longer taken for that of an API that has just started.
const LASTS_LIMIT: Duration = Duration::from_secs(40);

/// # Errors
/// A right is missing, and the agent does not say so, or it lacks more or less than it says.
pub(super) fn rights(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let scene = Scene::set(bed)?;
    let only_demo = bed.only_demo()?;
    for peers in ["pods", "endpointslices"] {
        bed.uninstall()?;
        bed.install(&[&only_demo, &format!("identity.peers={peers}")])?;
        bed.rolled_out(AGENT, DAEMONSET)?;
        let all = shown(&scene.play(&bed.agent()?)?, &scene::expected(peers, ""))
            .with_context(|| format!("peers={peers}, with every right"))?;
        figures.say(format!("peers={peers}, with every right: {all}"));
        let role = bed.kubectl.json(&["get", "clusterrole", ROLE])?;
        let rules = role.get("rules").cloned().unwrap_or_default();
        for (resource, verb, rest) in each_right(&rules) {
            set_rules(bed, &rest)?;
            let line = without(bed, &resource, &verb)
                .with_context(|| format!("peers={peers}, without {verb} {resource}"))?;
            let told = scene.play(&bed.agent()?)?;
            let lacks = shown(&told, &scene::expected(peers, &resource))
                .with_context(|| format!("peers={peers}, without {verb} {resource}"))?;
            figures.say(format!(
                "peers={peers}, without {verb} {resource}: {line}; {lacks}"
            ));
        }
        set_rules(bed, &rules)?;
    }
    bed.uninstall()
}

/// In words what is told of requests, which has to be this.
fn shown(told: &[Told], expected: &[Told]) -> Result<String> {
    // The digits after `pod-` are a uid's.
    let matches =
        |told: &str, wanted: &str| told == wanted || (wanted == "pod-" && told.starts_with(wanted));
    let same = |one: &Told, other: &Told| {
        one.source == other.source
            && matches(&one.destination.0, &other.destination.0)
            && one.destination.1 == other.destination.1
            && matches(&one.service, &other.service)
    };
    let is_so = told.len() == expected.len()
        && expected
            .iter()
            .all(|wanted| told.iter().any(|told| same(told, wanted)));
    ensure!(is_so, "{told:?} is told, and not {expected:?}");
    let words: Vec<_> = told
        .iter()
        .map(|told| {
            format!(
                "{} to {} (service {})",
                told.source.0, told.destination.0, told.service
            )
        })
        .collect();
    Ok(words.join(", "))
}

/// Every right by itself, with the rules without it.
pub(super) fn each_right(rules: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    let all = rules.as_array().cloned().unwrap_or_default();
    for (index, rule) in all.iter().enumerate() {
        let words = |key: &str| {
            let list = rule.get(key).and_then(Value::as_array);
            let words = list.into_iter().flatten().filter_map(Value::as_str);
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let verbs = words("verbs");
        for resource in words("resources") {
            for verb in &verbs {
                let kept: Vec<_> = verbs.iter().filter(|other| *other != verb).collect();
                let mut rest = all.clone();
                if kept.is_empty() {
                    rest.remove(index);
                } else if let Some(rule) = rest.get_mut(index) {
                    *rule = json!({
                        "apiGroups": rule.get("apiGroups"),
                        "resources": [resource],
                        "verbs": kept,
                    });
                }
                found.push((resource.clone(), verb.clone(), Value::from(rest)));
            }
        }
    }
    found
}

pub(super) fn set_rules(bed: &Bed, rules: &Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]).to_string();
    bed.kubectl
        .run(&[
            "patch",
            "clusterrole",
            ROLE,
            "--type=json",
            "--patch",
            &patch,
        ])
        .map(drop)
}

/// Starts the agent anew; returns what it says about the right that it lacks.
fn without(bed: &Bed, resource: &str, verb: &str) -> Result<String> {
    bed.restart(AGENT, &[DAEMONSET])?;
    let agent = bed.agent()?;
    let names = |line: &&str| {
        let line = line.to_lowercase();
        line.contains(verb) && line.contains(resource)
    };
    let ready = hoptrace_lab::wait::until(
        "/readyz names the right that is missing, for good",
        LASTS_LIMIT,
        || {
            std::thread::sleep(Duration::from_millis(200));
            let ready = agent.get("/readyz")?;
            let mut lines = ready.body.lines().filter(names);
            let told = lines.find(|line| line.contains("there is nothing for"));
            let told = told.map(str::to_owned);
            Ok(told.filter(|_| ready.code == 200))
        },
    )
    .with_context(|| told(bed, &agent))?;
    let log = bed.agent_log(&agent.pod)?;
    let said = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .filter(names)
        .count();
    // Pods of this node and those of the others are watched apart, and both are missing then.
    let watches = if resource == "pods" { 2 } else { 1 };
    ensure!(
        (1..=watches).contains(&said),
        "the log says it {said} times:\n{log}"
    );
    let metrics = agent.metrics()?;
    let unsynced = metrics
        .iter()
        .filter(|series| series.name == "hoptrace_identity_synced" && series.value == 0.0)
        .count();
    ensure!(
        unsynced >= 1,
        "hoptrace_identity_synced says that all is well"
    );
    Ok(ready)
}

fn told(bed: &Bed, agent: &Agent) -> String {
    let ready = agent.get("/readyz").map(|answer| answer.body);
    let log = bed.agent_log(&agent.pod).unwrap_or_default();
    format!("it says {ready:?}, and in its log:\n{log}")
}

/// # Errors
/// A capability is missing, and the agent does not say so.
pub(super) fn capabilities(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let all = ["BPF", "PERFMON", "NET_ADMIN"];
    bed.ensure_agent()?;
    for missing in all {
        let rest: Vec<_> = all.iter().filter(|name| **name != missing).collect();
        set_capabilities(bed, &json!(rest))?;
        let sentence = refusal(bed, missing).with_context(|| format!("without {missing}"))?;
        figures.say(format!("without {missing}: {sentence}"));
    }
    set_capabilities(bed, &json!(all))?;
    bed.rolled_out(AGENT, DAEMONSET)
}

fn set_capabilities(bed: &Bed, names: &Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": SECURITY, "value": names}]).to_string();
    bed.kubectl.run(&[
        "--namespace",
        AGENT,
        "patch",
        DAEMONSET,
        "--type=json",
        "--patch",
        &patch,
    ])?;
    // What cannot start blocks the rollout: the next pod is made when this one is gone.
    bed.kubectl
        .run_for(
            &[
                "--namespace",
                AGENT,
                "delete",
                "pods",
                "--all",
                "--grace-period=1",
            ],
            READY_LIMIT,
        )
        .map(drop)
}

/// The one line in which the agent says what it lacks; it is not ready.
fn refusal(bed: &Bed, capability: &str) -> Result<String> {
    let name = format!("CAP_{capability}");
    let mut log = String::new();
    let pod = bed.kubectl.until(
        "the agent has ended",
        SAY_LIMIT,
        &["--namespace", AGENT, "get", "pods"],
        |pods| {
            let items = pods.get("items")?.as_array()?;
            items.iter().find_map(|pod| {
                let container = pod.pointer("/status/containerStatuses/0")?;
                let ended = container.pointer("/state/terminated").is_some()
                    || container.pointer("/lastState/terminated").is_some();
                let name = pod.pointer("/metadata/name")?.as_str()?;
                ended.then(|| name.to_owned())
            })
        },
    )?;
    let found = hoptrace_lab::wait::until("the agent says why", SAY_LIMIT, || {
        // Between two starts there is a moment without a log.
        log = bed.agent_log(&pod).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(300));
        let said: Vec<_> = log.lines().filter(|line| line.contains(&name)).collect();
        Ok((said.len() == 1).then(|| said.concat()))
    });
    found.with_context(|| format!("its log:\n{log}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_verb_of_one_resource_is_missing_each_time() {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
        ]);
        let found = each_right(&rules);
        assert_eq!(found.len(), 3);
        let (resource, verb, rest) = &found[0];
        assert_eq!((resource.as_str(), verb.as_str()), ("pods", "list"));
        assert_eq!(rest[0]["verbs"], json!(["watch"]));
        assert_eq!(rest[1], rules[1]);
        // A rule without a verb is none.
        assert_eq!(found[2].2, json!([rules[0]]));
    }
}
