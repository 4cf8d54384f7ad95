//! The watches: a thread of their own that asks the API and hands changes over.
//!
//! `kube`'s watcher lists and watches; what is ours is when to ask otherwise: a server without
//! streaming lists, one that has EndpointSlices in an older version only, one that refuses.

use super::facts::{Change, Feed, Update};
use super::objects::{NodeView, PodView, Seen, ServiceView, SliceView, View};
use super::status::{Reason, Status};
use crate::config::Peers;
use crate::privilege;
use futures_util::{StreamExt, pin_mut};
use kube::client::ClientBuilder;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Client};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tower::util::MapResponseLayer;

/// Objects of one page of a list: the greatest part of what a list takes in memory at a time.
const PAGE: u32 = 500;
/// Changes between the two threads; the watches wait while the agent is busy.
const HANDOVER: usize = 1_024;
/// Refusals in a row that are not taken for the last word: an API that has just started knows no roles
/// yet and refuses everybody. With the pauses between them 6 to 12 s.
const PASSING_REFUSALS: u32 = 3;
/// How long after a refusal that lasts to ask again: somebody has to change a role first.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How long after the last of many failures to ask again. The pauses begin below a second and double,
/// with a random part, so that the agents of a cluster do not come all at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Which peers are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watched {
    /// Pods of the other nodes, and services.
    #[default]
    Pods,
    /// EndpointSlices, services and nodes.
    Slices,
    /// Nobody.
    Nothing,
}

impl Watched {
    /// The feeds, those of this node's pods with them.
    #[must_use]
    pub const fn feeds(self) -> &'static [Feed] {
        match self {
            Self::Pods => &[Feed::NodePods, Feed::PeerPods, Feed::Services],
            Self::Slices => &[Feed::NodePods, Feed::Slices, Feed::Services, Feed::Nodes],
            Self::Nothing => &[Feed::NodePods],
        }
    }
}

impl From<Peers> for Watched {
    fn from(peers: Peers) -> Self {
        match peers {
            Peers::Pods => Self::Pods,
            Peers::EndpointSlices => Self::Slices,
            Peers::None => Self::Nothing,
        }
    }
}

/// What the watches need to know.
#[derive(Clone)]
pub struct WatchOptions {
    /// Where the API is and who asks.
    pub api: kube::Config,
    /// Name of this node.
    pub node: String,
    /// Which peers.
    pub watched: Watched,
    /// How long after a refusal to ask again; `None` for a minute.
    pub refused_pause: Option<Duration>,
}

/// Starts the watches in a thread without any capability. They end when the receiver is dropped.
///
/// # Errors
/// When no thread can be started.
pub fn start(options: WatchOptions, status: Arc<Status>) -> io::Result<Receiver<Update>> {
    let (sender, receiver) = channel(HANDOVER);
    for feed in options.watched.feeds() {
        status.want(*feed);
    }
    std::thread::Builder::new()
        .name("kubernetes".to_owned())
        .spawn(move || thread(&options, &status, &sender))?;
    Ok(receiver)
}

fn thread(options: &WatchOptions, status: &Arc<Status>, sender: &Sender<Update>) {
    // It speaks to the network and reads what comes from there: not with the agent's capabilities,
    // which are this thread's too as long as the hooks are not attached.
    if let Err(error) = privilege::drop_all() {
        tracing::error!(%error, "the API is not watched");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for feed in options.watched.feeds() {
                let outlet = Outlet {
                    feed: *feed,
                    status: Arc::clone(status),
                    sender: sender.clone(),
                    pause: options.refused_pause.unwrap_or(REFUSED_PAUSE),
                };
                spawn(&mut tasks, options, outlet);
            }
            while tasks.join_next().await.is_some() {}
        }),
        Err(error) => tracing::error!(%error, "the API is not watched: no runtime"),
    }
}

fn spawn(tasks: &mut JoinSet<()>, options: &WatchOptions, outlet: Outlet) {
    let core = |kind, plural| vec![resource("", "v1", kind, plural)];
    let api = options.api.clone();
    let here = format!("spec.nodeName={}", options.node);
    let elsewhere = format!(
        "spec.nodeName!={},status.phase!=Succeeded,status.phase!=Failed",
        options.node
    );
    match outlet.feed {
        Feed::NodePods => {
            let kinds = core("Pod", "pods");
            tasks.spawn(follow::<PodView<true>>(api, kinds, Some(here), outlet));
        }
        Feed::PeerPods => {
            let kinds = core("Pod", "pods");
            tasks.spawn(follow::<PodView<false>>(
                api,
                kinds,
                Some(elsewhere),
                outlet,
            ));
        }
        Feed::Slices => {
            let version = |version| {
                resource(
                    "discovery.k8s.io",
                    version,
                    "EndpointSlice",
                    "endpointslices",
                )
            };
            // v1 came with 1.21, v1beta1 went with 1.25.
            let kinds = vec![version("v1"), version("v1beta1")];
            tasks.spawn(follow::<SliceView>(api, kinds, None, outlet));
        }
        Feed::Services => {
            tasks.spawn(follow::<ServiceView>(
                api,
                core("Service", "services"),
                None,
                outlet,
            ));
        }
        Feed::Nodes => {
            tasks.spawn(follow::<NodeView>(api, core("Node", "nodes"), None, outlet));
        }
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Where a feed's changes and troubles go.
struct Outlet {
    feed: Feed,
    status: Arc<Status>,
    sender: Sender<Update>,
    pause: Duration,
}

/// Nobody listens any more.
struct Closed;

/// Why a watcher is given up for another.
enum Turn {
    /// The server does not stream lists.
    Pages,
    /// The server does not have this version.
    OtherVersion,
    /// What was known is forgotten: it has to be listed anew.
    Anew,
}

impl Outlet {
    async fn send(&self, change: Change) -> Result<(), Closed> {
        let feed = self.feed;
        let sent = self.sender.send(Update { feed, change }).await;
        sent.map_err(|_unsent| Closed)
    }

    async fn event<V: View>(&self, event: Event<Seen<V>>) -> Result<(), Closed> {
        match event {
            Event::Init => {
                self.status.list_begins(self.feed);
                self.send(Change::Restart).await
            }
            Event::InitApply(object) | Event::Apply(object) => {
                self.send(Change::Apply(object.into_parts().1)).await
            }
            Event::Delete(object) => self.send(Change::Delete(object.into_parts().0)).await,
            Event::InitDone => {
                self.send(Change::Listed).await?;
                self.status.list_is_complete(self.feed);
                Ok(())
            }
        }
    }

    /// Notes an error and returns how long to rest, longer than `usual` where it `lasts` and somebody
    /// has to do something first.
    async fn trouble(
        &self,
        error: &watcher::Error,
        usual: Duration,
        lasts: bool,
    ) -> Result<Duration, Closed> {
        let reason = reason(error);
        let sentence = self.sentence(error, reason);
        if self.status.failed(self.feed, reason, &sentence) {
            tracing::warn!(
                "{sentence}; without it there is no longer news of {}",
                self.feed.gives()
            );
        }
        match reason {
            Reason::Forbidden if lasts => {
                // What cannot be kept true is not told.
                self.status.forgotten(self.feed);
                self.send(Change::Forget).await?;
                Ok(self.pause)
            }
            Reason::NotFound | Reason::Refused if lasts => Ok(self.pause),
            Reason::Gone => Ok(Duration::ZERO),
            _ => Ok(usual),
        }
    }

    fn sentence(&self, error: &watcher::Error, reason: Reason) -> String {
        let resource = self.feed.resource();
        let verb = match error {
            watcher::Error::InitialListFailed(_) => "list",
            _ => "watch",
        };
        match reason {
            Reason::Forbidden => format!(
                "the API refuses `{verb}` on {resource}: give the agent's ClusterRole the verbs \
                 list and watch on {resource}"
            ),
            Reason::Unauthorized => format!(
                "the API does not accept the agent's credentials for {resource}: {}",
                causes(error)
            ),
            _ => format!("cannot {verb} {resource}: {}", causes(error)),
        }
    }
}

/// Lists and watches one kind of objects until nobody listens any more.
async fn follow<V: View>(
    api: kube::Config,
    mut kinds: Vec<ApiResource>,
    fields: Option<String>,
    outlet: Outlet,
) {
    // The first kind is the one that is asked for.
    let mut streams = true;
    // The API has the pods of a node at hand, in a cache that knows no pages. In its database it
    // would have to look at every pod of the cluster.
    let few = outlet.feed == Feed::NodePods;
    // In a row, over the watchers of this feed.
    let mut refusals = 0;
    loop {
        let kind = kinds.first().cloned();
        let Some(kind) = kind else { return };
        let client = match client(api.clone(), outlet.feed, Arc::clone(&outlet.status)) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, resource = outlet.feed.resource(), "not watched");
                outlet.status.failed(
                    outlet.feed,
                    Reason::Unreachable,
                    &format!("the client cannot be made: {error}"),
                );
                return;
            }
        };
        let config = watcher::Config {
            field_selector: fields.clone(),
            page_size: (!few).then_some(PAGE),
            list_semantic: if few {
                watcher::ListSemantic::Any
            } else {
                watcher::ListSemantic::MostRecent
            },
            initial_list_strategy: if streams {
                watcher::InitialListStrategy::StreamingList
            } else {
                watcher::InitialListStrategy::ListWatch
            },
            ..watcher::Config::default()
        };
        let api = Api::<Seen<V>>::all_with(client, &kind);
        match watch(api, config, kinds.len() > 1, &outlet, &mut refusals).await {
            Ok(Turn::Pages) => streams = false,
            Ok(Turn::Anew) => {}
            Ok(Turn::OtherVersion) => {
                kinds.rotate_left(1);
                tracing::info!(
                    resource = outlet.feed.resource(),
                    version = kinds.first().map(|kind| kind.version.as_str()),
                    "asking for another version"
                );
            }
            Err(Closed) => return,
        }
    }
}

async fn watch<V: View>(
    api: Api<Seen<V>>,
    config: watcher::Config,
    versions: bool,
    outlet: &Outlet,
    refusals: &mut u32,
) -> Result<Turn, Closed> {
    let streams = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
    let events = watcher::watcher(api, config);
    pin_mut!(events);
    let mut backoff = DefaultBackoff::default();
    // The watcher never ends by itself.
    while let Some(event) = tokio::select! {
        event = events.next() => event,
        () = outlet.sender.closed() => return Err(Closed),
    } {
        match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) {
                    backoff.reset();
                }
                // That it may list does not say that it may watch.
                if streams || matches!(event, Event::Apply(_) | Event::Delete(_)) {
                    *refusals = 0;
                }
                outlet.event(event).await?;
            }
            Err(error) => {
                let reason = reason(&error);
                if streams && reason == Reason::Refused {
                    return Ok(Turn::Pages);
                }
                let refused = matches!(
                    reason,
                    Reason::Forbidden | Reason::NotFound | Reason::Refused
                );
                *refusals = if refused {
                    refusals.saturating_add(1)
                } else {
                    0
                };
                let lasts = *refusals > PASSING_REFUSALS;
                let usual = backoff.next().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
                let pause = if versions && reason == Reason::NotFound {
                    // Once around and it has neither: the pause keeps it from spinning.
                    usual
                } else {
                    outlet.trouble(&error, usual, lasts).await?
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = outlet.sender.closed() => return Err(Closed),
                }
                match reason {
                    Reason::NotFound if versions => return Ok(Turn::OtherVersion),
                    Reason::Forbidden if lasts => return Ok(Turn::Anew),
                    _ => {}
                }
            }
        }
    }
    Err(Closed)
}

/// A client that notes every answer: a watch that has been taken up again is silent until something
/// happens.
fn client(api: kube::Config, feed: Feed, status: Arc<Status>) -> Result<Client, kube::Error> {
    let note = move |response: hyper::Response<Box<kube::client::DynBody>>| {
        if response.status().is_success() && status.answered(feed) {
            tracing::info!(resource = feed.as_str(), "the API tells again");
        }
        response
    };
    let builder = ClientBuilder::try_from(api)?;
    Ok(builder.with_layer(&MapResponseLayer::new(note)).build())
}

fn reason(error: &watcher::Error) -> Reason {
    let status = match error {
        watcher::Error::WatchError(status) => status,
        watcher::Error::NoResourceVersion => return Reason::Malformed,
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => status,
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => return Reason::Malformed,
            kube::Error::Auth(_) => return Reason::Unauthorized,
            _ => return Reason::Unreachable,
        },
    };
    match status.code {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        410 => Reason::Gone,
        429 => Reason::Throttled,
        400..500 => Reason::Refused,
        _ => Reason::ServerError,
    }
}

/// The innermost cause says most; those around it are the client's layers.
fn causes(error: &watcher::Error) -> String {
    let api = |status: &kube::core::Status| format!("{} ({})", status.message, status.code);
    match error {
        watcher::Error::WatchError(status) => return api(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => return api(status),
        _ => {}
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
