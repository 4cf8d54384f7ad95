//! Names in a recording: every answer that differs from the last one to the same question.

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashMap;

use super::frame::{Frame, Name};
use crate::lock::lock;
use crate::model::{Gone, Identity, Ktime, Workload};

/// Questions whose answer is remembered; beyond, all are forgotten, here and in the recording.
const MAX_NAMES: usize = 32_768;

/// A question about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    Cgroup(u64, u32),
    Address(IpAddr),
    Service(SocketAddr),
    Proxy(u64, u32),
}

/// Answers that the recording does not have yet.
#[derive(Debug, Default)]
pub struct NameLog {
    /// What the recording says, so far as it says anything but "nobody".
    told: HashMap<Question, Name>,
    news: Vec<Frame<'static>>,
}

impl NameLog {
    fn note(&mut self, question: Question, name: Name, known: bool) {
        match self.told.get(&question) {
            Some(last) if *last == name => return,
            // Nobody is what a replay says where the recording says nothing.
            None if !known => return,
            _ => {}
        }
        if self.told.len() >= MAX_NAMES {
            self.told.clear();
            self.news.push(Frame::Unnamed);
        }
        self.told.insert(question, name.clone());
        self.news.push(Frame::Name(name));
    }

    /// What has to be written before whatever asked for it.
    pub(super) fn take(&mut self) -> Vec<Frame<'static>> {
        mem::take(&mut self.news)
    }
}

/// An identity whose answers are noted.
pub struct Asked {
    inner: Box<dyn Identity>,
    log: Arc<Mutex<NameLog>>,
}

/// Notes what an identity answers, for [`Recorder`](super::Recorder).
#[must_use]
pub fn listen(inner: Box<dyn Identity>) -> (Box<Asked>, Arc<Mutex<NameLog>>) {
    let log = Arc::new(Mutex::new(NameLog::default()));
    let asked = Asked {
        inner,
        log: Arc::clone(&log),
    };
    (Box::new(asked), log)
}

impl Identity for Asked {
    fn by_cgroup(&mut self, cgroup_id: u64, tgid: u32) -> Option<Workload> {
        let found = self.inner.by_cgroup(cgroup_id, tgid);
        let name = Name::Cgroup(cgroup_id, tgid, found.as_ref().map(Into::into));
        lock(&self.log).note(Question::Cgroup(cgroup_id, tgid), name, found.is_some());
        found
    }

    fn by_ip(&mut self, ip: IpAddr, at: Ktime) -> Option<Workload> {
        let found = self.inner.by_ip(ip, at);
        let name = Name::Address(ip, found.as_ref().map(Into::into));
        lock(&self.log).note(Question::Address(ip), name, found.is_some());
        found
    }

    fn service(&mut self, address: SocketAddr, at: Ktime) -> Option<Arc<str>> {
        let found = self.inner.service(address, at);
        let name = Name::Service(address, found.as_deref().map(str::to_owned));
        lock(&self.log).note(Question::Service(address), name, found.is_some());
        found
    }

    fn is_proxy(&mut self, cgroup_id: u64, tgid: u32) -> Option<bool> {
        let found = self.inner.is_proxy(cgroup_id, tgid);
        let name = Name::Proxy(cgroup_id, tgid, found);
        lock(&self.log).note(Question::Proxy(cgroup_id, tgid), name, found.is_some());
        found
    }

    fn refresh(&mut self, now: Ktime) -> Vec<Gone> {
        let gone = self.inner.refresh(now);
        let frames = gone.iter().cloned().map(Frame::Gone);
        lock(&self.log).news.extend(frames);
        gone
    }
}

/// What a recording said of names so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    workloads: HashMap<Question, Workload>,
    services: HashMap<SocketAddr, Arc<str>>,
    proxies: HashMap<Question, bool>,
}

impl Told {
    /// Learns an answer.
    ///
    /// # Errors
    /// The recording has more names than any recorder writes.
    pub(super) fn learn(&mut self, name: Name) -> Result<(), String> {
        match name {
            Name::Cgroup(cgroup, tgid, found) => {
                let question = Question::Cgroup(cgroup, tgid);
                put(&mut self.workloads, question, found.map(Into::into));
            }
            Name::Address(ip, found) => {
                let question = Question::Address(ip);
                put(&mut self.workloads, question, found.map(Into::into));
            }
            Name::Service(address, found) => {
                put(&mut self.services, address, found.map(Into::into));
            }
            Name::Proxy(cgroup, tgid, found) => {
                put(&mut self.proxies, Question::Proxy(cgroup, tgid), found);
            }
        }
        let names = self.workloads.len() + self.services.len() + self.proxies.len();
        if names > MAX_NAMES {
            return Err(format!("more than {MAX_NAMES} names at a time"));
        }
        Ok(())
    }

    /// Forgets all.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn put<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

/// Answers as the recording does.
pub(super) struct Recalled(pub(super) Arc<Mutex<Told>>);

impl Recalled {
    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.0)
    }
}

impl Identity for Recalled {
    fn by_cgroup(&mut self, cgroup_id: u64, tgid: u32) -> Option<Workload> {
        let question = Question::Cgroup(cgroup_id, tgid);
        self.told().workloads.get(&question).cloned()
    }

    fn by_ip(&mut self, ip: IpAddr, _at: Ktime) -> Option<Workload> {
        self.told().workloads.get(&Question::Address(ip)).cloned()
    }

    fn service(&mut self, address: SocketAddr, _at: Ktime) -> Option<Arc<str>> {
        self.told().services.get(&address).cloned()
    }

    fn is_proxy(&mut self, cgroup_id: u64, tgid: u32) -> Option<bool> {
        let question = Question::Proxy(cgroup_id, tgid);
        self.told().proxies.get(&question).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u32);

    impl Identity for Numbered {
        fn by_cgroup(&mut self, _cgroup: u64, _tgid: u32) -> Option<Workload> {
            None
        }

        fn by_ip(&mut self, _ip: IpAddr, _at: Ktime) -> Option<Workload> {
            let name = format!("w{}", self.0);
            Some(Workload::new(name.into(), "".into()))
        }

        fn service(&mut self, _address: SocketAddr, _at: Ktime) -> Option<Arc<str>> {
            None
        }

        fn is_proxy(&mut self, _cgroup: u64, _tgid: u32) -> Option<bool> {
            None
        }
    }

    #[test]
    fn only_what_is_new_is_told_and_no_table_grows() {
        let (mut asked, log) = listen(Box::new(Numbered(1)));
        let mut told = Told::default();
        let mut frames = 0;
        let most = u32::try_from(MAX_NAMES).unwrap() + 10;
        for ip in (0..most).flat_map(|ip| [ip, ip]) {
            let ip = std::net::Ipv4Addr::from(ip).into();
            assert!(asked.by_ip(ip, 0).is_some() && asked.by_cgroup(1, 1).is_none());
            for frame in lock(&log).take() {
                frames += 1;
                match frame {
                    Frame::Name(name) => told.learn(name).unwrap(),
                    _ => told.forget(),
                }
            }
        }
        assert_eq!(frames, most + 1, "each name once, and one forgetting");
        assert_eq!(told.workloads.len(), 10);
    }
}
