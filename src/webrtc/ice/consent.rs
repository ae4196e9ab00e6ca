//! [`Selected`]: whether the remote still wants what is sent to it (RFC 7675).

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{
    Path,
    agent::Agent,
    pair::{Check, Generation, Pair},
};

/// Without an answer for so long, consent ends. RFC 7675 allows 30 s; a viewer that vanished holds
/// resources until then.
pub(super) const CONSENT: Duration = Duration::from_secs(13);
/// Between an answer and the next question, in milliseconds: RFC 7675 §5.1 wants 5 s ± 20 %.
const CONSENT_INTERVAL: RangeInclusive<u64> = 4_000..=6_000;
/// Between questions that are not answered.
const CONSENT_REPEAT: Duration = Duration::from_secs(1);
/// The same, in the first second of a path that has never answered.
const FIRST_REPEAT: Duration = Duration::from_millis(250);
/// The selected path is left for another nominated one if it answers nothing for so long.
const SILENCE: Duration = Duration::from_secs(3);

/// The path that carries the media, and the remote's consent to that (RFC 7675).
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) path: Path,
    pub(super) generation: Generation,
    /// Consent is from here on; only responses count.
    pub(super) answered: Instant,
    /// The first request since then.
    pub(super) asked: Option<Instant>,
    /// When to ask again.
    pub(super) next: Instant,
}

impl Selected {
    /// Whether it goes over this pair.
    pub(super) fn is(&self, pair: &Pair) -> bool {
        self.generation == pair.generation && self.path == pair.path
    }

    /// A question was answered.
    pub(super) fn consent(&mut self, now: Instant) {
        if self.asked.is_some() {
            self.consent_from(now);
        } else {
            self.answered = now;
        }
    }

    /// The last answer came at this time; the next question has time.
    pub(super) fn consent_from(&mut self, answered: Instant) {
        self.answered = answered;
        self.asked = None;
        let interval = rand::rng().random_range(CONSENT_INTERVAL);
        self.next = answered + Duration::from_millis(interval);
    }

    /// When to ask, or to notice that consent has ended.
    pub(super) fn next_timeout(&self) -> Instant {
        self.next.min(self.answered + CONSENT)
    }

    /// Whether it has answered nothing for a while, although asked.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now >= asked + SILENCE)
    }
}

impl Agent {
    /// Asks for consent on the selected path, or notices that it has ended.
    pub(super) fn ask_consent(&mut self, now: Instant) {
        let Some((selected, pair)) = self.selected_pair() else {
            return;
        };
        if now >= selected.answered + CONSENT {
            self.lose();
            return;
        }
        if now < selected.next {
            return;
        }
        let asked = selected.asked.unwrap_or(now);
        let wait = if pair.answered.is_none() && now < asked + CONSENT_REPEAT {
            FIRST_REPEAT
        } else {
            CONSENT_REPEAT
        };
        let (generation, path) = (selected.generation, selected.path);
        if let Some(selected) = &mut self.selected {
            selected.asked.get_or_insert(now);
            selected.next = now + wait;
            if selected.is_silent(now) {
                self.look_elsewhere();
            }
        }
        if let Some(index) = self.position(generation, &path) {
            self.request(now, index, false);
        }
    }

    /// Checks the paths that may replace the selected one.
    fn look_elsewhere(&mut self) {
        let selected = self.selected.as_ref();
        for pair in &mut self.pairs {
            let eligible = pair.nominated.is_some() || self.controlling && pair.heard.is_some();
            if eligible && !selected.is_some_and(|selected| selected.is(pair)) {
                pair.check = Check::Triggered;
            }
        }
    }
}
