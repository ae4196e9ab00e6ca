//! [`Table`]: which viewer a datagram is for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::webrtc::{
    fan::Event,
    ice::{self, Path, Transport},
};

/// Where the datagrams of one viewer go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The task that drives the viewer.
    pub fan: mpsc::Sender<Event>,
    /// Its number.
    pub viewer: u64,
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
            if inner.by_address.get(&key).is_some_and(|route| route.viewer == viewer) {
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
    (path.transport, SocketAddr::new(remote.ip().to_canonical(), remote.port()))
}
