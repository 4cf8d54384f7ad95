//! A real Prometheus in the node's network, which finds its targets by asking the API.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hoptrace_cluster::{Cluster, NODE_NETNS};
use hoptrace_lab::prometheus::samples;
use hoptrace_lab::{Sample, http, netns, wait};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const READY_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Pods that say by their annotations that they want to be scraped, as nearly every Prometheus on
/// Kubernetes is configured; the rules of hoptrace want the job's name.
const CONFIG: &str = r"
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: hoptrace
  kubernetes_sd_configs:
  - role: pod
    kubeconfig_file: /run/hoptrace/pki/admin.kubeconfig
  relabel_configs:
  - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]
    regex: 'true'
    action: keep
  - source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port]
    regex: (.+);(.+)
    replacement: $1:$2
    target_label: __address__
  - source_labels: [__meta_kubernetes_pod_node_name]
    target_label: node
  - source_labels: [__meta_kubernetes_pod_name]
    target_label: pod
";

/// One that answers; it ends with the cluster.
pub(super) struct Prometheus;

impl Prometheus {
    /// # Errors
    /// It does not become ready.
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let config = cluster.shared("prometheus")?.join("prometheus.yml");
        fs::write(&config, CONFIG).with_context(|| format!("writing {}", config.display()))?;
        let arguments = [
            "--config.file=/run/hoptrace/prometheus/prometheus.yml".to_owned(),
            "--storage.tsdb.path=/var/lib/prometheus".to_owned(),
            "--storage.tsdb.retention.time=2h".to_owned(),
            format!("--web.listen-address={ADDRESS}"),
            "--log.level=warn".to_owned(),
        ];
        let mut child = cluster.spawn(
            "/run/hoptrace/tools/bin/prometheus",
            &arguments,
            "prometheus",
        )?;
        wait::until("Prometheus is ready", READY_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("Prometheus ended at its start ({status}): its log tells why");
            }
            Ok(get("/-/ready")
                .is_ok_and(|answer| answer.code == 200)
                .then_some(()))
        })?;
        Ok(Self)
    }

    /// What an expression is now.
    ///
    /// # Errors
    /// The expression is wrong, or there is no answer.
    pub(super) fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let path = format!("/api/v1/query?query={}", http::encode(promql));
        samples(&get(&path)?.body).with_context(|| format!("query `{promql}`"))
    }

    /// Asks until there is a sample.
    ///
    /// # Errors
    /// There is none in time.
    pub(super) fn wait_for(&self, promql: &str, limit: Duration) -> Result<Vec<Sample>> {
        wait::until(&format!("samples of `{promql}`"), limit, || {
            let found = self.query(promql)?;
            std::thread::sleep(Duration::from_millis(100));
            Ok((!found.is_empty()).then_some(found))
        })
    }
}

fn get(path: &str) -> Result<http::Answer> {
    netns::within(NODE_NETNS, || http::get(ADDRESS, path, ANSWER_LIMIT))
}
