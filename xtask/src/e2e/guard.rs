//! Who may see the metrics, as the real API says: bearer tokens of service accounts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoptrace_lab::wait;
use serde_json::{Value, json};

use super::Figures;
use super::bed::{AGENT, Agent, Bed};
use super::rights::{ROLE, each_right, set_rules};

/// May see the metrics.
const SCRAPER: &str = "scraper";
/// Is known, and may not.
const STRANGER: &str = "stranger";
/// A minute, for which the agent remembers what it was told, and some more.
const FORGET_LIMIT: Duration = Duration::from_secs(75);

/// # Errors
/// Somebody gets another answer than is due.
pub(super) fn check(bed: &Bed, figures: &mut Figures) -> Result<()> {
    bed.uninstall()?;
    bed.kubectl.apply(&objects())?;
    bed.install(&["auth.type=token-review"])?;
    bed.rolled_out(AGENT, "daemonset/hoptrace")?;
    let agent = bed.agent()?;
    let (scraper, stranger) = (token(bed, SCRAPER)?, token(bed, STRANGER)?);
    let forged = forged(&scraper)?;
    for (who, shown, wanted) in [
        ("a service account that may", Some(&scraper), 200),
        ("one that may not", Some(&stranger), 403),
        ("a token with a wrong signature", Some(&forged), 401),
        ("nobody", None, 401),
    ] {
        let code = metrics(&agent, shown)?;
        figures.say(format!("/metrics for {who}: {code}"));
        ensure!(code == wanted, "{who} is answered {code}, not {wanted}");
    }
    let ready = agent.get("/readyz")?.code;
    ensure!(ready == 200, "/readyz, which is open, answers {ready}");
    without_rights(bed, &agent, figures)?;
    bed.kubectl
        .run(&["delete", "clusterrolebinding", "metrics-reader"])?;
    // It is told once a minute.
    wait::until("who may no more is refused", FORGET_LIMIT, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok((metrics(&agent, Some(&scraper))? == 403).then_some(()))
    })?;
    figures.say("/metrics for who may no more: 403".to_owned());
    bed.kubectl.feed(
        &["delete", "--ignore-not-found", "--filename=-"],
        &objects().to_string(),
    )?;
    bed.uninstall()
}

/// Without the right to ask, nobody gets in, and the log says what is missing.
fn without_rights(bed: &Bed, agent: &Agent, figures: &mut Figures) -> Result<()> {
    let role = bed.kubectl.json(&["get", "clusterrole", ROLE])?;
    let rules = role.get("rules").cloned().unwrap_or_default();
    for (resource, verb, rest) in each_right(&rules) {
        if verb != "create" {
            continue;
        }
        set_rules(bed, &rest)?;
        // One that was never shown, so that the API has to be asked.
        let code = metrics(agent, Some(&token(bed, SCRAPER)?))?;
        ensure!(
            code == 503,
            "without {verb} {resource} a scrape is answered {code}, not 503"
        );
        let log = bed.agent_log(&agent.pod)?;
        let said = log
            .lines()
            .rfind(|line| line.contains("WARN"))
            .context("the log warns of nothing")?;
        ensure!(
            said.contains(&resource) && said.contains(&verb),
            "the log does not name {verb} {resource}: {said}"
        );
        let sentence = said.split_once("auth: ").map_or(said, |(_, rest)| rest);
        figures.say(format!("without {verb} {resource}: 503; {sentence}"));
    }
    set_rules(bed, &rules)
}

fn metrics(agent: &Agent, token: Option<&String>) -> Result<u16> {
    let shown = token.map(|token| format!("Bearer {token}"));
    let header = shown.as_deref().map(|shown| ("authorization", shown));
    let answer = agent.get_with("/metrics", header.as_slice())?;
    ensure!(
        answer.body.contains("hoptrace_records_total") == (answer.code == 200),
        "/metrics answers {} with this body: {}",
        answer.code,
        answer.body
    );
    Ok(answer.code)
}

/// A new token of a service account, for the API itself.
fn token(bed: &Bed, account: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{AGENT}/serviceaccounts/{account}/token");
    let asked =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = bed.kubectl.feed(
        &["create", "--raw", &path, "--filename=-"],
        &asked.to_string(),
    )?;
    let answer: Value = serde_json::from_str(&answer).context("the answer to a TokenRequest")?;
    let token = answer
        .pointer("/status/token")
        .and_then(Value::as_str)
        .with_context(|| format!("no token in {answer}"))?;
    Ok(token.to_owned())
}

/// The same claims with a signature that is not theirs.
fn forged(token: &str) -> Result<String> {
    let (claims, signature) = token.rsplit_once('.').context("the token is no JWT")?;
    let backwards: String = signature.chars().rev().collect();
    Ok(format!("{claims}.{backwards}"))
}

fn objects() -> Value {
    let account = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": AGENT},
        })
    };
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        account(SCRAPER),
        account(STRANGER),
        {
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRole",
            "metadata": {"name": "metrics-reader"},
            "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
        },
        {
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "metrics-reader"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "metrics-reader"},
            "subjects": [{"kind": "ServiceAccount", "name": SCRAPER, "namespace": AGENT}],
        },
    ]})
}
