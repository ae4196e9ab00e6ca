//! [`Sessions`]: the table of remote parties that are being served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{Error, ErrorKind, Secret, SessionId, SourceUrl},
    webrtc::status::Status,
};

/// Sessions that have been answered and are not connected yet. An offer costs nothing to make.
const HALF_OPEN_MAX: usize = 256;
/// Viewers of the whole server, and of one camera.
const SESSIONS_MAX: usize = 2_048;
const SESSIONS_OF_SOURCE_MAX: usize = 1_024;

/// Every session by its identifier.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    table: Arc<Mutex<HashMap<SessionId, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    source: Secret,
    stop: CancellationToken,
    /// When it was entered, as long as it is not connected.
    half_open: Option<Instant>,
    /// The source as people may read it.
    shown: String,
    status: Option<watch::Receiver<Status>>,
}

impl Entry {
    /// Since when nothing has been heard of the browser; none once ICE has found it.
    fn waiting_since(&self) -> Option<Instant> {
        let status = self.status.as_ref();
        let is_found = status.is_some_and(|status| status.borrow().path.is_some());
        self.half_open.filter(|_| !is_found)
    }
}

/// A session as [`Sessions::list`] shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its identifier.
    pub id: SessionId,
    /// What it plays, without credentials.
    pub source: String,
    /// How its viewer fares.
    pub status: Status,
}

impl Sessions {
    /// Enters a session that plays `source`. It stays in the table as long as the result lives.
    ///
    /// # Errors
    /// `ResourceExhausted` when there are too many.
    pub fn register(
        &self,
        source: &SourceUrl,
        stop: CancellationToken,
    ) -> Result<Registration, Error> {
        let mut table = self.lock();
        let half_open = || {
            table
                .iter()
                .filter_map(|(id, entry)| Some((entry.waiting_since()?, *id)))
        };
        if half_open().count() >= HALF_OPEN_MAX
            && let Some((_, oldest)) = half_open().min()
            && let Some(entry) = table.remove(&oldest)
        {
            entry.stop.cancel();
        }
        let shown = source.to_string();
        let source = source.key();
        // Those that never connect must not take the places of those who watch.
        let connected = || {
            table
                .values()
                .filter(|entry| entry.waiting_since().is_none())
        };
        let same = connected().filter(|entry| entry.source == source).count();
        if connected().count() >= SESSIONS_MAX || same >= SESSIONS_OF_SOURCE_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "the limit of {SESSIONS_MAX} viewers, or {SESSIONS_OF_SOURCE_MAX} of one \
                     camera, is reached; close some"
                ),
            ));
        }
        let id = SessionId::random();
        let half_open = Some(Instant::now());
        table.insert(
            id,
            Entry {
                source,
                stop,
                half_open,
                shown,
                status: None,
            },
        );
        Ok(Registration {
            id,
            sessions: self.clone(),
        })
    }

    /// Asks session `id` to end; false when there is none.
    #[must_use]
    pub fn end(&self, id: SessionId) -> bool {
        self.lock()
            .get(&id)
            .map(|entry| entry.stop.cancel())
            .is_some()
    }

    /// All of them, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let table = self.lock();
        let listed = table.iter().map(|(id, entry)| Listed {
            id: *id,
            source: entry.shown.clone(),
            status: entry
                .status
                .as_ref()
                .map(|status| *status.borrow())
                .unwrap_or_default(),
        });
        listed.collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Entry>> {
        // Nothing panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the table, given up when dropped.
#[derive(Debug)]
pub struct Registration {
    id: SessionId,
    sessions: Sessions,
}

impl Registration {
    /// The browser is there.
    pub fn connected(&self) {
        if let Some(entry) = self.sessions.lock().get_mut(&self.id) {
            entry.half_open = None;
        }
    }

    /// From now on it is listed with this status.
    pub fn follow(&self, status: watch::Receiver<Status>) {
        if let Some(entry) = self.sessions.lock().get_mut(&self.id) {
            entry.status = Some(status);
        }
    }

    /// The session's identifier.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_camera_cannot_take_all_places() {
        let sessions = Sessions::default();
        let camera = |n: u8| SourceUrl::parse(&format!("rtsp://h/{n}")).unwrap();
        let enter = |n| sessions.register(&camera(n), CancellationToken::new());
        let held: Vec<_> = (0..SESSIONS_OF_SOURCE_MAX)
            .map(|_| enter(1).unwrap())
            .inspect(Registration::connected)
            .collect();
        assert_eq!(enter(1).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        assert!(enter(2).is_ok());
        drop(held);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn whoever_never_connects_makes_place_for_whoever_comes() {
        let sessions = Sessions::default();
        let stops: Vec<_> = (0..=HALF_OPEN_MAX)
            .map(|_| CancellationToken::new())
            .collect();
        let enter = |(n, stop): (usize, &CancellationToken)| {
            let camera = SourceUrl::parse(&format!("rtsp://h/{}", n % 4)).unwrap();
            sessions.register(&camera, stop.clone()).unwrap()
        };
        let held: Vec<_> = stops.iter().enumerate().map(enter).collect();
        assert_eq!(
            (sessions.count(), held.len()),
            (HALF_OPEN_MAX, HALF_OPEN_MAX + 1)
        );
        assert_eq!(stops.iter().filter(|stop| stop.is_cancelled()).count(), 1);
    }

    #[test]
    fn who_is_on_the_way_is_not_sent_away_for_a_newcomer() {
        let sessions = Sessions::default();
        let camera = SourceUrl::parse("demo:").unwrap();
        let stop = CancellationToken::new();
        let oldest = sessions.register(&camera, stop.clone()).unwrap();
        let path = (
            crate::webrtc::ice::Transport::Udp,
            ([192, 0, 2, 1], 9).into(),
        );
        let status = Status {
            path: Some(path),
            ..Status::default()
        };
        oldest.follow(watch::channel(status).1);
        let others: Vec<_> = (0..HALF_OPEN_MAX + 5)
            .map(|_| {
                sessions
                    .register(&camera, CancellationToken::new())
                    .unwrap()
            })
            .collect();
        assert!(!stop.is_cancelled() && sessions.count() == HALF_OPEN_MAX + 1);
        drop(others);
    }

    #[test]
    fn a_session_is_ended_by_its_identifier() {
        let sessions = Sessions::default();
        let stop = CancellationToken::new();
        let source = SourceUrl::parse("demo:").unwrap();
        let session = sessions.register(&source, stop.clone()).unwrap();
        assert!(sessions.end(session.id()) && stop.is_cancelled());
        let id = session.id();
        let status = Status {
            frames: 7,
            ..Status::default()
        };
        session.follow(watch::channel(status).1);
        let listed = sessions.list();
        assert_eq!((listed[0].id, listed[0].status.frames), (id, 7));
        drop(session);
        assert!(!sessions.end(id) && sessions.list().is_empty());
    }
}
