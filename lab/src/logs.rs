//! The access logs of a lab's sidecars.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::access::{self, AccessEntry};
use crate::lab::Lab;
use crate::topology::Pod;
use crate::wait;

/// Longer than Envoy keeps entries of its access log back.
const FLUSH: Duration = Duration::from_millis(120);

impl Lab {
    /// What a pod's Envoy logged so far; waits for it to write what it keeps back.
    ///
    /// # Errors
    /// The pod has no access log, or it cannot be read.
    pub fn access_log(&self, pod: Pod) -> Result<Vec<AccessEntry>> {
        thread::sleep(FLUSH);
        self.read_access_log(pod)
    }

    /// Waits until a pod's Envoy has logged this many requests.
    ///
    /// # Errors
    /// It does not in time, or the pod has no access log.
    pub fn wait_access_log(
        &self,
        pod: Pod,
        expected: usize,
        limit: Duration,
    ) -> Result<Vec<AccessEntry>> {
        let what = format!(
            "{expected} requests in the access log of {}",
            pod.workload()
        );
        wait::until(&what, limit, || {
            let entries = self.read_access_log(pod)?;
            Ok((entries.len() >= expected).then_some(entries))
        })
    }

    fn read_access_log(&self, pod: Pod) -> Result<Vec<AccessEntry>> {
        if !self.is_meshed(pod) || !self.options.access_log {
            bail!(
                "{} has no access log: it has no sidecar, or the lab was started without logs",
                pod.workload()
            );
        }
        access::read(&self.files.access_log(pod))
    }

    /// Empties all access logs, after what Envoy kept back.
    ///
    /// # Errors
    /// A file cannot be emptied.
    pub fn clear_access_logs(&self) -> Result<()> {
        thread::sleep(FLUSH);
        for pod in Pod::ALL.into_iter().filter(|pod| self.is_meshed(*pod)) {
            let path = self.files.access_log(pod);
            // Envoy appends, so it goes on at the new end.
            fs::File::options()
                .write(true)
                .truncate(true)
                .open(&path)
                .with_context(|| format!("cannot empty {}", path.display()))?;
        }
        Ok(())
    }
}
