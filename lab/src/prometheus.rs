//! A real Prometheus that scrapes an agent every second, and promtool.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::daemon::{ANSWER_LIMIT, Daemon, need_free};
use crate::{host, http, wait};

/// One element of an instant vector: labels and value.
pub type Sample = (BTreeMap<String, String>, f64);

/// A Prometheus that answers. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    // Ended before its data is removed: fields are dropped in order.
    _daemon: Daemon,
    address: SocketAddr,
    _data: DataDir,
}

#[derive(Debug)]
struct DataDir(PathBuf);

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Prometheus {
    /// Starts one on 127.0.0.1 that scrapes `/metrics` of the targets, job `hoptrace`, and waits
    /// until it is ready. Its files are in a directory of its own below `dir`.
    ///
    /// # Errors
    /// It is not installed, the port is taken, or it does not become ready.
    pub fn start(dir: &Path, port: u16, targets: &[SocketAddr]) -> Result<Self> {
        Self::start_with_rules(dir, port, targets, &[])
    }

    /// The same; it evaluates the rules of some files every second.
    ///
    /// # Errors
    /// As [`start`](Self::start), or a file of rules is wrong.
    pub fn start_with_rules(
        dir: &Path,
        port: u16,
        targets: &[SocketAddr],
        rules: &[&Path],
    ) -> Result<Self> {
        let program = host::program("prometheus")?;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        need_free(address, "Prometheus")?;
        let data = dir.join(format!("prometheus-{port}"));
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let data = DataDir(data);
        let config = data.0.join("prometheus.yml");
        fs::write(&config, config_text(targets, rules)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            data.0.join("tsdb").display()
        ));
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--storage.tsdb.retention.time=1h", "--log.level=warn"]);
        let log = data.0.join("prometheus.log");
        let mut daemon = Daemon::start("Prometheus", command, &log)?;
        daemon.wait_ready(address, "/-/ready")?;
        Ok(Self {
            _daemon: daemon,
            address,
            _data: data,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an expression is now; a scalar is one sample without labels.
    ///
    /// # Errors
    /// The expression is wrong, or is neither an instant vector nor a scalar.
    pub fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let path = format!("/api/v1/query?query={}", http::encode(promql));
        let answer = http::get(self.address, &path, ANSWER_LIMIT)?;
        samples(&answer.body).with_context(|| format!("query `{promql}`"))
    }

    /// Asks until there is at least one sample.
    ///
    /// # Errors
    /// There is none in time, or the expression is wrong.
    pub fn wait_for(&self, promql: &str, limit: Duration) -> Result<Vec<Sample>> {
        wait::until(&format!("samples of `{promql}`"), limit, || {
            let found = self.query(promql)?;
            Ok((!found.is_empty()).then_some(found))
        })
    }
}

fn config_text(targets: &[SocketAddr], rules: &[&Path]) -> Result<String> {
    let targets: Vec<_> = targets
        .iter()
        .map(|target| format!("\"{target}\""))
        .collect();
    // JSON is YAML, and quotes what has to be. Beside the configuration is another directory.
    let rules: Vec<_> = rules
        .iter()
        .map(std::path::absolute)
        .collect::<Result<_, _>>()
        .context("a file of rules")?;
    let rules = serde_json::to_string(&rules).context("the name of a file of rules")?;
    Ok(format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: {rules}\n\
         scrape_configs:\n\
         - job_name: hoptrace\n\
        \x20 static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    ))
}

/// What the answer to an instant query holds.
///
/// # Errors
/// It tells of an error, or is neither a vector nor a scalar.
pub fn samples(body: &str) -> Result<Vec<Sample>> {
    let answer: Value = serde_json::from_str(body).context("the answer is not JSON")?;
    let at = |pointer| answer.pointer(pointer);
    if at("/status") != Some(&Value::from("success")) {
        bail!("{}", at("/error").and_then(Value::as_str).unwrap_or(body));
    }
    let result = at("/data/result").context("the answer has no result")?;
    match at("/data/resultType").and_then(Value::as_str) {
        Some("scalar") => Ok(vec![(BTreeMap::new(), value(result)?)]),
        Some("vector") => result
            .as_array()
            .context("the vector is no list")?
            .iter()
            .map(sample)
            .collect(),
        other => bail!("{} is neither a vector nor a scalar", other.unwrap_or("it")),
    }
}

fn sample(element: &Value) -> Result<Sample> {
    let labels = element.get("metric").cloned().unwrap_or_default();
    let labels = serde_json::from_value(labels).context("labels are not text")?;
    let pair = element.get("value").context("a sample has no value")?;
    Ok((labels, value(pair)?))
}

/// `[time, "value"]`
fn value(pair: &Value) -> Result<f64> {
    let text = pair.get(1).and_then(Value::as_str);
    text.context("a sample has no value")?
        .parse()
        .context("a value is no number")
}

/// Lets promtool look at an exposition.
///
/// # Errors
/// promtool is not installed, or finds fault: the error is what it says.
pub fn promtool_check_metrics(text: &str) -> Result<()> {
    let mut child = Command::new(host::program("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    if let Some(mut stdin) = child.stdin.take() {
        // When it stops reading, what it says tells why.
        let _broken = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().context("waiting for promtool")?;
    if !output.status.success() {
        bail!(
            "promtool finds fault with the metrics:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_scalars_are_read() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"job":"a"},"value":[1.5,"2.5"]},{"metric":{},"value":[1.5,"+Inf"]}]}}"#;
        let read = samples(vector).unwrap();
        assert_eq!(read[0].0["job"], "a");
        assert_eq!((read[0].1, read[1].1), (2.5, f64::INFINITY));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
        assert_eq!(samples(scalar).unwrap(), [(BTreeMap::new(), 7.0)]);
        let error = r#"{"status":"error","error":"parse error: unexpected x"}"#;
        assert!(
            samples(error)
                .unwrap_err()
                .to_string()
                .contains("unexpected x")
        );
    }

    #[test]
    fn the_configuration_names_every_target() {
        let targets = [
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        ];
        let text = config_text(&targets, &[Path::new("/r/a b.yml")]).unwrap();
        assert!(
            text.contains("\n  static_configs: [{targets: [\"127.0.0.1:1\", \"127.0.0.1:2\"]}]")
        );
        assert!(text.contains("\nrule_files: [\"/r/a b.yml\"]\n"));
    }
}
