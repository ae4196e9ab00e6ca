//! [`Sessions`]: the table of remote parties that are being served.

mod health;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::health::Health;
use crate::{
    base::{Diagnosis, Error, ErrorKind, Secret, SessionId, SourceUrl},
    webrtc::{
        Control,
        status::{End, State, Status},
    },
};

/// Sessions that have been answered and are not connected yet. An offer costs nothing to make.
const HALF_OPEN_MAX: usize = 256;
/// Viewers of the whole server, and of one camera.
const SESSIONS_MAX: usize = 2_048;
const SESSIONS_OF_SOURCE_MAX: usize = 1_024;

/// Sessions that have ended are remembered so long, and so many of them.
const ENDED_FOR: Duration = Duration::from_mins(10);
const ENDED_MAX: usize = 50;

/// Names in ICE that are remembered of one client: those of its offer's sections, and of late restarts.
const UFRAGS_MAX: usize = 16;

/// Every session by its identifier.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    table: Arc<Mutex<HashMap<SessionId, Entry>>>,
    /// The latest last.
    ended: Arc<Mutex<VecDeque<Ended>>>,
}

/// Who asks for a session, and for what.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// What it plays.
    pub source: &'a SourceUrl,
    /// The camera's name, or its URL without credentials.
    pub camera: &'a str,
    /// The dialect of the offer.
    pub flavour: &'static str,
}

#[derive(Debug)]
struct Entry {
    source: Secret,
    stop: CancellationToken,
    entered: Instant,
    is_connected: bool,
    camera: String,
    flavour: &'static str,
    health: Option<Health>,
    control: Option<Control>,
    /// How often ICE was begun anew.
    restarts: u32,
    /// The client's names in ICE (`a=ice-ufrag`), the latest last.
    ufrags: Vec<String>,
}

impl Entry {
    /// Since when nothing has been heard of the browser; none once ICE has found it.
    fn waiting_since(&self) -> Option<Instant> {
        let health = self.health.as_ref();
        let is_found = health.is_some_and(|health| health.status().path.is_some());
        (!self.is_connected && !is_found).then_some(self.entered)
    }
}

/// A session that is over.
#[derive(Debug, Clone)]
struct Ended {
    at: Instant,
    listed: Listed,
}

/// A session as [`Sessions::list`] shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its identifier.
    pub id: SessionId,
    /// The camera's name, or its URL without credentials.
    pub camera: String,
    /// The dialect of its offer.
    pub flavour: &'static str,
    /// Since the offer.
    pub age: Duration,
    /// How its viewer fares, or did at last.
    pub status: Status,
    /// What is wrong, or was at last; none if all is well.
    pub diagnosis: Option<Diagnosis>,
}

impl Listed {
    fn of(id: SessionId, entry: &Entry) -> Self {
        let health = entry.health.as_ref();
        Self {
            id,
            camera: entry.camera.clone(),
            flavour: entry.flavour,
            age: entry.entered.elapsed(),
            status: health.map(Health::status).unwrap_or_default(),
            diagnosis: health.and_then(Health::diagnosis),
        }
    }
}

impl Sessions {
    /// Enters a session. It stays in the table as long as the result lives.
    ///
    /// # Errors
    /// `ResourceExhausted` when there are too many.
    pub fn register(
        &self,
        asked: &Asked<'_>,
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
        let source = asked.source.key();
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
        // Lists and logs tell them apart by a part.
        let id = loop {
            let id = SessionId::random();
            if table.keys().all(|other| other.short() != id.short()) {
                break id;
            }
        };
        table.insert(
            id,
            Entry {
                source,
                stop,
                entered: Instant::now(),
                is_connected: false,
                camera: asked.camera.to_owned(),
                flavour: asked.flavour,
                health: None,
                control: None,
                restarts: 0,
                ufrags: Vec::new(),
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

    /// Asks the session that lists call `short` to end; false when there is none.
    #[must_use]
    pub fn end_listed(&self, short: &str) -> bool {
        let found = self.lock().keys().copied().find(|id| id.short() == short);
        found.is_some_and(|id| self.end(id))
    }

    /// What the client of session `id` may still do with it; none when there is no such session.
    #[must_use]
    pub fn control(&self, id: SessionId) -> Option<Control> {
        self.lock().get(&id)?.control.clone()
    }

    /// How often ICE was begun anew in session `id`; none when there is no such session.
    #[must_use]
    pub fn restarts(&self, id: SessionId) -> Option<u32> {
        Some(self.lock().get(&id)?.restarts)
    }

    /// Whether session `id` was made by this dialect, for this camera if one is given, and nobody has asked
    /// it to end.
    #[must_use]
    pub fn is_of(&self, id: SessionId, flavour: &str, camera: Option<&str>) -> bool {
        let table = self.lock();
        table.get(&id).is_some_and(|entry| {
            entry.flavour == flavour
                && camera.is_none_or(|camera| entry.camera == camera)
                && !entry.stop.is_cancelled()
        })
    }

    /// Remembers the names of the client of session `id` in ICE: another one begins ICE anew.
    pub fn name_client(&self, id: SessionId, ufrags: Vec<String>) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.ufrags = ufrags;
            entry.ufrags.truncate(UFRAGS_MAX);
        }
    }

    /// Whether the client of session `id` goes, or went, by this name in ICE.
    #[must_use]
    pub fn knows_client(&self, id: SessionId, ufrag: &str) -> bool {
        let table = self.lock();
        table
            .get(&id)
            .is_some_and(|entry| entry.ufrags.iter().any(|known| known == ufrag))
    }

    /// Counts that ICE is begun anew in session `id` by a client that goes by `ufrag` from now on, if that
    /// has been so `before` times; none when somebody else was first, or there is no such session.
    #[must_use]
    pub fn restart(&self, id: SessionId, before: u32, ufrag: &str) -> Option<u32> {
        let mut table = self.lock();
        let entry = table
            .get_mut(&id)
            .filter(|entry| entry.restarts == before)?;
        entry.restarts += 1;
        if entry.ufrags.len() >= UFRAGS_MAX {
            entry.ufrags.remove(0);
        }
        entry.ufrags.push(ufrag.to_owned());
        Some(entry.restarts)
    }

    /// All of them, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let table = self.lock();
        table
            .iter()
            .map(|(id, entry)| Listed::of(*id, entry))
            .collect()
    }

    /// The last ones that have ended, the latest first, each with how long ago.
    #[must_use]
    pub fn ended(&self) -> Vec<(Listed, Duration)> {
        let ended = self.lock_ended();
        let listed = ended.iter().rev();
        let listed = listed.map(|ended| (ended.listed.clone(), ended.at.elapsed()));
        listed.take_while(|(_, ago)| *ago < ENDED_FOR).collect()
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

    fn lock_ended(&self) -> std::sync::MutexGuard<'_, VecDeque<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a session that is over.
    fn remember(&self, mut listed: Listed) {
        if !matches!(listed.status.state, State::Ended(_)) {
            // Its viewer was taken away without a word.
            listed.status.state = State::Ended(End::Stopped);
            listed.diagnosis = Some(End::Stopped.verdict().into());
        }
        let mut ended = self.lock_ended();
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        let at = Instant::now();
        ended.push_back(Ended { at, listed });
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
            entry.is_connected = true;
        }
    }

    /// From now on it is listed with the `health` of a viewer, and its client can reach that by `control`.
    pub fn follow(&self, health: Health, control: Option<Control>) {
        if let Some(entry) = self.sessions.lock().get_mut(&self.id) {
            (entry.health, entry.control) = (Some(health), control);
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
        let removed = self.sessions.lock().remove(&self.id);
        if let Some(entry) = removed.filter(|entry| entry.health.is_some()) {
            self.sessions.remember(Listed::of(self.id, &entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::Verdict,
        webrtc::ice::{Path, Transport},
    };

    fn enter(
        sessions: &Sessions,
        url: &str,
        stop: CancellationToken,
    ) -> Result<Registration, Error> {
        let asked = Asked {
            source: &SourceUrl::parse(url).unwrap(),
            camera: url,
            flavour: "test",
        };
        sessions.register(&asked, stop)
    }

    fn health(status: Status) -> Health {
        Health::of(status, Instant::now())
    }

    fn path(transport: Transport) -> Path {
        Path {
            transport,
            remote: ([192, 0, 2, 1], 9).into(),
            local: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_have_ended_are_remembered_for_a_while() {
        let sessions = Sessions::default();
        let state = State::Ended(End::Vanished);
        for n in 0..=ENDED_MAX {
            let session = enter(
                &sessions,
                &format!("rtsp://h/{n}"),
                CancellationToken::new(),
            );
            let session = session.unwrap();
            session.follow(
                health(Status {
                    state,
                    ..Status::default()
                }),
                None,
            );
        }
        let unanswered = enter(&sessions, "demo:", CancellationToken::new()).unwrap();
        drop(unanswered);
        let ended = sessions.ended();
        assert_eq!(ended.len(), ENDED_MAX);
        let (last, ago) = &ended[0];
        assert_eq!((&*last.camera, *ago), ("rtsp://h/50", Duration::ZERO));
        let verdict = last.diagnosis.as_ref().map(|diagnosis| diagnosis.verdict);
        assert_eq!(verdict, Some(Verdict::ViewerVanished));
        tokio::time::advance(ENDED_FOR).await;
        assert!(sessions.ended().is_empty());
    }

    #[test]
    fn one_camera_cannot_take_all_places() {
        let sessions = Sessions::default();
        let enter = |n| {
            let url = format!("rtsp://h/{n}");
            enter(&sessions, &url, CancellationToken::new())
        };
        let held: Vec<_> = (0..SESSIONS_OF_SOURCE_MAX)
            .map(|_| enter(1).unwrap())
            .inspect(Registration::connected)
            .collect();
        assert_eq!(enter(1).unwrap_err().verdict(), Verdict::ServerFull);
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
        let enter_one = |(n, stop): (usize, &CancellationToken)| {
            enter(&sessions, &format!("rtsp://h/{}", n % 4), stop.clone()).unwrap()
        };
        let held: Vec<_> = stops.iter().enumerate().map(enter_one).collect();
        assert_eq!(
            (sessions.count(), held.len()),
            (HALF_OPEN_MAX, HALF_OPEN_MAX + 1)
        );
        assert_eq!(stops.iter().filter(|stop| stop.is_cancelled()).count(), 1);
    }

    #[test]
    fn who_is_on_the_way_is_not_sent_away_for_a_newcomer() {
        let sessions = Sessions::default();
        let stop = CancellationToken::new();
        let oldest = enter(&sessions, "demo:", stop.clone()).unwrap();
        let status = Status {
            path: Some(path(Transport::Udp)),
            ..Status::default()
        };
        oldest.follow(health(status), None);
        let others: Vec<_> = (0..HALF_OPEN_MAX + 5)
            .map(|_| enter(&sessions, "demo:", CancellationToken::new()).unwrap())
            .collect();
        assert!(!stop.is_cancelled() && sessions.count() == HALF_OPEN_MAX + 1);
        drop(others);
    }

    #[test]
    fn a_session_is_ended_by_its_identifier() {
        let sessions = Sessions::default();
        let stop = CancellationToken::new();
        let session = enter(&sessions, "demo:", stop.clone()).unwrap();
        assert!(sessions.end(session.id()) && stop.is_cancelled());
        let id = session.id();
        let status = Status {
            frames: 7,
            ..Status::default()
        };
        session.follow(health(status), None);
        let listed = sessions.list();
        assert_eq!((listed[0].id, listed[0].status.frames), (id, 7));
        assert_eq!((&*listed[0].camera, listed[0].flavour), ("demo:", "test"));
        assert!(sessions.end_listed(&id.short()) && !sessions.end_listed("nobody"));
        drop(session);
        assert!(!sessions.end(id) && sessions.list().is_empty());
    }
    #[test]
    fn of_two_restarts_of_ice_at_once_one_is_the_first() {
        let sessions = Sessions::default();
        let session = enter(&sessions, "demo:", CancellationToken::new()).unwrap();
        let id = session.id();
        sessions.name_client(id, vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(sessions.restart(id, 0, "c"), Some(1));
        assert_eq!(sessions.restart(id, 0, "d"), None);
        assert_eq!(sessions.restarts(id), Some(1));
        let known = ["a", "b", "c", "d"].map(|ufrag| sessions.knows_client(id, ufrag));
        assert_eq!(known, [true, true, true, false]);
        let is_of = |flavour, camera| sessions.is_of(id, flavour, camera);
        assert!(is_of("test", Some("demo:")) && is_of("test", None));
        assert!(!is_of("other", None) && !is_of("test", Some("demo")));
        assert!(sessions.end(id) && !sessions.is_of(id, "test", None));
    }
}
