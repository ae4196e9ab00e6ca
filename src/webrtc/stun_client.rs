//! [`StunKeeper`]: learns from STUN servers by which address the media port is seen outside, and
//! keeps that address alive ([RFC 8489]); and asks those that offers bring. Without a socket or a clock
//! of its own.
//!
//! [RFC 8489]: https://datatracker.ietf.org/doc/html/rfc8489

mod question;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rtc_stun::{
    addr::MappedAddress,
    attributes::ATTR_MAPPED_ADDRESS,
    message::{
        BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, TransactionId,
        is_stun_message,
    },
    xoraddr::XorMappedAddress,
};

use tokio::sync::watch;

use self::question::Questions;
pub use self::question::Reply;
use super::addresses::Addresses;

/// How often a server is asked that answers. Home routers forget a UDP port after 30 s or more.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long an answer may take before the request is sent again.
const RETRANSMIT: Duration = Duration::from_millis(500);

/// How often a request is sent before the server counts as silent.
const SENDS_MAX: u8 = 6;

/// How soon a silent server is asked again.
const RETRY: Duration = Duration::from_secs(30);

/// Binding requests to every STUN server, through the media socket.
#[derive(Debug)]
pub struct StunKeeper {
    addresses: Addresses,
    servers: Vec<Server>,
    questions: Questions,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    mapped: Option<SocketAddr>,
    /// The request that waits for its answer, and how often it was sent.
    pending: Option<(TransactionId, u8)>,
    next: Instant,
}

impl Server {
    /// The datagram that is due.
    fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let (id, sent) = match self.pending {
            Some((_, SENDS_MAX)) => {
                if self.mapped.take().is_some() {
                    tracing::warn!(server = %self.address, "the STUN server is silent");
                }
                self.pending = None;
                self.next = now + RETRY;
                return None;
            }
            Some(pending) => pending,
            None => (TransactionId(rand::random()), 0),
        };
        let mut request = Message::new();
        request
            .build(&[Box::new(id), Box::new(BINDING_REQUEST)])
            .ok()?;
        self.pending = Some((id, sent + 1));
        self.next = now + RETRANSMIT;
        Some(request.raw)
    }

    fn answered(&mut self, now: Instant, response: &Message) {
        self.pending = None;
        let mapped = mapped_address(response);
        self.next = now + if mapped.is_some() { KEEP_ALIVE } else { RETRY };
        if self.mapped != mapped {
            tracing::debug!(server = %self.address, ?mapped, "the media port as seen outside");
        }
        self.mapped = mapped;
    }
}

impl StunKeeper {
    /// Asks the servers that `addresses` knows, and tells it what they say.
    #[must_use]
    pub fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            servers: Vec::new(),
            questions: Questions::default(),
        }
    }

    /// The next datagram to send by now, and to which server. To be called until there is none, four
    /// times a second or so: names that were looked up since the last call are taken up too.
    pub fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.take_up_servers(now);
        let due = self
            .servers
            .iter_mut()
            .find_map(|server| Some((server.address, server.poll(now)?)));
        if due.is_none() {
            self.tell();
        }
        due.or_else(|| self.questions.poll(now))
    }

    /// Asks a server that an offer has brought, unless that was done lately: four times at most, within
    /// two seconds. None when too many others have been asked.
    pub fn ask(&mut self, now: Instant, server: SocketAddr) -> Option<watch::Receiver<Reply>> {
        self.questions.ask(now, server)
    }

    /// Takes a datagram that the media socket received. True when it was for us; then it is nothing
    /// for anyone else.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.questions.handle(from, datagram) {
            return true;
        }
        let from = canonical(from);
        let Some(server) = self.servers.iter_mut().find(|s| s.address == from) else {
            return false;
        };
        let Some((pending, _)) = server.pending else {
            return false;
        };
        let Some(response) = binding_response(datagram, pending) else {
            return false;
        };
        server.answered(now, &response);
        self.tell();
        true
    }

    fn take_up_servers(&mut self, now: Instant) {
        let wanted = self.addresses.stun_servers();
        self.servers
            .retain(|server| wanted.contains(&server.address));
        for address in wanted {
            if !self.servers.iter().any(|server| server.address == address) {
                self.servers.push(Server {
                    address,
                    mapped: None,
                    pending: None,
                    next: now,
                });
            }
        }
    }

    fn tell(&self) {
        let mut mapped: Vec<SocketAddr> = Vec::new();
        for address in self.servers.iter().filter_map(|server| server.mapped) {
            if !mapped.contains(&address) {
                mapped.push(address);
            }
        }
        self.addresses.set_mapped(mapped);
    }
}

/// The answer to the request `id`, if `datagram` is that.
fn binding_response(datagram: &[u8], id: TransactionId) -> Option<Message> {
    if !is_stun_message(datagram) {
        return None;
    }
    let mut response = Message::new();
    response.unmarshal_binary(datagram).ok()?;
    let is_answer =
        response.transaction_id == id && [BINDING_SUCCESS, BINDING_ERROR].contains(&response.typ);
    is_answer.then_some(response)
}

/// What a success says; none for an address that nobody can send to, and for an error.
fn mapped_address(response: &Message) -> Option<SocketAddr> {
    let mut xored = XorMappedAddress::default();
    let address = if response.typ != BINDING_SUCCESS {
        return None;
    } else if xored.get_from(response).is_ok() {
        SocketAddr::new(xored.ip, xored.port)
    } else {
        // From servers of RFC 3489.
        let mut plain = MappedAddress::default();
        plain.get_from_as(response, ATTR_MAPPED_ADDRESS).ok()?;
        SocketAddr::new(plain.ip, plain.port)
    };
    let ip = address.ip();
    let is_usable = !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0;
    is_usable.then(|| canonical(address))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use rtc_stun::message::Setter;

    use super::*;
    use crate::{
        config::{Config, Layer},
        webrtc::addresses::Bound,
    };

    const SERVER: &str = "192.0.2.1:3478";

    fn keeper() -> (StunKeeper, Addresses) {
        let text = "media_addresses: ['stun:192.0.2.1']";
        let config = Config::from_layers([Layer::parse(text).unwrap()]).unwrap();
        let addresses = Addresses::new(&config);
        (StunKeeper::new(addresses.clone()), addresses)
    }

    fn has(addresses: &Addresses, line: &str) -> bool {
        let bound = Bound::at("0.0.0.0:8555".parse().unwrap());
        let all = addresses.candidates(bound, None);
        all.iter().any(|one| one.to_string().contains(line))
    }

    pub(super) fn response(request: &[u8], attribute: Box<dyn Setter>) -> Vec<u8> {
        let mut asked = Message::new();
        asked.unmarshal_binary(request).unwrap();
        let mut response = Message::new();
        response
            .build(&[
                Box::new(asked.transaction_id),
                Box::new(BINDING_SUCCESS),
                attribute,
            ])
            .unwrap();
        response.raw
    }

    pub(super) fn mapped(port: u16) -> Box<dyn Setter> {
        let ip = "203.0.113.7".parse().unwrap();
        Box::new(XorMappedAddress { ip, port })
    }

    #[test]
    fn an_answer_becomes_a_candidate_and_is_asked_for_again_in_twenty_seconds() {
        let (mut keeper, addresses) = keeper();
        let start = Instant::now();
        let (to, request) = keeper.poll(start).unwrap();
        assert_eq!(to.to_string(), SERVER);
        assert!(keeper.poll(start).is_none());
        let from = "[::ffff:192.0.2.1]:3478".parse().unwrap();
        assert!(keeper.handle(start, from, &response(&request, mapped(40_000))));
        assert!(has(&addresses, "203.0.113.7 40000 typ srflx"));
        assert!(keeper.poll(start + KEEP_ALIVE / 2).is_none());
        let (_, again) = keeper.poll(start + KEEP_ALIVE).unwrap();
        assert_ne!(again, request);
    }

    #[test]
    fn a_silent_server_is_asked_six_times_and_again_after_half_a_minute() {
        let (mut keeper, addresses) = keeper();
        let mut now = Instant::now();
        let (_, request) = keeper.poll(now).unwrap();
        let from = SERVER.parse().unwrap();
        assert!(keeper.handle(now, from, &response(&request, mapped(1))));
        let mut sent = Vec::new();
        let start = now;
        while now < start + Duration::from_mins(1) {
            sent.extend(keeper.poll(now).map(|_| (now - start).as_millis()));
            now += Duration::from_millis(100);
        }
        let (asked, retried) = sent.split_at(6);
        assert_eq!(asked, [20_000, 20_500, 21_000, 21_500, 22_000, 22_500]);
        assert_eq!(retried[0], 53_000);
        assert!(!has(&addresses, "srflx"));
    }

    #[test]
    fn what_is_no_answer_is_left_to_others() {
        let (mut keeper, addresses) = keeper();
        let now = Instant::now();
        let from: SocketAddr = SERVER.parse().unwrap();
        let (_, request) = keeper.poll(now).unwrap();
        let good = response(&request, mapped(40_000));
        let stranger = "192.0.2.2:3478".parse().unwrap();
        assert!(!keeper.handle(now, stranger, &good));
        let mut forged = good.clone();
        forged[10] ^= 1;
        assert!(!keeper.handle(now, from, &forged));
        assert!(!keeper.handle(now, from, &good[..good.len() - 1]));
        assert!(!keeper.handle(now, from, b""));
        assert!(!keeper.handle(now, from, &request));
        assert!(!has(&addresses, "srflx"));
        assert!(keeper.handle(now, from, &good));
        assert!(!keeper.handle(now, from, &good), "only once");
        let unusable = "0.0.0.0:0".parse::<SocketAddr>().unwrap();
        let (_, request) = keeper.poll(now + KEEP_ALIVE).unwrap();
        let (ip, port) = (unusable.ip(), unusable.port());
        let bad = response(&request, Box::new(XorMappedAddress { ip, port }));
        assert!(keeper.handle(now, from, &bad));
        assert!(!has(&addresses, "srflx"));
    }
}
