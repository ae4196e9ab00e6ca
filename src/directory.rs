//! [`Directory`]: from a source URL to its running hub; starts it on first demand, keeps it a while
//! after the last, stops it. Of a camera with several sources it opens those that are needed, and brings
//! picture and sound of two together.

mod composed;
mod opening;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tracing::Instrument;

pub use self::opening::Opened;
use crate::{
    base::{Diagnosis, Error, ErrorKind, Secret, SourceUrl, Tasks, backoff::Backoff},
    hub::{self, Failure, Hub, Publisher, State},
    source::{self, Confinement, Source},
};

/// Cameras open at once.
const SOURCES_MAX: usize = 128;

/// How long a source stays after the last lease, when the camera refused our credentials: so long that
/// is remembered, so that viewers who come and go do not make us ask the camera each time.
const REFUSAL_LINGER: Duration = Duration::from_mins(6);

/// Names of sources to their running hubs.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
    confinement: Confinement,
}

struct Inner {
    tasks: Tasks,
    started: AtomicU64,
    linger: Duration,
    entries: Mutex<HashMap<Secret, Entry>>,
    /// Never held together with that of the entries.
    composed: Mutex<composed::Table>,
    /// Why sources that are closed now failed at last, as long as that says something of the next attempt.
    failures: Mutex<HashMap<Secret, Failure>>,
}

struct Entry {
    /// Tells it from a later one of the same source.
    number: u64,
    url: SourceUrl,
    hub: Hub,
    leases: watch::Sender<usize>,
}

/// A source as [`Directory::list`] shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it comes from.
    pub url: SourceUrl,
    /// What it is doing.
    pub state: State,
    /// What is wrong with it now.
    pub trouble: Option<Diagnosis>,
    /// How many watch it.
    pub viewers: usize,
    /// How many of those who watch another one hear it.
    pub listeners: usize,
    /// Media bytes that have come from it.
    pub bytes: u64,
    /// Media bytes that are kept for viewers.
    pub kept: usize,
    /// Whether somebody needs sound that has to be converted.
    pub is_converting: bool,
}

impl Directory {
    /// An empty directory that keeps a source `linger` long after its last lease.
    #[must_use]
    pub fn new(tasks: Tasks, linger: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                tasks,
                started: AtomicU64::new(0),
                linger,
                entries: Mutex::default(),
                composed: Mutex::default(),
                failures: Mutex::default(),
            }),
            confinement: Confinement::default(),
        }
    }

    /// The same directory, whose sources go where `confinement` lets them.
    #[must_use]
    pub fn confined(mut self, confinement: Confinement) -> Self {
        self.confinement = confinement;
        self
    }

    /// Whether `url` can be leased, as far as it tells itself.
    ///
    /// # Errors
    /// Those of [`source::open_confined`].
    pub fn check(&self, url: &SourceUrl) -> Result<(), Error> {
        source::open_confined(url, &self.confinement).map(|_| ())
    }

    /// The hub of `url`, started if it does not run. It keeps running at least as long as the lease.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), `ResourceExhausted` when too many run.
    pub fn lease(&self, url: &SourceUrl) -> Result<Lease, Error> {
        let source = source::open_confined(url, &self.confinement)?;
        let mut entries = self.inner.lock();
        if !entries.contains_key(&url.key()) && entries.len() >= SOURCES_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("{SOURCES_MAX} cameras are open, which is the limit; close some"),
            ));
        }
        let entry = entries
            .entry(url.key())
            .or_insert_with(|| self.start(url, source));
        entry.leases.send_modify(|leases| *leases += 1);
        Ok(Lease {
            hub: entry.hub.clone(),
            leases: entry.leases.clone(),
        })
    }

    /// Every source that runs now, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let entries = self.inner.lock();
        let listed = entries.values().map(|entry| Listed {
            url: entry.url.clone(),
            state: entry.hub.state(),
            trouble: entry.hub.trouble(),
            viewers: entry.hub.viewers(),
            listeners: entry.hub.listeners(),
            bytes: entry.hub.bytes(),
            kept: entry.hub.kept(),
            is_converting: entry.hub.is_converting(),
        });
        listed.collect()
    }

    fn start(&self, url: &SourceUrl, source: Arc<dyn Source>) -> Entry {
        let (out, hub) = hub::hub();
        let (leases, wanted) = watch::channel(0);
        let conversion = out.conversion(hub.clone());
        let speech = source::speech::attend(
            Arc::clone(&source),
            hub.clone(),
            out.listener(),
            self.inner.tasks.stop().child_token(),
        );
        let number = self.inner.number();
        let keeper = Keeper {
            number,
            key: url.key(),
            hub: hub.clone(),
            source,
            out,
            wanted,
            inner: Arc::clone(&self.inner),
        };
        let span = tracing::info_span!("source", source = %url);
        self.inner
            .tasks
            .spawn("conversion", conversion.run().instrument(span.clone()));
        self.inner
            .tasks
            .spawn("speech", speech.instrument(span.clone()));
        self.inner
            .tasks
            .spawn("source", keeper.keep().instrument(span));
        Entry {
            number,
            url: url.clone(),
            hub,
            leases,
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Secret, Entry>> {
        // Nothing panics between two changes that belong together.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn composed(&self) -> std::sync::MutexGuard<'_, composed::Table> {
        self.composed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<Secret, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one each time.
    fn number(&self) -> u64 {
        self.started.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers how a source was when it was closed.
    fn remember(&self, key: &Secret, hub: &Hub) {
        let mut failures = self.failures();
        failures.retain(|_, failure| failure.is_recent());
        match hub.failure() {
            Some(failure) => failures.insert(key.clone(), failure),
            None => failures.remove(key),
        };
    }
}

/// Proof that somebody needs a hub. Dropping the last one starts the linger.
pub struct Lease {
    hub: Hub,
    leases: watch::Sender<usize>,
}

impl Lease {
    /// The hub that is kept running.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.send_modify(|leases| *leases -= 1);
    }
}

/// Runs one source for as long as it is wanted.
struct Keeper {
    number: u64,
    key: Secret,
    hub: Hub,
    source: Arc<dyn Source>,
    out: Publisher,
    wanted: watch::Receiver<usize>,
    inner: Arc<Inner>,
}

impl Keeper {
    async fn keep(mut self) {
        let tasks = self.inner.tasks.clone();
        loop {
            let stop = tasks.stop().child_token();
            let backoff = Backoff::new(rand::random());
            let wanted = self.wanted.clone();
            let run =
                source::supervise::supervise(&*self.source, &self.out, backoff, wanted, &stop);
            tokio::pin!(run);
            tokio::select! {
                biased;
                // Only the end of the server ends a supervisor by itself.
                () = &mut run => {}
                () = unwanted(&mut self.wanted, &self.hub, self.inner.linger) => {
                    stop.cancel();
                    // The camera is told goodbye before anybody may connect to it again.
                    run.await;
                }
            }
            // Under the lock, so that nobody takes a lease meanwhile.
            let mut entries = self.inner.lock();
            if *self.wanted.borrow() == 0 || tasks.stop().is_cancelled() {
                self.inner.remember(&self.key, &self.hub);
                remove(&mut entries, &self.key, self.number);
                tracing::info!(bytes = self.hub.bytes(), "source stopped");
                return;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // After a panic the entry would stand for a source that nobody runs.
        remove(&mut self.inner.lock(), &self.key, self.number);
    }
}

fn remove(entries: &mut HashMap<Secret, Entry>, key: &Secret, number: u64) {
    if entries.get(key).is_some_and(|entry| entry.number == number) {
        entries.remove(key);
    }
}

/// Returns once there has been no lease for the time of the linger.
async fn unwanted(wanted: &mut watch::Receiver<usize>, hub: &Hub, linger: Duration) {
    loop {
        // An error means that the entry is gone, and with it everybody who could want it.
        if wanted.wait_for(|leases| *leases == 0).await.is_err() {
            return;
        }
        let linger = match hub.state() {
            State::Failed(e) if e.kind().is_refusal() => linger.max(REFUSAL_LINGER),
            _ => linger,
        };
        let wanted_again = wanted.wait_for(|leases| *leases > 0);
        if tokio::time::timeout(linger, wanted_again).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn directory() -> (Directory, SourceUrl) {
        let tasks = Tasks::on_current_runtime();
        (
            Directory::new(tasks, LINGER),
            SourceUrl::parse("demo:").unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_serves_all_and_stops_a_while_after_the_last() {
        let (directory, url) = directory();
        let first = directory.lease(&url).unwrap();
        let second = directory.lease(&url).unwrap();
        assert_eq!(directory.list().len(), 1);
        drop(first);
        tokio::time::sleep(LINGER * 3).await;
        assert_eq!(directory.list().len(), 1);
        drop(second);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(directory.list().len(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(directory.list().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_finds_the_same_source() {
        let (directory, url) = directory();
        for _ in 0..20 {
            let lease = directory.lease(&url).unwrap();
            lease.hub().ready(LINGER).await.unwrap();
            assert_eq!(lease.hub().attempts(), 1);
            drop(lease);
            tokio::time::sleep(LINGER / 2).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_are_told_when_the_server_stops() {
        let (directory, url) = directory();
        let lease = directory.lease(&url).unwrap();
        let mut frames = lease.hub().subscribe().0;
        assert!(directory.inner.tasks.drain(Duration::from_secs(1)).await);
        while !matches!(frames.next().await, hub::Next::Ended) {}
        assert!(directory.list().is_empty());
    }
}
