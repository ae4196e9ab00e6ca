//! An agent against a browser that is played by hand, and in `network` against another agent.

mod network;

use std::{
    mem::size_of,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use ring::hmac;
use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType};

use super::{
    pair::Pair,
    stun::{Class, Message, Role, Writer, key},
    *,
};

const WIFI: &str = "192.0.2.1:5001";
const MOBILE: &str = "198.51.100.7:6001";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn path(remote: &str) -> Path {
    Path {
        transport: Transport::Udp,
        remote: remote.parse().unwrap(),
        local: Some("203.0.113.1".parse().unwrap()),
    }
}

fn candidate(remote: &str, priority: u32) -> RemoteCandidate {
    RemoteCandidate {
        transport: Transport::Udp,
        address: remote.parse().unwrap(),
        priority,
        kind: Kind::Host,
    }
}

/// A browser: its messages are made here, and nothing happens by itself.
#[derive(Clone)]
struct Browser {
    own: Credentials,
    server: Credentials,
    role: Role,
    priority: u32,
    extra: Option<AttrType>,
    sent: u8,
}

impl Browser {
    fn new() -> (Self, Agent, Instant) {
        let now = Instant::now();
        let browser = Self {
            own: Credentials::random(),
            server: Credentials::random(),
            role: Role {
                controlling: true,
                tie_breaker: 0,
            },
            priority: 0x6e00_00ff,
            extra: None,
            sent: 0,
        };
        let agent = Agent::new(now, browser.server.clone(), browser.own.clone(), false);
        (browser, agent, now)
    }

    fn request(&mut self, use_candidate: bool) -> Vec<u8> {
        let username = format!("{}:{}", self.server.ufrag, self.own.ufrag);
        self.sent = self.sent.wrapping_add(1);
        let mut request = Writer::new(Class::Request, &[self.sent; 12])
            .attribute(ATTR_USERNAME, username.as_bytes())
            .attribute(ATTR_PRIORITY, &self.priority.to_be_bytes())
            .role(self.role);
        if use_candidate {
            request = request.attribute(ATTR_USE_CANDIDATE, &[]);
        }
        if let Some(kind) = self.extra {
            request = request.attribute(kind, &[1, 2, 3, 4]);
        }
        request.finish(&key(&self.server.password))
    }

    fn nominate(&mut self, agent: &mut Agent, now: Instant, remote: &str) {
        let request = self.request(true);
        assert!(agent.handle(now, path(remote), &request));
    }

    /// Answers what the agent has sent to one of these addresses; says how many requests that were.
    fn answer(&self, agent: &mut Agent, now: Instant, alive: &[&str]) -> usize {
        let mut answered = 0;
        while let Some((to, datagram)) = agent.poll_transmit() {
            let request = Message::parse(&datagram).unwrap();
            let here = alive.iter().any(|at| path(at) == to);
            if request.class != Class::Request || !here {
                continue;
            }
            let key = key(&self.own.password);
            assert!(request.is_authentic(&key));
            assert!(agent.handle(now, to, &success(&request, &key)));
            answered += 1;
        }
        answered
    }

    /// Lets time pass, answering from these addresses; until the agent has nothing more to do.
    fn run(&self, agent: &mut Agent, from: Instant, until: Instant, alive: &[&str]) {
        let mut now = from;
        self.answer(agent, now, alive);
        while let Some(next) = agent.next_timeout().filter(|next| *next <= until) {
            now = now.max(next);
            agent.handle_timeout(now);
            self.answer(agent, now, alive);
        }
    }
}

fn success(request: &Message<'_>, key: &hmac::Key) -> Vec<u8> {
    Writer::new(Class::Success, &request.transaction)
        .mapped_address("203.0.113.1:8556".parse().unwrap())
        .finish(key)
}

fn response_to(agent: &mut Agent) -> (Class, Option<u16>, Vec<u16>) {
    let ours = agent.local().password.clone();
    while let Some((_, datagram)) = agent.poll_transmit() {
        let message = Message::parse(&datagram).unwrap();
        if message.class != Class::Request {
            assert!(message.is_authentic(&key(&ours)));
            return (message.class, message.error, message.unknown);
        }
    }
    panic!("no response");
}

fn events(agent: &mut Agent) -> Vec<Event> {
    std::iter::from_fn(|| agent.poll_event()).collect()
}

#[test]
fn a_nomination_connects_without_another_round_trip() {
    let (mut browser, mut agent, now) = Browser::new();
    assert!(!agent.accepts(&path(WIFI)));
    let plain = browser.request(false);
    assert!(agent.handle(now, path(WIFI), &plain));
    assert!(agent.accepts(&path(WIFI)) && !agent.accepts(&path(MOBILE)));
    assert!(!agent.is_connected() && events(&mut agent).is_empty());

    browser.nominate(&mut agent, now, WIFI);
    assert_eq!(events(&mut agent), [Event::Selected(path(WIFI))]);
    assert_eq!(agent.selected().unwrap().local, path(WIFI).local);
    assert_eq!(agent.rtt(), None);
    let answered = browser.answer(&mut agent, now + millis(30), &[WIFI]);
    assert!(answered >= 1, "there is a check for consent");
    assert_eq!(agent.rtt(), Some(millis(30)));
}

#[test]
fn a_response_goes_back_the_way_the_request_came() {
    let (mut browser, mut agent, now) = Browser::new();
    let mapped = path("[::ffff:192.0.2.1]:5001");
    let request = browser.request(false);
    assert!(agent.handle(now, mapped, &request));
    let (to, _) = agent.poll_transmit().unwrap();
    assert_eq!((to.remote, to.local), (mapped.remote, mapped.local));
    assert_eq!(path(WIFI), mapped);
}

#[test]
fn what_is_not_authentic_is_neither_answered_nor_heeded() {
    let (mut browser, mut agent, now) = Browser::new();
    let mut stranger = browser.clone();
    stranger.server.password = Credentials::random().password;
    stranger.role.controlling = false;
    stranger.extra = Some(AttrType(0x7777));
    let mut other = browser.clone();
    other.own.ufrag = "other".to_owned();
    let good = browser.request(true);
    let mut unsigned = good[..good.len() - 32].to_vec();
    let length = u16::try_from(unsigned.len() - 20).unwrap();
    unsigned[2..4].copy_from_slice(&length.to_be_bytes());
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    let theirs = [stranger.request(true), other.request(true)];
    for datagram in theirs.iter().chain([&unsigned, &broken]) {
        assert!(!agent.handle(now, path(WIFI), datagram));
        assert_eq!(agent.poll_transmit(), None);
        assert!(!agent.accepts(&path(WIFI)) && !agent.is_connected());
    }
    assert!(!agent.controlling);
    assert!(agent.handle(now, path(WIFI), &good));
}

#[test]
fn responses_count_once_from_the_right_place_and_with_the_right_key() {
    let (browser, mut agent, now) = Browser::new();
    agent.add_remote(now, candidate(WIFI, 100));
    let (to, datagram) = agent.poll_transmit().unwrap();
    assert_eq!(to, path(WIFI));
    let request = Message::parse(&datagram).unwrap();
    let good = success(&request, &key(&browser.own.password));
    let forged = success(&request, &key(&browser.server.password));
    assert!(!agent.handle(now, path(WIFI), &forged));
    assert!(!agent.handle(now, path(MOBILE), &good));
    assert!(!agent.accepts(&path(WIFI)));
    assert!(agent.handle(now, path(WIFI), &good));
    assert!(agent.accepts(&path(WIFI)));
    assert!(!agent.handle(now, path(WIFI), &good), "it was answered");
}

#[test]
fn a_later_nomination_moves_the_media_once_our_check_succeeds() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.nominate(&mut agent, now, WIFI);
    browser.run(&mut agent, now, now + millis(3_000), &[WIFI]);
    events(&mut agent);

    browser.priority = 1;
    let later = now + millis(3_000);
    browser.nominate(&mut agent, later, MOBILE);
    // A copy of a request from a wrong address must not take the media there.
    browser.run(&mut agent, later, later + millis(500), &[WIFI]);
    assert_eq!(agent.selected(), Some(path(WIFI)));
    browser.nominate(&mut agent, later + millis(500), MOBILE);
    browser.run(
        &mut agent,
        later + millis(500),
        later + millis(600),
        &[WIFI, MOBILE],
    );
    assert_eq!(events(&mut agent), [Event::Selected(path(MOBILE))]);
    assert!(agent.accepts(&path(WIFI)), "what is on its way may arrive");
}

#[test]
fn of_nominations_at_the_same_time_the_better_one_wins() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.priority = 2_000;
    browser.nominate(&mut agent, now, WIFI);
    browser.priority = 1_000;
    browser.nominate(&mut agent, now + millis(100), MOBILE);
    browser.run(&mut agent, now, now + millis(900), &[WIFI, MOBILE]);
    assert_eq!(agent.selected(), Some(path(WIFI)));
    browser.priority = 3_000;
    let third = "192.0.2.1:5003";
    browser.nominate(&mut agent, now + millis(900), third);
    browser.run(&mut agent, now, now + millis(1_000), &[WIFI, MOBILE, third]);
    assert_eq!(agent.selected(), Some(path(third)));
}

#[test]
fn a_silent_path_is_left_for_another_that_was_nominated() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.priority = 1_000;
    browser.nominate(&mut agent, now, MOBILE);
    browser.run(&mut agent, now, now + millis(100), &[MOBILE]);
    browser.priority = 2_000;
    browser.nominate(&mut agent, now + millis(100), WIFI);
    browser.run(&mut agent, now, now + millis(2_000), &[WIFI, MOBILE]);
    assert_eq!(agent.selected(), Some(path(WIFI)));
    let gone = now + millis(2_000);
    browser.run(&mut agent, gone, gone + millis(10_500), &[MOBILE]);
    assert_eq!(agent.selected(), Some(path(MOBILE)));
    assert!(!events(&mut agent).contains(&Event::Lost));
}

#[test]
fn role_conflicts_are_settled_by_the_tie_breakers() {
    let (mut browser, mut agent, now) = Browser::new();
    // We are controlled and so is the remote, with the largest tie breaker there is: it stays.
    browser.role = Role {
        controlling: false,
        tie_breaker: u64::MAX,
    };
    let request = browser.request(false);
    assert!(agent.handle(now, path(WIFI), &request));
    assert_eq!(response_to(&mut agent).1, Some(487));
    assert!(!agent.controlling && !agent.accepts(&path(WIFI)));
    // With the smallest, we take control.
    browser.role.tie_breaker = 0;
    let request = browser.request(false);
    assert!(agent.handle(now, path(WIFI), &request));
    assert_eq!(response_to(&mut agent).0, Class::Success);
    assert!(agent.controlling);
    // And give it up to a larger one, but not to a smaller one.
    browser.role = Role {
        controlling: true,
        tie_breaker: 0,
    };
    let request = browser.request(true);
    assert!(agent.handle(now, path(WIFI), &request));
    assert_eq!(response_to(&mut agent).1, Some(487));
    assert!(agent.controlling && !agent.is_connected());
    browser.role.tie_breaker = u64::MAX;
    browser.nominate(&mut agent, now, WIFI);
    assert!(!agent.controlling && agent.is_connected());
}

#[test]
fn unknown_attributes_that_must_be_understood_are_refused() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.extra = Some(AttrType(0x7777));
    browser.nominate(&mut agent, now, WIFI);
    assert_eq!(response_to(&mut agent).1, Some(420));
    assert!(!agent.is_connected() && !agent.accepts(&path(WIFI)));
    browser.extra = Some(AttrType(0xc057));
    browser.nominate(&mut agent, now, WIFI);
    assert!(agent.is_connected());
}

#[test]
fn consent_is_asked_every_five_seconds_and_keeps_the_path() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.nominate(&mut agent, now, WIFI);
    browser.answer(&mut agent, now, &[WIFI]);
    let (mut asked, mut last) = (0, now);
    while let Some(next) = agent
        .next_timeout()
        .filter(|at| *at < now + millis(120_000))
    {
        agent.handle_timeout(next);
        asked += browser.answer(&mut agent, next, &[WIFI]);
        assert!((millis(4_000)..=millis(6_000)).contains(&(next - last)));
        last = next;
    }
    assert!((20..=30).contains(&asked));
    assert!(agent.is_connected());
}

#[test]
fn a_viewer_that_vanishes_is_lost_in_time_whatever_it_still_sends() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.nominate(&mut agent, now, WIFI);
    let gone = now + millis(20);
    browser.answer(&mut agent, gone, &[WIFI]);
    let (mut asked, mut lost) = (0, None);
    while let Some(next) = agent.next_timeout() {
        agent.handle_timeout(next);
        asked += std::iter::from_fn(|| agent.poll_transmit()).count();
        if events(&mut agent).contains(&Event::Lost) {
            lost = Some(next);
            break;
        }
        // Requests show that it can send, not that it wants to receive.
        let request = browser.request(false);
        assert!(agent.handle(next, path(WIFI), &request));
        assert_eq!(response_to(&mut agent).0, Class::Success);
    }
    assert_eq!(lost.unwrap() - gone, millis(13_000));
    assert!((7..=9).contains(&asked), "{asked}");
    assert_eq!(agent.next_timeout(), None);
    let request = browser.request(true);
    assert!(!agent.handle(gone + millis(14_000), path(WIFI), &request));
    assert!(!agent.is_connected() && !agent.accepts(&path(WIFI)));
}

#[test]
fn checks_are_paced_few_and_end() {
    let (_, mut agent, now) = Browser::new();
    agent.set_relays(now, 1);
    for number in 0..100_u32 {
        let remote = format!("192.0.2.{}:5000", number % 50);
        agent.add_remote(now, candidate(&remote, number));
    }
    assert_eq!(agent.pairs.len(), 40, "20 candidates on two ways");
    let mut sent = Vec::new();
    let mut at = now;
    loop {
        while let Some((to, _)) = agent.poll_transmit() {
            sent.push((at, to));
        }
        let Some(next) = agent.next_timeout() else {
            break;
        };
        at = next;
        agent.handle_timeout(at);
    }
    assert!(sent.windows(2).all(|two| two[1].0 - two[0].0 >= millis(50)));
    assert_eq!(sent.len(), 40 * 6);
    // What was told first is checked at once; then higher priorities first, and relays last.
    assert_eq!(sent[1].1, path("192.0.2.19:5000"));
    assert_eq!(sent[20].1.transport, Transport::Relay(0));
    assert_eq!(at, now + millis(15_000));
    assert_eq!(events(&mut agent), [Event::Lost]);
}

#[test]
fn relays_that_come_later_are_used_as_well() {
    let (_, mut agent, now) = Browser::new();
    agent.add_remote(now, candidate(WIFI, 100));
    agent.add_remote(now, candidate(WIFI, 100));
    agent.set_relays(now, 2);
    agent.set_relays(now, 2);
    assert_eq!(agent.pairs.len(), 3);
}

#[test]
fn a_lent_relay_is_open_to_the_agent_that_has_it_alone() {
    let (mut browser, mut agent, now) = Browser::new();
    let through = |number| Path {
        transport: Transport::Relay(number),
        ..path(WIFI)
    };
    let lent = SHARED_RELAYS + 3;
    let request = browser.request(true);
    assert!(!agent.handle(now, through(lent), &request));
    assert!(!agent.is_connected() && !agent.accepts(&through(lent)));
    agent.add_remote(now, candidate(WIFI, 100));
    agent.add_relay(now, lent);
    let ways: Vec<_> = agent.pairs.iter().map(|pair| pair.path).collect();
    assert_eq!(ways, [path(WIFI), through(lent)]);
    assert!(!agent.handle(now, through(lent + 1), &request));
    assert!(agent.handle(now, through(lent), &request));
    assert_eq!(agent.selected(), Some(through(lent)));
    for number in 0..20 {
        agent.add_relay(now, number);
    }
    assert_eq!(agent.relays().len(), usize::from(RELAYS_MAX));
}

#[test]
fn an_agent_that_nobody_answers_gives_up() {
    let (_, mut agent, now) = Browser::new();
    assert_eq!(agent.next_timeout(), Some(now + millis(15_000)));
    agent.handle_timeout(now + millis(14_999));
    assert!(events(&mut agent).is_empty());
    agent.handle_timeout(now + millis(15_000));
    assert_eq!(events(&mut agent), [Event::Lost]);
}

#[test]
fn addresses_without_end_do_not_fill_the_memory() {
    let (mut browser, mut agent, now) = Browser::new();
    browser.nominate(&mut agent, now, WIFI);
    for port in 1..=500 {
        let remote = format!("198.51.100.1:{port}");
        let request = browser.request(true);
        assert!(agent.handle(now + millis(port), path(&remote), &request));
    }
    assert_eq!(agent.pairs.len(), 20);
    assert!(agent.accepts(&path(WIFI)) && agent.accepts(&path("198.51.100.1:500")));
    assert!(agent.requests.len() < 30);
    assert!(std::iter::from_fn(|| agent.poll_transmit()).count() <= 64);
}

#[test]
fn a_connected_agent_is_small() {
    let (mut browser, mut agent, now) = Browser::new();
    for number in 0..20 {
        agent.add_remote(now, candidate(&format!("192.0.2.{number}:5000"), number));
    }
    browser.nominate(&mut agent, now, WIFI);
    browser.run(&mut agent, now, now + millis(60_000), &[WIFI]);
    let pairs = agent.pairs.capacity() * size_of::<Pair>();
    let requests = agent.requests.capacity() * size_of::<agent::Request>();
    let transmits = 4 * size_of::<(Path, Vec<u8>)>();
    let bytes = size_of::<Agent>() + pairs + requests + transmits;
    assert!(bytes < 2_048, "{bytes}: {} pairs", agent.pairs.len());
}

#[test]
fn a_restart_keeps_the_path_until_another_is_nominated() {
    let (mut old, mut agent, now) = Browser::new();
    old.nominate(&mut agent, now, WIFI);
    old.run(&mut agent, now, now + millis(1_000), &[WIFI]);
    events(&mut agent);

    let now = now + millis(1_000);
    let mut new = old.clone();
    (new.own, new.server) = (Credentials::random(), Credentials::random());
    agent.restart(now, new.server.clone(), new.own.clone());
    assert_eq!(agent.local(), &new.server);
    assert_eq!(agent.selected(), Some(path(WIFI)));
    // The old path is still answered and asked under its own names.
    let request = old.request(true);
    assert!(agent.handle(now, path(WIFI), &request));
    old.run(&mut agent, now, now + millis(10_000), &[WIFI]);
    assert!(agent.is_connected() && events(&mut agent).is_empty());
    // The same path again, under the new ones.
    let now = now + millis(10_000);
    new.nominate(&mut agent, now, WIFI);
    new.answer(&mut agent, now, &[WIFI]);
    assert_eq!(events(&mut agent), [Event::Selected(path(WIFI))]);
    let request = old.request(true);
    assert!(!agent.handle(now, path(WIFI), &request));
    new.run(&mut agent, now, now + millis(60_000), &[WIFI]);
    assert!(agent.is_connected());
}

#[test]
fn a_restart_that_leads_nowhere_leaves_the_old_path() {
    let (mut old, mut agent, now) = Browser::new();
    old.nominate(&mut agent, now, WIFI);
    old.run(&mut agent, now, now + millis(1_000), &[WIFI]);
    let now = now + millis(1_000);
    for _ in 0..2 {
        agent.restart(now, Credentials::random(), Credentials::random());
    }
    old.run(&mut agent, now, now + millis(60_000), &[WIFI]);
    assert_eq!(agent.selected(), Some(path(WIFI)));
    old.run(&mut agent, now, now + millis(80_000), &[]);
    assert_eq!(events(&mut agent).last(), Some(&Event::Lost));
}

#[test]
fn a_lite_remote_that_sends_no_checks_is_reached() {
    let (mut browser, _, now) = Browser::new();
    let mut agent = Agent::new(now, browser.server.clone(), browser.own.clone(), true);
    browser.role.controlling = false;
    agent.add_remote(now, candidate(WIFI, 2_000));
    agent.add_remote(now, candidate(MOBILE, 1_000));
    browser.run(&mut agent, now, now + millis(99), &[MOBILE]);
    assert!(!agent.is_connected(), "the better pair has its chance");
    browser.run(&mut agent, now, now + millis(300), &[MOBILE]);
    assert_eq!(events(&mut agent), [Event::Selected(path(MOBILE))]);
}

#[test]
fn junk_breaks_nothing() {
    let (mut browser, mut agent, now) = Browser::new();
    let mut random = SmallRng::seed_from_u64(7_675);
    browser.nominate(&mut agent, now, WIFI);
    let mut models = vec![browser.request(true), browser.request(false)];
    models.extend(std::iter::from_fn(|| agent.poll_transmit()).map(|(_, datagram)| datagram));
    for round in 0..20_000 {
        let mut junk = models[round % models.len()].clone();
        if random.random_bool(0.5) {
            junk.truncate(random.random_range(0..junk.len()));
        }
        for _ in 0..random.random_range(1..4) {
            if let Some(last) = junk.len().checked_sub(1) {
                junk[random.random_range(0..=last)] ^= random.random_range(1..=255);
            }
        }
        agent.handle(now, path(MOBILE), &junk);
    }
    assert_eq!(agent.selected(), Some(path(WIFI)));
}
