//! What the API said about pods, from the first to the last: which had which address, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use hoptrace_cluster::Kubectl;
use serde_json::Value;

/// Before the API is asked again, when a watch ended.
const PAUSE: Duration = Duration::from_millis(500);

/// A pod as it was last told.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Label `app`, by which the demo's workloads are named too; else the pod's name.
    pub(super) workload: String,
    pub(super) address: Option<IpAddr>,
    pub(super) ready: bool,
    pub(super) gone: bool,
}

#[derive(Default)]
struct Told {
    /// By uid.
    pods: BTreeMap<String, Pod>,
    /// Who ever had an address: workloads with their namespaces.
    holders: BTreeMap<IpAddr, BTreeSet<(String, String)>>,
}

/// Follows the API until it is dropped; while it is away, what was told last stays.
pub(super) struct History {
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    watch: Arc<Mutex<Option<Child>>>,
    thread: Option<JoinHandle<()>>,
}

impl History {
    /// Every event goes into `record` too, one a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn follow(kubectl: Kubectl, record: &Path) -> Result<Self> {
        let mut record =
            File::create(record).with_context(|| format!("cannot write {}", record.display()))?;
        let told = Arc::<Mutex<Told>>::default();
        let stop = Arc::<AtomicBool>::default();
        let watch = Arc::<Mutex<Option<Child>>>::default();
        let thread = thread::spawn({
            let (told, stop, watch) = (Arc::clone(&told), Arc::clone(&stop), Arc::clone(&watch));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let child = kubectl.start(&[
                        "get",
                        "pods",
                        "--all-namespaces",
                        "--output=json",
                        "--watch",
                        "--output-watch-events",
                    ]);
                    let Ok(mut child) = child else { return };
                    let stdout = child.stdout.take();
                    *lock(&watch) = Some(child);
                    let events = stdout.into_iter().flat_map(|stdout| {
                        serde_json::Deserializer::from_reader(stdout).into_iter::<Value>()
                    });
                    for event in events.map_while(Result::ok) {
                        // A history with a hole is better than none.
                        let _full = writeln!(record, "{event}");
                        lock(&told).event(&event);
                    }
                    end(&watch);
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self {
            told,
            stop,
            watch,
            thread: Some(thread),
        })
    }

    /// Pods of a workload that are there and have an address.
    pub(super) fn pods(&self, namespace: &str, workload: &str) -> Vec<Pod> {
        let told = lock(&self.told);
        told.pods
            .values()
            .filter(|pod| {
                pod.namespace == namespace
                    && pod.workload == workload
                    && !pod.gone
                    && pod.address.is_some()
            })
            .cloned()
            .collect()
    }

    /// How many addresses more than one workload has had.
    pub(super) fn shared_addresses(&self) -> usize {
        let told = lock(&self.told);
        told.holders.values().filter(|all| all.len() > 1).count()
    }

    /// Whether a workload ever had a pod with an address.
    pub(super) fn knew(&self, workload: &str, namespace: &str) -> bool {
        let wanted = (workload.to_owned(), namespace.to_owned());
        let told = lock(&self.told);
        told.holders.values().any(|all| all.contains(&wanted))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        end(&self.watch);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(watch: &Mutex<Option<Child>>) {
    if let Some(mut child) = lock(watch).take() {
        let _ended = child.kill();
        let _status = child.wait();
    }
}

impl Told {
    fn event(&mut self, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let Some(((uid, name), namespace)) = text("/object/metadata/uid")
            .zip(text("/object/metadata/name"))
            .zip(text("/object/metadata/namespace"))
        else {
            return;
        };
        let workload = text("/object/metadata/labels/app")
            .or_else(|| text("/object/metadata/labels/app.kubernetes.io~1name"))
            .unwrap_or(name);
        let over = matches!(text("/object/status/phase"), Some("Succeeded" | "Failed"));
        let conditions = event.pointer("/object/status/conditions");
        let ready = conditions
            .and_then(Value::as_array)
            .is_some_and(|conditions| {
                conditions.iter().any(|condition| {
                    condition.get("type") == Some(&Value::from("Ready"))
                        && condition.get("status") == Some(&Value::from("True"))
                })
            });
        let pod = Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            workload: workload.to_owned(),
            address: text("/object/status/podIP").and_then(|text| text.parse().ok()),
            ready: ready && text("/object/metadata/deletionTimestamp").is_none(),
            gone: over || text("/type") == Some("DELETED"),
        };
        if let Some(address) = pod.address {
            let holder = (pod.workload.clone(), pod.namespace.clone());
            self.holders.entry(address).or_default().insert(holder);
        }
        self.pods.insert(uid.to_owned(), pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, uid: &str, app: &str, address: &str) -> Value {
        json!({"type": kind, "object": {
            "metadata": {"uid": uid, "name": "p", "namespace": "n", "labels": {"app": app}},
            "status": {"podIP": address, "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]},
        }})
    }

    #[test]
    fn addresses_that_two_had_are_known() {
        let mut told = Told::default();
        told.event(&event("ADDED", "1", "a", "10.88.0.2"));
        told.event(&event("DELETED", "1", "a", "10.88.0.2"));
        told.event(&event("ADDED", "2", "b", "10.88.0.2"));
        told.event(&event("ADDED", "3", "b", "10.88.0.3"));
        assert!(told.pods["1"].gone && told.pods["2"].ready);
        let shared = told.holders.values().filter(|all| all.len() > 1).count();
        assert_eq!(shared, 1);
    }
}
