//! [`Table`]: which viewer a datagram is for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::webrtc::{
    ice::{self, Path, Transport},
    inbox::Event,
};

/// Datagrams of one viewer that may wait: its share of what its fan takes.
const WAITING_MAX: usize = 128;

/// Where the datagrams of one viewer go.
#[derive(Debug, Clone)]
pub struct Route {
    fan: mpsc::Sender<Event>,
    viewer: u64,
    /// Datagrams that wait for the viewer's fan.
    waiting: Arc<()>,
}

impl Route {
    /// To viewer number `viewer`, whom the task behind `fan` drives.
    #[must_use]
    pub fn new(fan: mpsc::Sender<Event>, viewer: u64) -> Self {
        Self {
            fan,
            viewer,
            waiting: Arc::default(),
        }
    }

    /// Hands over a datagram, unless the viewer sends more than is its share.
    #[must_use]
    pub fn accept(&self, path: Path, data: Bytes) -> bool {
        // Each route and each datagram that waits counts once.
        if Arc::strong_count(&self.waiting) > WAITING_MAX {
            return false;
        }
        let event = Event::Datagram {
            viewer: self.viewer,
            path,
            data,
            waiting: Arc::clone(&self.waiting),
        };
        self.fan.try_send(event).is_ok()
    }
}

/// Viewers by the names that ICE gave them, and by the addresses that ICE has validated.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<String, Route>,
    by_address: HashMap<(Transport, SocketAddr), Route>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The viewer of a datagram that came by `path`; none for what nobody asked for.
    #[must_use]
    pub fn find(&self, path: &Path, datagram: &[u8]) -> Option<Route> {
        // A request names its viewer, wherever it comes from.
        match ice::ufrag_of(datagram) {
            Some(name) => self.lock().by_name.get(name).cloned(),
            None => self.lock().by_address.get(&key(path)).cloned(),
        }
    }

    /// Requests that name `name` are for `route`.
    pub fn name(&self, name: String, route: Route) {
        self.lock().by_name.insert(name, route);
    }

    /// What comes by `path` is for `route`: ICE has validated it.
    pub fn address(&self, path: &Path, route: Route) {
        self.lock().by_address.insert(key(path), route);
    }

    /// What comes by `path` may be for `route`, if it is nobody else's.
    pub fn maybe(&self, path: &Path, route: Route) {
        self.lock().by_address.entry(key(path)).or_insert(route);
    }

    /// Viewer `viewer` is gone, with its `names` and `paths`.
    pub fn remove<'a>(&self, viewer: u64, names: &[String], paths: impl Iterator<Item = &'a Path>) {
        let mut inner = self.lock();
        for name in names {
            inner.by_name.remove(name);
        }
        for path in paths {
            let key = key(path);
            // Another viewer may have the address by now.
            if inner
                .by_address
                .get(&key)
                .is_some_and(|route| route.viewer == viewer)
            {
                inner.by_address.remove(&key);
            }
        }
    }

    /// How many names and addresses are known.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.by_name.len(), inner.by_address.len())
    }
}

fn key(path: &Path) -> (Transport, SocketAddr) {
    let remote = path.remote;
    (
        path.transport,
        SocketAddr::new(remote.ip().to_canonical(), remote.port()),
    )
}
