//! [`Lent`]: relays of TURN servers that offers bring. One allocation for all sessions that bring the
//! same servers with the same login; it is given back when the last of them ends.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rtc_dtls::crypto_provider::RTCCryptoProvider;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{OUTGOING_MAX, Relay, Relayed, Wish, allocation::Fault, link::Link};
use crate::{
    base::{Credentials, Tasks},
    config::IceUrl,
    webrtc::{
        admission::{Admission, Reach},
        ice::SHARED_RELAYS,
    },
};

/// The numbers of lent relays, which are all there can be at once.
const NUMBERS: Range<u8> = SHARED_RELAYS..SHARED_RELAYS + 16;

/// How long a server may take to give an address; a request is sent four times until then.
const PATIENCE: Duration = Duration::from_secs(4);

/// URLs of one server that are tried, one after the other.
const URLS_MAX: usize = 3;

/// A relay that an offer wants. Those that are equal share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is, the best first.
    pub urls: Vec<IceUrl>,
    /// The login there.
    pub credentials: Credentials,
    /// What the client can reach itself.
    pub reach: Reach,
}

/// How far a lent relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The server is being asked.
    Asking,
    /// The server has this address for us.
    Ready(SocketAddr),
    /// There is none, or none any more.
    Failed,
}

/// One session's part of a lent relay; the last one to be dropped gives the allocation back.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    number: u8,
    wanted: Wanted,
    progress: watch::Receiver<Progress>,
    _end: DropGuard,
}

impl Lease {
    /// The number of the relay.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.0.number
    }

    /// Waits for the server's address; none when it gives none.
    pub async fn ready(&self) -> Option<SocketAddr> {
        let mut progress = self.0.progress.clone();
        let is_over = |progress: &Progress| *progress != Progress::Asking;
        match progress.wait_for(is_over).await.as_deref() {
            Ok(Progress::Ready(address)) => Some(*address),
            _ => None,
        }
    }
}

/// Relays to lend. Cheap to clone.
#[derive(Clone)]
pub struct Lent {
    /// By number, from the first of [`NUMBERS`]: sending takes no lock.
    wishes: Arc<[mpsc::Sender<Wish>]>,
    shelf: Arc<Mutex<Shelf>>,
    incoming: mpsc::Sender<Relayed>,
    crypto: Arc<dyn RTCCryptoProvider>,
    admission: Admission,
    tasks: Tasks,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

/// Numbers that are free, each with what is sent to it, and leases of the others.
struct Shelf {
    free: Vec<(u8, mpsc::Receiver<Wish>)>,
    held: Vec<Weak<Held>>,
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    // Nothing panics between two changes that belong together.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    pub(super) fn new(
        incoming: mpsc::Sender<Relayed>,
        crypto: Arc<dyn RTCCryptoProvider>,
        admission: &Admission,
        tasks: &Tasks,
    ) -> Self {
        let (wishes, wished): (Vec<_>, Vec<_>) =
            NUMBERS.map(|_| mpsc::channel(OUTGOING_MAX)).unzip();
        Self {
            wishes: wishes.into(),
            shelf: Arc::new(Mutex::new(Shelf {
                free: NUMBERS.zip(wished).collect(),
                held: Vec::new(),
            })),
            incoming,
            crypto,
            admission: admission.clone(),
            tasks: tasks.clone(),
        }
    }

    pub(super) fn wishes(&self, relay: u8) -> Option<&mpsc::Sender<Wish>> {
        let at = relay.checked_sub(NUMBERS.start)?;
        self.wishes.get(usize::from(at))
    }

    /// The relay that is wanted, which others may have already; otherwise its server is asked now. None
    /// when all are lent.
    #[must_use]
    pub fn borrow(&self, wanted: Wanted) -> Option<Lease> {
        let mut shelf = lock(&self.shelf);
        shelf.held.retain(|held| held.strong_count() > 0);
        let same = shelf
            .held
            .iter()
            .filter_map(Weak::upgrade)
            .find(|held| held.wanted == wanted && *held.progress.borrow() != Progress::Failed);
        if let Some(held) = same {
            return Some(Lease(held));
        }
        let Some((number, wished)) = shelf.free.pop() else {
            tracing::debug!("no relay is left for the servers of an offer");
            return None;
        };
        let (progress, progressed) = watch::channel(Progress::Asking);
        let stop = self.tasks.stop().child_token();
        let held = Arc::new(Held {
            number,
            wanted: wanted.clone(),
            progress: progressed,
            _end: stop.clone().drop_guard(),
        });
        shelf.held.push(Arc::downgrade(&held));
        drop(shelf);
        let report = progress.clone();
        let relay = Relay {
            number,
            urls: wanted.urls,
            credentials: wanted.credentials,
            crypto: Arc::clone(&self.crypto),
            patience: Some(PATIENCE),
            report: Box::new(move |relayed| {
                if let Some(relayed) = relayed {
                    report.send_replace(Progress::Ready(relayed));
                }
            }),
            wished,
            incoming: self.incoming.clone(),
        };
        let borrowed = Borrowed {
            relay,
            shelf: Arc::clone(&self.shelf),
        };
        let work = borrowed.run(self.admission.clone(), wanted.reach, stop, progress);
        self.tasks.spawn("lent-relay", work);
        Some(Lease(held))
    }
}

/// A relay in its task. Its number is free again when it is dropped.
struct Borrowed {
    relay: Relay,
    shelf: Arc<Mutex<Shelf>>,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let (_, nothing) = mpsc::channel(1);
        let mut wished = std::mem::replace(&mut self.relay.wished, nothing);
        // It was for who had the number.
        while wished.try_recv().is_ok() {}
        lock(&self.shelf).free.push((self.relay.number, wished));
    }
}

impl Borrowed {
    async fn run(
        mut self,
        admission: Admission,
        reach: Reach,
        stop: CancellationToken,
        progress: watch::Sender<Progress>,
    ) {
        let urls = self.relay.urls.clone();
        for url in urls.iter().take(URLS_MAX) {
            let mut since = None;
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                connected = connect(url, &admission, reach) => connected,
            };
            let fault = match connected {
                Ok(link) => self.relay.serve(url, link, &stop, &mut since).await,
                Err(fault) => Some(fault),
            };
            let Some(Fault::Refused(why) | Fault::Lost(why)) = fault else {
                return;
            };
            tracing::debug!(server = %url.server, %why, "no relay by a server of an offer");
            if since.is_some() {
                break;
            }
        }
        progress.send_replace(Progress::Failed);
        // Who has the number must not meet another one's relay behind it.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.relay.drop_wishes() => {}
        }
    }
}

async fn connect(url: &IceUrl, admission: &Admission, reach: Reach) -> Result<Link, Fault> {
    let lost = |why: &str| Fault::Lost(why.to_owned());
    let mut addresses = admission.find(&url.server, reach).await;
    if addresses.is_empty() {
        return Err(lost("it has no address that may be called"));
    }
    addresses.retain(|address| admission.may_call(Instant::now(), *address));
    tracing::trace!(server = %url.server, ?addresses, "asking for a relay");
    let connected = Link::connect_to(url, addresses).await;
    connected.map_err(|e| lost(&e.to_string()))
}

#[cfg(test)]
mod tests;
