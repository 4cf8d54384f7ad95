//! An API server for tests: lists in pages, watches, bookmarks, streaming lists, and every way to
//! refuse, on loopback. Objects are what a test puts in.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an error is the result of the test"
)]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, Uri};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

/// What happened to an object.
#[derive(Clone)]
struct Entry {
    version: u64,
    plural: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// How the server behaves and what it holds.
#[derive(Default)]
pub(crate) struct Cluster {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    history: Vec<Entry>,
    /// Versions up to here are too old to go on from.
    compacted: u64,
    /// Whether it streams lists.
    pub(crate) streams: bool,
    /// Versions of EndpointSlices.
    pub(crate) slice_versions: Vec<&'static str>,
    /// Verb and resource that are forbidden.
    pub(crate) forbidden: Vec<(&'static str, &'static str)>,
    /// Path and query of every request.
    pub(crate) requests: Vec<String>,
    /// Watches of an earlier number have ended.
    cuts: u64,
    /// Held by every watch.
    open: Arc<()>,
}

/// A server that can be stopped and started again at the same address.
pub(crate) struct Server {
    cluster: Arc<Mutex<Cluster>>,
    changed: watch::Sender<u64>,
    pub(crate) address: SocketAddr,
    running: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Server {
    /// A server with everything a new one has. It does not listen yet.
    pub(crate) fn new() -> Self {
        // Taken and given back: the port stays ours until somebody else asks for it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cluster = Cluster {
            version: 100,
            streams: true,
            slice_versions: vec!["v1"],
            ..Cluster::default()
        };
        Self {
            cluster: Arc::new(Mutex::new(cluster)),
            changed: watch::channel(0).0,
            address: listener.local_addr().unwrap(),
            running: None,
        }
    }

    /// Begins to listen.
    pub(crate) fn up(&mut self) {
        let shared = Shared {
            cluster: Arc::clone(&self.cluster),
            changed: self.changed.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let (listening, heard) = std::sync::mpsc::channel();
        let address = self.address;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                listening.send(()).unwrap();
                let router = Router::new().fallback(answer).with_state(shared);
                let served = axum::serve(listener, router).into_future();
                tokio::select! {
                    served = served => served.unwrap(),
                    _ = stopped => {}
                }
            });
            // Whatever is still connected is cut.
            runtime.shutdown_background();
        });
        heard.recv().unwrap();
        self.running = Some((stop, thread));
    }

    /// Stops to listen and cuts every connection.
    pub(crate) fn down(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().unwrap();
        }
    }

    /// Watches that are open.
    pub(crate) fn watches(&self) -> usize {
        // Each of them holds one, and the cluster has the first.
        Arc::strong_count(&self.cluster().open) - 1
    }

    /// The text of a kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> String {
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        // JSON is YAML.
        file.to_string()
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// Creates or changes an object.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        object["metadata"]["resourceVersion"] = json!(cluster.version.to_string());
        let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
        let after = Some(object.clone());
        let before = cluster.objects.insert((plural.to_owned(), uid), object);
        let version = cluster.version;
        cluster.history.push(Entry {
            version,
            plural: plural.to_owned(),
            before,
            after,
        });
        drop(cluster);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, plural: &str, uid: &str) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        let version = cluster.version;
        let before = cluster.objects.remove(&(plural.to_owned(), uid.to_owned()));
        assert!(before.is_some(), "{plural} {uid}");
        cluster.history.push(Entry {
            version,
            plural: plural.to_owned(),
            before,
            after: None,
        });
        drop(cluster);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends every watch.
    pub(crate) fn cut(&self) {
        self.cluster().cuts += 1;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends every watch and forgets the history: whoever goes on from before has to list again.
    pub(crate) fn compact(&self) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        cluster.compacted = cluster.version;
        cluster.history.clear();
        cluster.cuts += 1;
        drop(cluster);
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic of it has been printed already.
            let _ended = thread.join();
        }
    }
}

#[derive(Clone)]
struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    changed: watch::Sender<u64>,
}

type Parameters = BTreeMap<String, String>;

async fn answer(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
    uri: Uri,
    body: Bytes,
) -> Response<Body> {
    let mut cluster = shared.cluster.lock().unwrap();
    cluster.requests.push(uri.to_string());
    let parts: Vec<_> = uri.path().trim_matches('/').split('/').collect();
    let (version, plural) = match parts.as_slice() {
        ["version"] => {
            let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0",
                "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "",
                "compiler": "", "platform": ""});
            return Response::new(Body::from(version.to_string()));
        }
        [
            "apis",
            "authorization.k8s.io",
            "v1",
            "selfsubjectaccessreviews",
        ] => {
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let asked = &review["spec"]["resourceAttributes"];
            let (verb, resource) = (asked["verb"].as_str(), asked["resource"].as_str());
            let mut refused = cluster.forbidden.iter();
            let refused = refused.any(|pair| (Some(pair.0), Some(pair.1)) == (verb, resource));
            review["status"] = json!({"allowed": !refused});
            return Response::new(Body::from(review.to_string()));
        }
        ["apis", "authentication.k8s.io", "v1", "tokenreviews"] => {
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            // A token is its user's name; those of strangers are no good.
            let user = review["spec"]["token"].as_str().unwrap().to_owned();
            let known = !user.starts_with("stranger");
            review["status"] = json!({"authenticated": known, "user": {"username": user}});
            return Response::new(Body::from(review.to_string()));
        }
        ["apis", "authorization.k8s.io", "v1", "subjectaccessreviews"] => {
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let asked = &review["spec"]["nonResourceAttributes"];
            assert_eq!(asked, &json!({"path": "/metrics", "verb": "get"}));
            let allowed = review["spec"]["user"] == "prometheus";
            review["status"] = json!({"allowed": allowed});
            return Response::new(Body::from(review.to_string()));
        }
        ["api", version, plural] => (*version, *plural),
        ["apis", "discovery.k8s.io", version, plural] => (*version, *plural),
        _ => return refuse(404, "NotFound", "the server has no such path"),
    };
    let exists = match plural {
        "endpointslices" => cluster.slice_versions.contains(&version),
        _ => version == "v1",
    };
    if !exists {
        return refuse(404, "NotFound", "the server could not find the resource");
    }
    let parameter = |name: &str| parameters.get(name).map_or("", String::as_str);
    let watches = matches!(parameter("watch"), "1" | "true");
    let verb = if watches { "watch" } else { "list" };
    if cluster.forbidden.contains(&(verb, plural)) {
        return refuse(403, "Forbidden", &format!("cannot {verb} {plural}"));
    }
    let initial = parameter("sendInitialEvents") == "true";
    if initial && !cluster.streams {
        return refuse(
            422,
            "Invalid",
            "resourceVersionMatch is forbidden for watch",
        );
    }
    let selector = parameter("fieldSelector").to_owned();
    if watches {
        let from = parameter("resourceVersion").parse().unwrap_or(0);
        let (sender, receiver) = mpsc::channel(16);
        let cuts = cluster.cuts;
        let open = Arc::clone(&cluster.open);
        drop(cluster);
        let plural = plural.to_owned();
        tokio::spawn(async move {
            let follower = Follower {
                shared,
                plural,
                selector,
                sender,
                cuts,
            };
            // Nobody listens any more; that is how watches end.
            let _ended = follower.follow(from, initial).await;
            drop(open);
        });
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let line: Bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(line), receiver))
        });
        return Response::new(Body::from_stream(lines));
    }
    let found: Vec<_> = cluster.matching(plural, &selector).cloned().collect();
    let limit: usize = parameter("limit").parse().unwrap_or(usize::MAX);
    let begin: usize = parameter("continue").parse().unwrap_or(0);
    let end = begin.saturating_add(limit).min(found.len());
    let more = if end < found.len() {
        end.to_string()
    } else {
        String::new()
    };
    let list = json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": cluster.version.to_string(), "continue": more},
        "items": found[begin..end],
    });
    Response::new(Body::from(list.to_string()))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

fn refuse(code: u16, reason: &str, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(status(code, reason, message).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

impl Cluster {
    fn matching<'c>(
        &'c self,
        plural: &'c str,
        selector: &'c str,
    ) -> impl Iterator<Item = &'c Value> {
        let all = self.objects.iter();
        all.filter(move |((found, _), object)| found == plural && matches(object, selector))
            .map(|(_, object)| object)
    }
}

/// Whether an object has the fields, as in `spec.nodeName=a,status.phase!=Failed`.
fn matches(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter(|part| !part.is_empty())
        .all(|part| {
            let (path, wanted) = part.split_once('=').unwrap();
            let (path, equal) = match path.strip_suffix('!') {
                Some(path) => (path, false),
                None => (path, true),
            };
            let found = path.split('.').fold(object, |at, key| &at[key]);
            (found.as_str().unwrap_or("") == wanted) == equal
        })
}

struct Follower {
    shared: Shared,
    plural: String,
    selector: String,
    sender: mpsc::Sender<Bytes>,
    cuts: u64,
}

impl Follower {
    async fn send(&self, kind: &str, object: &Value) -> Result<(), mpsc::error::SendError<Bytes>> {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.sender.send(line.into()).await
    }

    fn bookmark(&self, version: u64, annotations: &Value) -> Value {
        json!({"kind": "X", "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string(), "annotations": annotations}})
    }

    async fn follow(
        &self,
        mut from: u64,
        initial: bool,
    ) -> Result<(), mpsc::error::SendError<Bytes>> {
        let mut changed = self.shared.changed.subscribe();
        if initial {
            let (found, version) = {
                let cluster = self.shared.cluster.lock().unwrap();
                let found: Vec<_> = cluster
                    .matching(&self.plural, &self.selector)
                    .cloned()
                    .collect();
                (found, cluster.version)
            };
            for object in &found {
                self.send("ADDED", object).await?;
            }
            let end = json!({"k8s.io/initial-events-end": "true"});
            self.send("BOOKMARK", &self.bookmark(version, &end)).await?;
            from = version;
        }
        loop {
            let (news, compacted, cuts) = {
                let cluster = self.shared.cluster.lock().unwrap();
                let news = cluster.history.iter();
                let news = news.filter(|entry| entry.version > from && entry.plural == self.plural);
                let news: Vec<_> = news.cloned().collect();
                (news, cluster.compacted, cluster.cuts)
            };
            if cuts != self.cuts {
                return Ok(());
            }
            if from < compacted {
                let gone = status(410, "Expired", "too old resource version");
                return self.send("ERROR", &gone).await;
            }
            for entry in news {
                from = entry.version;
                let of = |object: &Option<Value>| {
                    let object = object.as_ref();
                    object.is_some_and(|object| matches(object, &self.selector))
                };
                let (was, is) = (of(&entry.before), of(&entry.after));
                match (was, is, &entry.before, &entry.after) {
                    (false, true, _, Some(object)) => self.send("ADDED", object).await?,
                    (true, true, _, Some(object)) => self.send("MODIFIED", object).await?,
                    (true, false, Some(object), _) => self.send("DELETED", object).await?,
                    _ => {}
                }
            }
            let quiet = tokio::time::timeout(Duration::from_millis(100), changed.changed());
            if quiet.await.is_err() {
                let bookmark = self.bookmark(from, &json!({}));
                self.send("BOOKMARK", &bookmark).await?;
            }
        }
    }
}
