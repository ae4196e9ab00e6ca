//! [`Agent`]: what arrives, and which path is selected.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use rtc_stun::message::TRANSACTION_ID_SIZE;

use super::{
    Credentials, Event, Path, RELAYS_MAX, RemoteCandidate, SHARED_RELAYS, Transport,
    consent::Selected,
    credentials::Keys,
    pair::{Check, Generation, Pair},
    stun::{Class, Message, Role, Transaction, Writer},
};

/// Candidates that are kept per way of sending; more would make us a scanner.
const MAX_CANDIDATES: usize = 20;
/// Answers that wait to be sent, if nobody takes them.
const MAX_TRANSMITS: usize = 64;
/// How long a remote is looked for.
const CHECKING: Duration = Duration::from_secs(15);
/// Nominations closer to each other are meant as alternatives: RFC 5245 allows a controlling agent
/// to nominate with every check, and then the priority decides. Later ones are a change of mind.
const CHANGE_OF_MIND: Duration = Duration::from_secs(1);
/// An answer that is not older need not be asked for again when its path is selected.
const FRESH: Duration = Duration::from_secs(1);

const ROLE_CONFLICT: u16 = 487;

/// A request of ours that might still be answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) path: Path,
    pub(super) generation: Generation,
    pub(super) sent: Instant,
    pub(super) controlling: bool,
    /// With USE-CANDIDATE.
    pub(super) nominates: bool,
}

/// One side of an ICE session with one component (RFC 8445), without sockets and clocks.
///
/// After each call, take what [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event) have, and ask [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Agent {
    pub(super) keys: Keys,
    /// From a restart until it has led to a new selection.
    pub(super) previous: Option<Box<Keys>>,
    pub(super) controlling: bool,
    tie_breaker: u64,
    relays: Vec<u8>,
    pub(super) pairs: Vec<Pair>,
    pub(super) requests: Vec<Request>,
    /// The end of the search, while it goes on.
    pub(super) checking: Option<Instant>,
    /// Not to send another check before (Ta).
    pub(super) next_check: Instant,
    /// When the first pair became valid, while controlling.
    pub(super) valid_since: Option<Instant>,
    pub(super) selected: Option<Selected>,
    lost: bool,
    transmits: VecDeque<(Path, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Agent {
    /// Begins to look for the remote. `controlling` only if the remote is a lite agent, or if we
    /// made the offer.
    #[must_use]
    pub fn new(now: Instant, local: Credentials, remote: Credentials, controlling: bool) -> Self {
        Self {
            keys: Keys::new(local, remote),
            previous: None,
            controlling,
            tie_breaker: rand::random(),
            relays: Vec::new(),
            pairs: Vec::new(),
            requests: Vec::new(),
            checking: Some(now + CHECKING),
            next_check: now,
            valid_since: None,
            selected: None,
            lost: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes new credentials of both sides (RFC 8445 §9). The selected path goes on under the
    /// old ones until another is nominated.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        let keys = std::mem::replace(&mut self.keys, Keys::new(local, remote));
        let kept = match &mut self.selected {
            Some(selected) if selected.generation == Generation::Current => {
                selected.generation = Generation::Previous;
                self.previous = Some(Box::new(keys));
                (Generation::Current, Some(selected.path))
            }
            Some(selected) => (Generation::Previous, Some(selected.path)),
            None => {
                self.previous = None;
                (Generation::Previous, None)
            }
        };
        self.pairs
            .retain(|pair| (pair.generation, Some(pair.path)) == kept);
        self.requests
            .retain(|request| (request.generation, Some(request.path)) == kept);
        for pair in &mut self.pairs {
            pair.generation = Generation::Previous;
            pair.check = Check::Idle;
        }
        for request in &mut self.requests {
            request.generation = Generation::Previous;
        }
        self.lost = false;
        self.valid_since = None;
        self.checking = Some(now + CHECKING);
    }

    /// Learns of a candidate by signaling. Without effect once a path is selected.
    pub fn add_remote(&mut self, now: Instant, candidate: RemoteCandidate) {
        if candidate.transport != Transport::Udp || self.checking.is_none() {
            return;
        }
        let relays = self.relays.iter().copied().map(Transport::Relay);
        let transports: Vec<_> = std::iter::once(Transport::Udp).chain(relays).collect();
        for transport in transports {
            let path = Path {
                transport,
                remote: candidate.address,
                local: None,
            };
            self.signaled(path, candidate.priority);
        }
        self.send_checks(now);
    }

    /// Uses the relays with the numbers below `relays`.
    pub fn set_relays(&mut self, now: Instant, relays: u8) {
        for number in 0..relays {
            self.add_relay(now, number);
        }
    }

    /// Uses the relay with this number too, unless there are four: each remote candidate is checked
    /// through it as well.
    pub fn add_relay(&mut self, now: Instant, number: u8) {
        if self.relays.contains(&number) || self.relays.len() >= usize::from(RELAYS_MAX) {
            return;
        }
        self.relays.push(number);
        if self.checking.is_none() {
            return;
        }
        let direct: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.signaled && pair.path.transport == Transport::Udp)
            .map(|pair| (pair.path, pair.priority))
            .collect();
        for (path, priority) in direct {
            let path = Path {
                transport: Transport::Relay(number),
                local: None,
                ..path
            };
            self.signaled(path, priority);
        }
        self.send_checks(now);
    }

    /// The numbers of the relays that are used.
    #[must_use]
    pub fn relays(&self) -> &[u8] {
        &self.relays
    }

    /// Where the remote has been looked for or heard of.
    pub fn remotes(&self) -> impl Iterator<Item = IpAddr> {
        self.pairs.iter().map(|pair| pair.path.remote.ip())
    }

    /// Whether datagrams may come by this path: not through a relay that is somebody else's.
    fn is_open(&self, path: &Path) -> bool {
        match path.transport {
            Transport::Relay(number) => number < SHARED_RELAYS || self.relays.contains(&number),
            Transport::Udp | Transport::Tcp => true,
        }
    }

    fn signaled(&mut self, path: Path, priority: u32) {
        if let Some(index) = self.position(Generation::Current, &path) {
            // It was peer-reflexive so far; the remote knows better (RFC 8445 §7.3.1.3).
            let pair = &mut self.pairs[index];
            pair.signaled = true;
            pair.priority = priority;
        } else if self.kept(path.transport) < MAX_CANDIDATES {
            let mut pair = Pair::new(path, Generation::Current, priority);
            pair.signaled = true;
            pair.check = Check::Waiting;
            self.pairs.push(pair);
        }
    }

    /// Takes a datagram. `false` if it was dropped without any effect: not STUN, not for this agent,
    /// not authentic, or no answer to anything.
    pub fn handle(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        if self.lost || !self.is_open(&path) {
            return false;
        }
        let Some(message) = Message::parse(datagram) else {
            return false;
        };
        let taken = match message.class {
            Class::Request => self.handle_request(now, path, &message),
            Class::Success | Class::Error => self.handle_response(now, path, &message),
            Class::Indication => false,
        };
        if taken {
            self.send_checks(now);
        }
        taken
    }

    fn handle_request(&mut self, now: Instant, path: Path, message: &Message<'_>) -> bool {
        let username = message.username.unwrap_or_default();
        let previous = self.previous.as_deref();
        let (generation, keys) = if self.keys.matches(username) {
            (Generation::Current, &self.keys)
        } else if let Some(keys) = previous.filter(|keys| keys.matches(username)) {
            (Generation::Previous, keys)
        } else {
            return false;
        };
        if !message.is_authentic(&keys.ours) {
            return false;
        }
        if !message.unknown.is_empty() {
            let response = Writer::new(Class::Error, &message.transaction)
                .error(4, 20, "Unknown Attribute")
                .unknown_attributes(&message.unknown)
                .finish(&keys.ours);
            self.transmit(path, response);
            return true;
        }
        if let Some(role) = message.role
            && generation == Generation::Current
            && role.controlling == self.controlling
        {
            let ours_is_larger = self.tie_breaker >= role.tie_breaker;
            if ours_is_larger == self.controlling {
                let response = Writer::new(Class::Error, &message.transaction)
                    .error(4, 87, "Role Conflict")
                    .finish(&self.keys.ours);
                self.transmit(path, response);
                return true;
            }
            self.switch_role();
        }
        let keys = self.keys_of(generation);
        let response = Writer::new(Class::Success, &message.transaction)
            .mapped_address(path.remote)
            .finish(&keys.ours);
        self.transmit(path, response);
        if let Some(index) = self.learn(path, generation, message.priority.unwrap_or_default()) {
            self.pairs[index].heard = Some(now);
            self.react(now, index, path, message.use_candidate);
        }
        true
    }

    /// The pair behind an authentic request; made if there is none, as a peer-reflexive candidate.
    fn learn(&mut self, path: Path, generation: Generation, priority: u32) -> Option<usize> {
        if let Some(index) = self.position(generation, &path) {
            let pair = &mut self.pairs[index];
            // The remote may check two of our addresses from one of its own; what it nominates counts.
            if pair.nominated.is_none() || pair.path.local.is_none() {
                pair.path = path;
            }
            return Some(index);
        }
        if generation == Generation::Previous {
            return None;
        }
        if self.kept(path.transport) >= MAX_CANDIDATES {
            let selected = self.selected.as_ref().map(|s| (s.generation, s.path));
            let group = group(path.transport);
            let (oldest, _) = self
                .pairs
                .iter()
                .enumerate()
                .filter(|(_, pair)| {
                    group == self::group(pair.path.transport)
                        && Some((pair.generation, pair.path)) != selected
                })
                .min_by_key(|(_, pair)| (pair.answered.is_some(), pair.heard))?;
            self.pairs.remove(oldest);
        }
        self.pairs.push(Pair::new(path, generation, priority));
        Some(self.pairs.len() - 1)
    }

    /// What an authentic request leads to, besides the response.
    fn react(&mut self, now: Instant, index: usize, path: Path, use_candidate: bool) {
        let pair = &mut self.pairs[index];
        if pair.generation == Generation::Previous {
            return;
        }
        if !use_candidate || self.controlling {
            let wanted = self.checking.is_some() && pair.answered.is_none();
            let silent = self.selected.as_ref().is_some_and(|s| s.is_silent(now));
            if wanted || (silent && self.controlling) {
                pair.check = Check::Triggered;
            }
            return;
        }
        let moved = pair.path.local != path.local;
        pair.path = path;
        pair.nominated = Some(now);
        match &mut self.selected {
            // The request alone shows that the remote reaches us and knows our credentials. To
            // wait for our own check would cost a round trip.
            None => self.select(now, index),
            Some(selected) if selected.is(pair) => {
                selected.path = path;
                if moved {
                    self.events.push_back(Event::Selected(path));
                }
            }
            // While media flows a request is not enough: from a wrong address, it could be a copy.
            Some(_) => {
                pair.pending = true;
                pair.check = Check::Triggered;
            }
        }
    }

    fn handle_response(&mut self, now: Instant, path: Path, message: &Message<'_>) -> bool {
        let found = self
            .requests
            .iter()
            .position(|r| r.transaction == message.transaction && r.path == path);
        let Some(found) = found else { return false };
        let keys = self.keys_of(self.requests[found].generation);
        if !message.is_authentic(&keys.theirs) || !message.unknown.is_empty() {
            return false;
        }
        let request = self.requests.swap_remove(found);
        let Some(index) = self.position(request.generation, &path) else {
            return true;
        };
        if message.class == Class::Error {
            self.pairs[index].check = Check::Idle;
            if message.error == Some(ROLE_CONFLICT) && request.generation == Generation::Current {
                if request.controlling == self.controlling {
                    self.switch_role();
                }
                self.pairs[index].check = Check::Triggered;
            }
            return true;
        }
        self.pairs[index].answer(now, request.sent);
        self.answered(now, index, request.nominates);
        true
    }

    /// A pair has turned out to be valid, or still to be.
    fn answered(&mut self, now: Instant, index: usize, nominates: bool) {
        let pair = &mut self.pairs[index];
        let nominating = self.controlling && pair.nominated.is_some() && !nominates;
        if !nominating || self.checking.is_none() {
            pair.check = Check::Idle;
        }
        let silent = match &mut self.selected {
            Some(selected) if selected.is(pair) => {
                selected.consent(now);
                return;
            }
            Some(selected) => selected.is_silent(now),
            None => false,
        };
        let pending = std::mem::take(&mut pair.pending);
        if self.controlling {
            let pair = &mut self.pairs[index];
            if nominates {
                self.select(now, index);
            } else if silent {
                pair.nominated = Some(now);
                pair.check = Check::Triggered;
            } else if self.checking.is_some() {
                self.valid_since.get_or_insert(now);
                self.nominate(now);
            }
        } else if pair.nominated.is_some() && (silent || pending && self.supersedes(index)) {
            self.select(now, index);
        }
    }

    /// Whether a nominated and valid pair is to be preferred to the selected one.
    fn supersedes(&self, index: usize) -> bool {
        let Some((selected, of)) = self.selected_pair() else {
            return true;
        };
        let pair = &self.pairs[index];
        selected.generation == Generation::Previous
            || of.answered.is_none()
            || of.nominated.map(|at| at + CHANGE_OF_MIND) <= pair.nominated
            || pair.pair_priority(false) >= of.pair_priority(false)
    }

    /// From now on media goes there. Ordinary checks end, with or without success.
    fn select(&mut self, now: Instant, index: usize) {
        let pair = &mut self.pairs[index];
        pair.check = Check::Idle;
        pair.pending = false;
        let mut selected = Selected {
            path: pair.path,
            generation: Generation::Current,
            answered: now,
            asked: None,
            next: now,
        };
        if let Some(answered) = pair.answered.filter(|at| now < *at + FRESH) {
            selected.consent_from(answered);
        }
        let path = selected.path;
        self.selected = Some(selected);
        self.previous = None;
        self.end_checks();
        self.requests.retain(|request| request.path == path);
        self.requests.shrink_to_fit();
        self.events.push_back(Event::Selected(path));
        self.ask_consent(now);
    }

    /// No more ordinary checks; what never worked is forgotten.
    pub(super) fn end_checks(&mut self) {
        self.checking = None;
        self.valid_since = None;
        let selected = self.selected.as_ref();
        let previous = self.previous.is_some();
        self.pairs.retain(|pair| {
            selected.is_some_and(|selected| selected.is(pair))
                || pair.heard.is_some() && (previous || pair.generation == Generation::Current)
        });
        self.pairs.shrink_to_fit();
        for pair in &mut self.pairs {
            pair.check = Check::Idle;
            pair.pending = false;
        }
    }

    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.previous = None;
        self.checking = None;
        self.valid_since = None;
        self.selected = None;
        self.pairs = Vec::new();
        self.requests = Vec::new();
        self.transmits = VecDeque::new();
        self.events.push_back(Event::Lost);
    }

    fn switch_role(&mut self) {
        self.controlling = !self.controlling;
        self.valid_since = None;
        // What was nominated in the other role is void; what is selected stays.
        let selected = self.selected.as_ref();
        for pair in &mut self.pairs {
            if !selected.is_some_and(|selected| selected.is(pair)) {
                pair.nominated = None;
                pair.pending = false;
            }
        }
    }

    pub(super) fn position(&self, generation: Generation, path: &Path) -> Option<usize> {
        self.pairs
            .iter()
            .position(|pair| pair.generation == generation && pair.path == *path)
    }

    pub(super) fn selected_pair(&self) -> Option<(&Selected, &Pair)> {
        let selected = self.selected.as_ref()?;
        let pair = self.pairs.iter().find(|pair| selected.is(pair))?;
        Some((selected, pair))
    }

    pub(super) fn keys_of(&self, generation: Generation) -> &Keys {
        match (generation, &self.previous) {
            (Generation::Previous, Some(keys)) => keys,
            _ => &self.keys,
        }
    }

    fn kept(&self, transport: Transport) -> usize {
        self.pairs
            .iter()
            .filter(|pair| group(pair.path.transport) == group(transport))
            .count()
    }

    pub(super) fn role(&self) -> Role {
        Role {
            controlling: self.controlling,
            tie_breaker: self.tie_breaker,
        }
    }

    pub(super) fn transmit(&mut self, path: Path, message: Vec<u8>) {
        if self.transmits.len() == MAX_TRANSMITS {
            self.transmits.pop_front();
        }
        self.transmits.push_back((path, message));
    }

    /// The next datagram to be sent, and where.
    pub fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Where media goes.
    #[must_use]
    pub fn selected(&self) -> Option<Path> {
        self.selected.as_ref().map(|selected| selected.path)
    }

    /// Whether there is a selected path.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.selected.is_some()
    }

    /// Whether DTLS and SRTP from this path may be looked at: an authentic message came from it.
    #[must_use]
    pub fn accepts(&self, path: &Path) -> bool {
        self.pairs
            .iter()
            .any(|pair| pair.heard.is_some() && pair.path == *path)
    }

    /// The round trip time of the selected path, smoothed.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.selected_pair()?.1.rtt
    }

    /// For how long the remote has not answered on the selected path, although asked.
    #[must_use]
    pub fn unanswered(&self, now: Instant) -> Duration {
        let asked = self.selected.as_ref().and_then(|selected| selected.asked);
        asked.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked))
    }

    /// Our credentials, since the last restart.
    #[must_use]
    pub fn local(&self) -> &Credentials {
        &self.keys.local
    }
}

/// Candidates are counted for our own addresses together, and for each relay.
fn group(transport: Transport) -> Option<u8> {
    match transport {
        Transport::Udp | Transport::Tcp => None,
        Transport::Relay(number) => Some(number),
    }
}

pub(super) fn transaction() -> Transaction {
    rand::random::<[u8; TRANSACTION_ID_SIZE]>()
}
