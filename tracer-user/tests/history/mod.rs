//! A cluster's history for the store, second by second.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "an error is the result of the test; each test uses a part of it"
)]

use std::net::{IpAddr, SocketAddr};

use tracer_user::identity::kubernetes::facts::{
    Change, Feed, Object, Pod, Service, ServicePort, TargetPort, Uid, Update,
};
use tracer_user::identity::kubernetes::store::Store;
use tracer_user::model::Ktime;

pub(crate) const SECOND: Ktime = 1_000_000_000;
pub(crate) const GRACE: Ktime = 120 * SECOND;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    text.split_whitespace().map(pair).collect()
}

/// A pod `uid` of `workload` at `address` on node `n1`, created at second `created`.
pub(crate) fn pod(uid: &str, workload: &str, address: &str, created: i64) -> Pod {
    Pod {
        uid: Uid::new(uid),
        alias: None,
        namespace: "shop".to_owned(),
        workload: workload.to_owned(),
        service: workload.to_owned(),
        revision: "v1".to_owned(),
        ips: address.split_whitespace().map(ip).collect(),
        node: "n1".to_owned(),
        node_ips: vec![ip("192.168.0.1")],
        created,
        ended: false,
        labels: pairs(&format!("app={workload}")),
        containers: Vec::new(),
    }
}

pub(crate) fn service(
    name: &str,
    vip: &str,
    port: u16,
    target: TargetPort,
    selector: &str,
) -> Service {
    Service {
        uid: Uid::new(name),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        vips: vip.split_whitespace().map(ip).collect(),
        ports: vec![ServicePort {
            port,
            target,
            node_port: 0,
        }],
        selector: pairs(selector),
    }
}

/// A store and the moment it is at, in seconds.
pub(crate) struct History {
    pub(crate) store: Store,
    pub(crate) now: Ktime,
}

impl History {
    pub(crate) fn new() -> Self {
        Self::with_grace(GRACE)
    }

    pub(crate) fn with_grace(grace: Ktime) -> Self {
        let sidecars = vec!["istio-proxy".to_owned()];
        Self {
            store: Store::new(sidecars, grace),
            now: 1_000 * SECOND,
        }
    }

    pub(crate) fn change(&mut self, feed: Feed, change: Change) -> &mut Self {
        self.store.apply(Update { feed, change }, self.now);
        self
    }

    pub(crate) fn put(&mut self, feed: Feed, pod: Pod) -> &mut Self {
        self.change(feed, Change::Apply(Object::Pod(Box::new(pod))))
    }

    pub(crate) fn peer(&mut self, pod: Pod) -> &mut Self {
        self.put(Feed::PeerPods, pod)
    }

    pub(crate) fn serve(&mut self, service: Service) -> &mut Self {
        self.change(
            Feed::Services,
            Change::Apply(Object::Service(Box::new(service))),
        )
    }

    pub(crate) fn delete(&mut self, feed: Feed, uid: &str) -> &mut Self {
        self.change(feed, Change::Delete(Uid::new(uid)))
    }

    /// Lets seconds pass; what is gone then, sorted.
    pub(crate) fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += seconds * SECOND;
        let gone = self.store.expire(self.now);
        let mut names: Vec<_> = gone
            .iter()
            .map(|gone| gone.workload.name.to_string())
            .collect();
        names.sort();
        names
    }

    /// Whose an address was some seconds ago.
    pub(crate) fn at(&self, address: &str, ago: u64) -> Option<String> {
        let found = self.store.by_ip(ip(address), self.now - ago * SECOND);
        found.map(|workload| workload.name.to_string())
    }

    pub(crate) fn now(&self, address: &str) -> Option<String> {
        self.at(address, 0)
    }

    pub(crate) fn uid(&self, uid: &str) -> Option<String> {
        let found = self.store.by_uid(Uid::new(uid));
        found.map(|workload| workload.name.to_string())
    }

    pub(crate) fn service(&mut self, address: &str) -> Option<String> {
        let found = self.store.service(socket(address), self.now);
        found.as_deref().map(str::to_owned)
    }
}

pub(crate) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
