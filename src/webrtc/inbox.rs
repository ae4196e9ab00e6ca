//! What a [`Fan`](super::fan) is told, and who is on the way to it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::webrtc::{
    ice::{Credentials, Path, RemoteCandidate},
    viewer::Viewer,
};

/// What a fan is told.
#[derive(Debug)]
pub enum Event {
    /// A new viewer, whose requests bear `name`.
    Join {
        /// Its number.
        viewer: u64,
        /// Its name in ICE.
        name: String,
        /// Its state.
        state: Box<Viewer>,
        /// Where answers to our checks may come from before anything else does.
        hopes: Vec<Path>,
        /// Its place among the viewers of this fan.
        place: Place,
    },
    /// A datagram for a viewer.
    Datagram {
        /// Whose it is.
        viewer: u64,
        /// How it came.
        path: Path,
        /// What it is.
        data: Bytes,
        /// Counts as one that waits.
        waiting: Arc<()>,
    },
    /// The browser has found another address of its own.
    Candidate {
        /// Whose it is.
        viewer: u64,
        /// The address.
        candidate: RemoteCandidate,
    },
    /// The viewer's offer has brought a relay, which is there now.
    Relay {
        /// Whose it is.
        viewer: u64,
        /// Its number.
        relay: u8,
        /// Where the offer came from.
        client: Option<IpAddr>,
    },
    /// ICE begins anew, with these credentials.
    Restart {
        /// Whose.
        viewer: u64,
        /// Ours.
        local: Credentials,
        /// The browser's.
        remote: Credentials,
    },
    /// The viewer's session is over.
    Leave {
        /// Whose.
        viewer: u64,
    },
}

impl Event {
    /// The number of the viewer whom it is about.
    #[must_use]
    pub fn viewer(&self) -> u64 {
        match self {
            Self::Join { viewer, .. }
            | Self::Datagram { viewer, .. }
            | Self::Candidate { viewer, .. }
            | Self::Relay { viewer, .. }
            | Self::Restart { viewer, .. }
            | Self::Leave { viewer } => *viewer,
        }
    }
}

/// How many viewers have been given to a fan, those on their way to it included; or that it ends.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<AtomicUsize>);

const CLOSED: usize = usize::MAX;

impl Load {
    /// How many there are; none when the fan takes nobody any more.
    #[must_use]
    pub fn get(&self) -> Option<usize> {
        let count = self.0.load(Ordering::Acquire);
        (count != CLOSED).then_some(count)
    }

    /// A place for one more viewer; none when the fan takes nobody any more.
    #[must_use]
    pub fn enter(&self) -> Option<Place> {
        let more = |count| (count != CLOSED).then_some(count + 1);
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.ok().map(|_| Place(Arc::clone(&self.0)))
    }

    /// Takes nobody any more, if there is nobody now; whether that is so.
    #[must_use]
    pub fn close(&self) -> bool {
        let closed = self
            .0
            .compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        closed.is_ok()
    }
}

/// One viewer of a [`Load`], until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
