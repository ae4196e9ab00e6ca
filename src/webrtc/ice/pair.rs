//! [`Pair`]: one path to the remote and the state of its checks.

use std::time::{Duration, Instant};

use super::{
    Path,
    candidate::{local_priority, pair_priority},
};

/// The first wait for a response to a check; doubles with each repetition.
const RTO: Duration = Duration::from_millis(250);
/// A check and five repetitions of it.
const MAX_SENT: u8 = 6;

/// Which credentials a pair belongs to (RFC 8445 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// Those of the last restart.
    Current,
    /// Those before it, while they still carry the media.
    Previous,
}

/// What becomes of a pair's connectivity check. Frozen does not occur: with one component and one
/// socket, nothing is gained by holding pairs back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing to do: it has succeeded, failed, or is not wanted any more.
    Idle,
    /// To be begun in the order of priorities.
    Waiting,
    /// To be begun before all that are waiting (RFC 8445 §6.1.4.1).
    Triggered,
    /// Sent so many times; to be repeated then.
    InProgress { sent: u8, next: Instant },
}

/// One path to the remote.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) path: Path,
    pub(super) generation: Generation,
    /// The priority of the remote's candidate.
    pub(super) priority: u32,
    /// The candidate came by signaling, not only with a request.
    pub(super) signaled: bool,
    pub(super) check: Check,
    /// The last time that an authentic message came.
    pub(super) heard: Option<Instant>,
    /// The last time that a request of ours was answered.
    pub(super) answered: Option<Instant>,
    /// The last nomination, by whichever side is controlling.
    pub(super) nominated: Option<Instant>,
    /// That nomination has no effect yet.
    pub(super) pending: bool,
    /// Smoothed as by RFC 6298.
    pub(super) rtt: Option<Duration>,
}

impl Pair {
    pub(super) fn new(path: Path, generation: Generation, priority: u32) -> Self {
        Self {
            path,
            generation,
            priority,
            signaled: false,
            check: Check::Idle,
            heard: None,
            answered: None,
            nominated: None,
            pending: false,
            rtt: None,
        }
    }

    pub(super) fn pair_priority(&self, controlling: bool) -> u64 {
        let local = local_priority(self.path.transport);
        pair_priority(controlling, local, self.priority)
    }

    /// A request was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        let before = match self.check {
            Check::InProgress { sent, .. } => sent,
            _ => 0,
        };
        self.check = Check::InProgress {
            sent: before + 1,
            next: now + RTO * (1 << before.min(MAX_SENT)),
        };
    }

    /// Whether the last repetition has had its time as well.
    pub(super) fn has_failed(&self, now: Instant) -> bool {
        matches!(self.check, Check::InProgress { sent: MAX_SENT.., next } if next <= now)
    }

    /// A request of ours that was sent at `sent` has been answered.
    pub(super) fn answer(&mut self, now: Instant, sent: Instant) {
        let sample = now.saturating_duration_since(sent);
        self.heard = Some(now);
        self.answered = Some(now);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
    }
}
