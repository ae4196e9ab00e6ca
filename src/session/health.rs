//! [`Health`]: what is wrong with a viewer, of all that is known.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{
    base::{Diagnosis, Verdict},
    hub::{Heard, Hub},
    webrtc::{
        self,
        ice::Transport,
        status::{State, Status},
    },
};

/// A browser that has found no path by now is probably kept from it.
const PATH_LIMIT: Duration = Duration::from_secs(5);

/// What tells how a viewer fares, and what is wrong.
#[derive(Debug, Clone)]
pub struct Health {
    status: watch::Receiver<Status>,
    /// None in tests.
    hub: Option<Hub>,
    since: Instant,
    /// What it lacks from the beginning.
    lacks: Vec<Diagnosis>,
}

impl Health {
    /// Of a viewer that began at `since`, and lacks what `lacks` says.
    #[must_use]
    pub fn new(viewer: &webrtc::Session, hub: &Hub, lacks: Vec<Diagnosis>, since: Instant) -> Self {
        Self {
            status: viewer.watch(),
            hub: Some(hub.clone()),
            since,
            lacks,
        }
    }

    /// Without a camera.
    #[cfg(test)]
    pub(super) fn of(status: Status, since: Instant) -> Self {
        Self {
            status: watch::channel(status).1,
            hub: None,
            since,
            lacks: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status().state, State::Ended(_))
    }

    /// What is wrong now, the worst of it; none if all is well.
    #[must_use]
    pub fn diagnosis(&self) -> Option<Diagnosis> {
        let status = self.status();
        let trouble = || {
            let hub = self.hub.as_ref()?;
            hub.trouble().or_else(|| unheard(hub, status.speech))
        };
        let found = diagnose(&status, self.since.elapsed(), trouble, &self.lacks);
        // What the camera was found to lack later.
        found.or_else(|| self.hub.as_ref()?.lacks())
    }
}

/// Why somebody who speaks is not heard.
fn unheard(hub: &Hub, speech: Heard) -> Option<Diagnosis> {
    match speech {
        Heard::Nothing | Heard::Passed => None,
        Heard::Busy => Some(Verdict::SpeakerBusy.into()),
        Heard::Deaf => hub.deafness(),
    }
}

/// What is wrong with a viewer, the worst of it: that it is over, or not connected, then its camera and what
/// that does not hear, then its network, then what it lacks from the beginning.
fn diagnose(
    status: &Status,
    age: Duration,
    trouble: impl FnOnce() -> Option<Diagnosis>,
    lacks: &[Diagnosis],
) -> Option<Diagnosis> {
    match status.state {
        State::Ended(end) => return Some(end.verdict().into()),
        State::Connecting if status.path.is_none() && age >= PATH_LIMIT => {
            return Some(Verdict::PathBlocked.into());
        }
        State::Connecting => return trouble().or_else(|| lacks.first().cloned()),
        State::Connected => {}
    }
    if status.is_silent {
        return Some(Verdict::ViewerVanished.into());
    }
    let by_tcp = status.path.filter(|path| path.transport == Transport::Tcp);
    trouble()
        .or_else(|| status.is_slow.then(|| Verdict::SlowPath.into()))
        .or_else(|| by_tcp.map(|_| Verdict::MediaOverTcp.into()))
        .or_else(|| lacks.first().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::{ice::Path, status::End};

    fn path(transport: Transport) -> Path {
        Path {
            transport,
            remote: ([192, 0, 2, 1], 9).into(),
            local: None,
        }
    }

    #[test]
    fn who_speaks_and_is_not_heard_is_told_so() {
        let (_out, hub) = crate::hub::hub();
        let told = |speech| unheard(&hub, speech).map(|diagnosis| diagnosis.verdict);
        assert_eq!(told(Heard::Passed), None);
        assert_eq!(told(Heard::Busy), Some(Verdict::SpeakerBusy));
        // Nothing is known of a camera that has not been asked.
        assert_eq!(told(Heard::Deaf), None);
    }

    #[test]
    fn the_worst_is_told() {
        let status = Status {
            state: State::Connected,
            path: Some(path(Transport::Udp)),
            ..Status::default()
        };
        let lacks = [Verdict::BFrames.into(), Verdict::UnsupportedAudio.into()];
        let verdict = |status: Status, age, trouble: Option<Verdict>| {
            let told = diagnose(
                &status,
                Duration::from_secs(age),
                || trouble.map(Into::into),
                &lacks,
            );
            told.map(|diagnosis| diagnosis.verdict)
        };
        assert_eq!(verdict(status, 9, None), Some(Verdict::BFrames));
        let path = Some(path(Transport::Tcp));
        let tcp = Status { path, ..status };
        assert_eq!(verdict(tcp, 9, None), Some(Verdict::MediaOverTcp));
        let is_slow = true;
        let slow = Status { is_slow, ..tcp };
        assert_eq!(verdict(slow, 9, None), Some(Verdict::SlowPath));
        let stalled = Some(Verdict::Stalled);
        assert_eq!(verdict(slow, 9, stalled), stalled);
        let is_silent = true;
        let silent = Status { is_silent, ..slow };
        assert_eq!(verdict(silent, 9, stalled), Some(Verdict::ViewerVanished));
        let state = State::Ended(End::Refused);
        let refused = Status { state, ..silent };
        let told = verdict(refused, 9, stalled);
        assert_eq!(told, Some(Verdict::HandshakeFailed));
        let new = Status::default();
        assert_eq!(verdict(new, 4, None), Some(Verdict::BFrames));
        assert_eq!(verdict(new, 4, stalled), stalled);
        assert_eq!(verdict(new, 5, stalled), Some(Verdict::PathBlocked));
    }
}
