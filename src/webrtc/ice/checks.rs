//! What an agent sends and when: checks (RFC 8445 §6.1.4, §7.2) and nominations (§8.1.1).

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};

use super::{
    agent::{Agent, Request, transaction},
    candidate::reflexive_priority,
    consent::{CONSENT, Selected},
    pair::{Check, Generation, Pair},
    stun::{Class, Writer},
};

/// Between two checks, whatever they are for.
const TA: Duration = Duration::from_millis(50);
/// How long a controlling agent waits for a better pair once it has a valid one.
const PATIENCE: Duration = Duration::from_millis(50);

impl Agent {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.checking.is_some_and(|end| now >= end) {
            self.end_checks();
            if self.selected.is_none() {
                self.lose();
            }
        }
        self.ask_consent(now);
        self.nominate(now);
        self.send_checks(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, unless something arrives
    /// before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let consent = self.selected.as_ref().map(Selected::next_timeout);
        let nomination = self.valid_since.filter(|_| !self.is_nominating());
        let check = self.pairs.iter().filter_map(|pair| match pair.check {
            Check::Idle => None,
            Check::Waiting | Check::Triggered => Some(self.next_check),
            Check::InProgress { next, .. } => Some(next.max(self.next_check)),
        });
        let others = [self.checking, consent, nomination.map(|at| at + PATIENCE)];
        check.chain(others.into_iter().flatten()).min()
    }

    /// Whether we have nominated a pair and wait for the answer.
    fn is_nominating(&self) -> bool {
        self.pairs.iter().any(|pair| {
            pair.generation == Generation::Current
                && pair.nominated.is_some()
                && pair.check != Check::Idle
        })
    }

    /// While controlling: nominates the best valid pair, if no better one is to be expected.
    pub(super) fn nominate(&mut self, now: Instant) {
        let Some(since) = self.valid_since else {
            return;
        };
        if !self.controlling || self.is_nominating() {
            return;
        }
        let rank = |pair: &Pair| pair.pair_priority(true);
        let current = |pair: &&mut Pair| pair.generation == Generation::Current;
        let hoped = self
            .pairs
            .iter_mut()
            .filter(current)
            .filter(|pair| pair.answered.is_none() && pair.check != Check::Idle)
            .map(|pair| rank(pair))
            .max();
        let best = self
            .pairs
            .iter_mut()
            .filter(current)
            .filter(|pair| pair.answered.is_some())
            .max_by_key(|pair| rank(pair));
        let Some(best) = best else {
            self.valid_since = None;
            return;
        };
        if now >= since + PATIENCE || hoped.is_none_or(|hoped| hoped < rank(best)) {
            best.nominated = Some(now);
            best.check = Check::Triggered;
        }
    }

    /// Sends one check, if Ta has passed and there is one to be sent.
    pub(super) fn send_checks(&mut self, now: Instant) {
        for pair in &mut self.pairs {
            if pair.has_failed(now) {
                pair.check = Check::Idle;
                if self.controlling {
                    // Neither is it valid any more, nor a nomination to wait for.
                    pair.nominated = None;
                    pair.answered = None;
                }
            }
        }
        if now < self.next_check {
            return;
        }
        let urgency = |pair: &Pair| match pair.check {
            Check::Triggered => Some((2, Reverse(now))),
            Check::Waiting => Some((1, Reverse(now))),
            Check::InProgress { next, .. } if next <= now => Some((0, Reverse(next))),
            Check::InProgress { .. } | Check::Idle => None,
        };
        let due = self.pairs.iter().enumerate().filter_map(|(index, pair)| {
            let rank = (pair.nominated, pair.pair_priority(self.controlling));
            urgency(pair).map(|urgency| (urgency, rank, index))
        });
        let Some((_, _, index)) = due.max() else {
            return;
        };
        let pair = &mut self.pairs[index];
        pair.sent(now);
        let nominates = self.controlling && pair.nominated.is_some();
        self.next_check = now + TA;
        self.request(now, index, nominates);
    }

    pub(super) fn request(&mut self, now: Instant, index: usize, nominates: bool) {
        let pair = &self.pairs[index];
        let (path, generation) = (pair.path, pair.generation);
        let keys = self.keys_of(generation);
        let transaction = transaction();
        let priority = reflexive_priority(path.transport);
        let mut request = Writer::new(Class::Request, &transaction)
            .attribute(ATTR_USERNAME, keys.username().as_bytes())
            .attribute(ATTR_PRIORITY, &priority.to_be_bytes())
            .role(self.role());
        if nominates {
            request = request.attribute(ATTR_USE_CANDIDATE, &[]);
        }
        let request = request.finish(&keys.theirs);
        self.transmit(path, request);
        self.requests.retain(|request| now < request.sent + CONSENT);
        self.requests.push(Request {
            transaction,
            path,
            generation,
            sent: now,
            controlling: self.controlling,
            nominates,
        });
    }
}
