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
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoptrace_cluster::Kubectl;
use serde_json::Value;

use super::crowd::NOT_CROWD;

/// Before the API is asked again, when a watch ended.
const PAUSE: Duration = Duration::from_millis(500);

/// A pod as it was last told.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Label `app`, by which the demo's workloads are named too; else the pod's name.
    pub(super) workload: String,
    pub(super) address: Option<IpAddr>,
    pub(super) ready: bool,
    /// How often its first container was started again.
    pub(super) restarts: u64,
    /// When the API first told of it: before it had an address.
    pub(super) since: Instant,
    /// When the API told that it is over: after its processes were.
    until: Option<Instant>,
}

impl Pod {
    pub(super) fn is_gone(&self) -> bool {
        self.until.is_some()
    }
}

/// Every pod there ever was, by uid. One of another uid with the same address has it later.
#[derive(Default)]
struct Told(BTreeMap<String, Pod>);

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
                    // A watch does not tell who went while nobody watched.
                    let pods = ["get", "pods", "--all-namespaces", NOT_CROWD];
                    if let Ok(list) = kubectl.json(&pods) {
                        lock(&told).only(&list, Instant::now());
                    }
                    let watch_them = ["--output=json", "--watch", "--output-watch-events"];
                    let child = kubectl.start(&[&pods[..], &watch_them].concat());
                    let Ok(mut child) = child else { return };
                    let stdout = child.stdout.take();
                    *lock(&watch) = Some(child);
                    let events = stdout.into_iter().flat_map(|stdout| {
                        serde_json::Deserializer::from_reader(stdout).into_iter::<Value>()
                    });
                    for event in events.map_while(Result::ok) {
                        // A history with a hole is better than none.
                        let _full = writeln!(record, "{event}");
                        lock(&told).event(&event, Instant::now());
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
        let wanted = |pod: &&Pod| {
            pod.namespace == namespace
                && pod.workload == workload
                && !pod.is_gone()
                && pod.address.is_some()
        };
        told.0.values().filter(wanted).cloned().collect()
    }

    /// Whether the only pod of a name is over.
    pub(super) fn is_over(&self, namespace: &str, name: &str) -> bool {
        let told = lock(&self.told);
        let mut pods = told.0.values();
        pods.any(|pod| pod.namespace == namespace && pod.name == name && pod.is_gone())
    }

    /// The addresses that were given to a pod of another workload than before, to a pod that came
    /// after `since`.
    pub(super) fn handed_over(&self, since: Instant) -> BTreeSet<IpAddr> {
        lock(&self.told).handed_over(since)
    }

    /// Whether a workload had a pod with an address at any time of a span.
    pub(super) fn had(&self, workload: &str, namespace: &str, span: (Instant, Instant)) -> bool {
        lock(&self.told).had(workload, namespace, span)
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
    fn event(&mut self, event: &Value, now: Instant) {
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
        let over = matches!(text("/object/status/phase"), Some("Succeeded" | "Failed"))
            || text("/type") == Some("DELETED");
        let conditions = event.pointer("/object/status/conditions");
        let ready = conditions
            .and_then(Value::as_array)
            .is_some_and(|conditions| {
                conditions.iter().any(|condition| {
                    condition.get("type") == Some(&Value::from("Ready"))
                        && condition.get("status") == Some(&Value::from("True"))
                })
            });
        let restarts = event.pointer("/object/status/containerStatuses/0/restartCount");
        let address = text("/object/status/podIP").and_then(|text| text.parse().ok());
        let known = self.0.get(uid);
        let pod = Pod {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            workload: workload.to_owned(),
            // What is over may be told without the address that it had.
            address: address.or_else(|| known?.address),
            ready: ready && text("/object/metadata/deletionTimestamp").is_none(),
            restarts: restarts.and_then(Value::as_u64).unwrap_or(0),
            since: known.map_or(now, |pod| pod.since),
            until: known.and_then(|pod| pod.until).or(over.then_some(now)),
        };
        self.0.insert(uid.to_owned(), pod);
    }

    /// Whoever is not in a list of all is over.
    fn only(&mut self, list: &Value, now: Instant) {
        let items = list.get("items").and_then(Value::as_array);
        let there: BTreeSet<_> = items
            .into_iter()
            .flatten()
            .filter_map(|pod| pod.pointer("/metadata/uid")?.as_str())
            .collect();
        for (uid, pod) in &mut self.0 {
            if !there.contains(uid.as_str()) {
                pod.until.get_or_insert(now);
            }
        }
    }

    fn had(&self, workload: &str, namespace: &str, (from, to): (Instant, Instant)) -> bool {
        self.0.values().any(|pod| {
            pod.workload == workload
                && pod.namespace == namespace
                && pod.address.is_some()
                && pod.since <= to
                && pod.until.is_none_or(|until| from <= until)
        })
    }

    fn handed_over(&self, since: Instant) -> BTreeSet<IpAddr> {
        let mut holders = BTreeMap::<IpAddr, Vec<&Pod>>::new();
        for pod in self.0.values() {
            if let Some(address) = pod.address {
                holders.entry(address).or_default().push(pod);
            }
        }
        for pods in holders.values_mut() {
            pods.sort_by_key(|pod| pod.since);
        }
        let changes = |pods: &[&Pod]| {
            pods.array_windows().any(|[before, after]| {
                let same = before.workload == after.workload && before.namespace == after.namespace;
                !same && after.since >= since
            })
        };
        holders.retain(|_, pods| changes(pods));
        holders.into_keys().collect()
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

    /// Pods 1 and 2 have an address one after the other, 3 has its own.
    fn told(start: Instant) -> Told {
        let mut told = Told::default();
        let events = [
            event("ADDED", "1", "a", "10.88.0.2"),
            event("DELETED", "1", "a", ""),
            event("ADDED", "2", "b", "10.88.0.2"),
            event("ADDED", "3", "b", "10.88.0.3"),
        ];
        for (second, event) in (0..).zip(&events) {
            told.event(event, start + Duration::from_secs(second));
        }
        told
    }

    #[test]
    fn addresses_that_went_from_one_to_another_are_known() {
        let start = Instant::now();
        let told = told(start);
        assert!(told.0["1"].is_gone() && told.0["2"].ready);
        let handed_over = |second| told.handed_over(start + Duration::from_secs(second));
        let address: IpAddr = "10.88.0.2".parse().unwrap();
        assert_eq!(handed_over(0), [address].into());
        assert_eq!(handed_over(3), [].into());
    }

    #[test]
    fn workloads_have_addresses_as_long_as_they_have_pods() {
        let start = Instant::now();
        let mut told = told(start);
        let at = |second| start + Duration::from_secs(second);
        let had = |told: &Told, app, from, to| told.had(app, "n", (at(from), at(to)));
        assert!(had(&told, "a", 1, 9) && !had(&told, "a", 2, 9));
        assert!(had(&told, "b", 0, 2) && !had(&told, "b", 0, 1));
        told.only(&json!({"items": [{"metadata": {"uid": "3"}}]}), at(5));
        assert!(told.0["2"].is_gone() && !told.0["3"].is_gone());
        assert!(had(&told, "b", 6, 9));
    }
}
