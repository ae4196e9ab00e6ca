//! [`Allocation`]: one allocation on a TURN server ([RFC 8656]). Without a socket or a clock.
//!
//! [RFC 8656]: https://datatracker.ietf.org/doc/html/rfc8656

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_stun::{
    attributes::{ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME},
    error_code::{
        CODE_FORBIDDEN, CODE_STALE_NONCE, CODE_UNAUTHORIZED, CODE_WRONG_CREDENTIALS, ErrorCode,
        ErrorCodeAttribute,
    },
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{
        CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter,
        METHOD_ALLOCATE, METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA,
        METHOD_REFRESH, METHOD_SEND, Message, MessageType, Method, Setter, TransactionId,
        is_stun_message,
    },
    textattrs::{Nonce, Realm, Username},
};
use rtc_turn::proto::{
    PROTO_UDP, channum::ChannelNumber, data::Data, lifetime::Lifetime, peeraddr::PeerAddress,
    relayaddr::RelayedAddress, reqtrans::RequestedTransport,
};

use super::peers::{Peers, Work};
use crate::base::Credentials;

/// How often the allocation is refreshed at most: it also keeps the way to the server open through
/// routers, and tells soon when the server has forgotten us.
const REFRESH_EVERY: Duration = Duration::from_secs(25);

/// When a request over UDP is sent again, counted from the time before, and given up at last.
const RETRANSMITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(3),
];

/// How long a request over TCP may take.
const RELIABLE_LIMIT: Duration = Duration::from_secs(9);

/// How often one request is repeated because the server wants another nonce.
const NONCES_MAX: u8 = 3;

/// Requests at once. Each peer has two at most, so this holds off a server that never answers.
const TRANSACTIONS_MAX: usize = 600;

/// Why there is no allocation any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server refuses; it will do so next time too.
    Refused(String),
    /// It may work next time.
    Lost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Allocate,
    Refresh,
    Permit(IpAddr),
    Bind(SocketAddr, u16),
}

struct Transaction {
    request: Request,
    datagram: Bytes,
    /// How often it was sent.
    sent: usize,
    nonces: u8,
    next: Instant,
}

/// What the server told for signing requests.
struct Login {
    realm: Realm,
    nonce: Nonce,
    key: Vec<u8>,
}

pub(super) struct Allocation {
    credentials: Credentials,
    crypto: Arc<dyn RTCCryptoProvider>,
    /// Whether requests get lost on the way.
    is_udp: bool,
    login: Option<Login>,
    transactions: HashMap<TransactionId, Transaction>,
    relayed: Option<SocketAddr>,
    refresh_at: Instant,
    refresh_every: Duration,
    peers: Peers,
    out: VecDeque<Bytes>,
    fault: Option<Fault>,
}

impl Allocation {
    /// Asks for an allocation; [`Self::poll_transmit`] has the request.
    pub(super) fn new(
        now: Instant,
        credentials: Credentials,
        crypto: Arc<dyn RTCCryptoProvider>,
        is_udp: bool,
    ) -> Self {
        let mut new = Self {
            credentials,
            crypto,
            is_udp,
            login: None,
            transactions: HashMap::new(),
            relayed: None,
            refresh_at: now,
            refresh_every: REFRESH_EVERY,
            peers: Peers::default(),
            out: VecDeque::new(),
            fault: None,
        };
        new.request(now, Request::Allocate, 0);
        new
    }

    /// The address that the server has for us.
    pub(super) fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    /// Why this allocation is of no more use.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The next datagram for the server.
    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        let transactions = self.transactions.values().map(|pending| pending.next);
        let own = self.relayed.map(|_| self.refresh_at);
        let peers = self.relayed.and_then(|_| self.peers.next_work());
        let first = transactions.chain(own).chain(peers).min();
        first.unwrap_or(self.refresh_at)
    }

    /// Does what is due by now.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        for (id, pending) in &mut self.transactions {
            if pending.next > now {
                continue;
            }
            match RETRANSMITS.get(pending.sent) {
                Some(wait) if self.is_udp => {
                    pending.sent += 1;
                    pending.next = now + *wait;
                    self.out.push_back(pending.datagram.clone());
                }
                _ => given_up.push((*id, pending.request)),
            }
        }
        for (id, request) in given_up {
            self.transactions.remove(&id);
            match request {
                Request::Allocate | Request::Refresh => {
                    self.fail(Fault::Lost("it does not answer".to_owned()));
                }
                Request::Permit(ip) => self.peers.permit_failed(now, ip),
                Request::Bind(peer, _) => self.peers.bind_failed(now, peer),
            }
        }
        if self.relayed.is_none() {
            return;
        }
        if now >= self.refresh_at {
            self.refresh_at = now + self.refresh_every;
            self.request(now, Request::Refresh, 0);
        }
        for work in self.peers.work(now) {
            self.begin(now, work);
        }
    }

    /// Lets `ip` send to us through the relay, as long as data goes to and fro.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) {
        let Some(relayed) = self.relayed else { return };
        // Every relay has addresses of one family only.
        if relayed.is_ipv4() == ip.is_ipv4()
            && let Some(work) = self.peers.permit(now, ip)
        {
            self.begin(now, work);
        }
    }

    /// Sends `data` to `peer` through the relay; permits it first if need be. What is sent before
    /// the permission is there gets lost.
    pub(super) fn send(&mut self, now: Instant, peer: SocketAddr, data: &[u8]) {
        self.permit(now, peer.ip());
        if !self.peers.is_permitted(peer.ip()) {
            return;
        }
        let (channel, work) = self.peers.sending(now, peer);
        if let Some(work) = work {
            self.begin(now, work);
        }
        let Ok(length) = u16::try_from(data.len()) else {
            return;
        };
        if let Some(number) = channel {
            let mut datagram = Vec::with_capacity(data.len() + 7);
            datagram.extend_from_slice(&number.to_be_bytes());
            datagram.extend_from_slice(&length.to_be_bytes());
            datagram.extend_from_slice(data);
            if !self.is_udp {
                // RFC 8656 §12.5: only a stream needs the padding.
                datagram.resize(datagram.len().next_multiple_of(4), 0);
            }
            self.out.push_back(datagram.into());
            return;
        }
        let (ip, port) = (peer.ip(), peer.port());
        let mut message = Message::new();
        let built = message.build(&[
            Box::new(TransactionId(rand::random())),
            Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
            Box::new(PeerAddress { ip, port }),
            Box::new(Data(data.to_vec())),
        ]);
        if built.is_ok() {
            self.out.push_back(message.raw.into());
        }
    }

    /// Takes what the server sent; tells what a peer sent through it.
    pub(super) fn handle(&mut self, now: Instant, datagram: &Bytes) -> Option<(SocketAddr, Bytes)> {
        if !is_stun_message(datagram) {
            let number = u16::from_be_bytes(datagram.get(..2)?.try_into().ok()?);
            let length = u16::from_be_bytes(datagram.get(2..4)?.try_into().ok()?);
            let end = 4 + usize::from(length);
            let peer = self.peers.received_on(now, number)?;
            return (end <= datagram.len()).then(|| (peer, datagram.slice(4..end)));
        }
        let mut message = Message::new();
        message.unmarshal_binary(datagram).ok()?;
        if message.typ == MessageType::new(METHOD_DATA, CLASS_INDICATION) {
            let mut peer = PeerAddress::default();
            let mut data = Data::default();
            peer.get_from(&message).ok()?;
            data.get_from(&message).ok()?;
            let peer = SocketAddr::new(peer.ip, peer.port);
            return self
                .peers
                .received_from(now, peer)
                .then(|| (peer, data.0.into()));
        }
        self.answered(now, message);
        None
    }

    /// Gives the allocation back. The answer is of no interest.
    pub(super) fn release(&mut self) {
        if self.relayed.take().is_some()
            && let Some(message) = self.message(METHOD_REFRESH, Box::new(Lifetime(Duration::ZERO)))
        {
            self.out.push_back(message.raw.into());
        }
    }

    fn begin(&mut self, now: Instant, work: Work) {
        let request = match work {
            Work::Permit(ip) => Request::Permit(ip),
            Work::Bind(peer, number) => Request::Bind(peer, number),
        };
        self.request(now, request, 0);
    }

    fn request(&mut self, now: Instant, request: Request, nonces: u8) {
        if self.transactions.len() >= TRANSACTIONS_MAX {
            return;
        }
        // A permission is for an address and all its ports; the port is not looked at.
        let peer = |ip, port| PeerAddress { ip, port };
        let message = match request {
            Request::Allocate => {
                let protocol = PROTO_UDP;
                self.message(METHOD_ALLOCATE, Box::new(RequestedTransport { protocol }))
            }
            Request::Refresh => self.message(
                METHOD_REFRESH,
                Box::new(Lifetime(rtc_turn::proto::lifetime::DEFAULT_LIFETIME)),
            ),
            Request::Permit(ip) => self.message(METHOD_CREATE_PERMISSION, Box::new(peer(ip, 0))),
            Request::Bind(address, number) => self.message(
                METHOD_CHANNEL_BIND,
                Box::new(Both(
                    ChannelNumber(number),
                    peer(address.ip(), address.port()),
                )),
            ),
        };
        let Some(message) = message else {
            return self.fail(Fault::Refused("the request cannot be written".to_owned()));
        };
        let datagram = Bytes::from(message.raw);
        self.out.push_back(datagram.clone());
        let wait = if self.is_udp {
            RETRANSMITS[0]
        } else {
            RELIABLE_LIMIT
        };
        let pending = Transaction {
            request,
            datagram,
            sent: 1,
            nonces,
            next: now + wait,
        };
        self.transactions.insert(message.transaction_id, pending);
    }

    /// A request, signed once the server has told how.
    fn message(&self, method: Method, attribute: Box<dyn Setter>) -> Option<Message> {
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(TransactionId(rand::random())),
            Box::new(MessageType::new(method, CLASS_REQUEST)),
            attribute,
        ];
        if let Some(login) = &self.login {
            let user = self.credentials.user.reveal().to_owned();
            setters.push(Box::new(Username::new(ATTR_USERNAME, user)));
            setters.push(Box::new(login.realm.clone()));
            setters.push(Box::new(login.nonce.clone()));
            setters.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(
                login.key.clone(),
                self.crypto.crypto(),
            )));
        }
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).ok()?;
        Some(message)
    }

    fn answered(&mut self, now: Instant, mut response: Message) {
        let is_error = response.typ.class == CLASS_ERROR_RESPONSE;
        let Some(pending) = self.transactions.get(&response.transaction_id) else {
            return;
        };
        let (request, nonces) = (pending.request, pending.nonces);
        if !(is_error || response.typ.class == CLASS_SUCCESS_RESPONSE)
            || response.typ.method != method_of(request)
            || !self.is_authentic(&mut response, is_error)
        {
            return;
        }
        self.transactions.remove(&response.transaction_id);
        if !is_error {
            return self.succeeded(now, request, &response);
        }
        let mut error = ErrorCodeAttribute::default();
        let code = match error.get_from(&response) {
            Ok(()) => error.code,
            Err(_) => ErrorCode(0),
        };
        let asks_for_login = code == CODE_UNAUTHORIZED && self.login.is_none();
        if (asks_for_login || code == CODE_STALE_NONCE) && nonces < NONCES_MAX {
            if self.log_in(&response).is_some() {
                self.request(now, request, nonces + 1);
            } else {
                self.fail(Fault::Refused("it does not tell how to log in".to_owned()));
            }
            return;
        }
        match request {
            Request::Permit(ip) => self.peers.permit_failed(now, ip),
            Request::Bind(peer, _) => self.peers.bind_failed(now, peer),
            Request::Allocate | Request::Refresh => self.fail(match code {
                CODE_UNAUTHORIZED | CODE_WRONG_CREDENTIALS => {
                    Fault::Refused("it refused the user name or password".to_owned())
                }
                CODE_FORBIDDEN => Fault::Refused("it refuses to relay for us (403)".to_owned()),
                ErrorCode(code) => Fault::Lost(format!("it answered with the error {code}")),
            }),
        }
    }

    /// Whether a response comes from who knows our password. Those that ask for a login cannot be
    /// signed.
    fn is_authentic(&self, response: &mut Message, is_error: bool) -> bool {
        let Some(login) = &self.login else {
            return true;
        };
        if is_error && !response.contains(ATTR_MESSAGE_INTEGRITY) {
            return true;
        }
        MessageIntegrity::check(response, &login.key, self.crypto.crypto()).is_ok()
    }

    fn log_in(&mut self, response: &Message) -> Option<()> {
        let nonce = Nonce::get_from_as(response, ATTR_NONCE).ok()?;
        let realm = Realm::get_from_as(response, ATTR_REALM).ok()?;
        let key = MessageIntegrity::long_term_integrity_key(
            self.credentials.user.reveal().to_owned(),
            realm.text.clone(),
            self.credentials.password.reveal().to_owned(),
            self.crypto.crypto(),
        );
        let key = key.ok()?;
        self.login = Some(Login { realm, nonce, key });
        Some(())
    }

    fn succeeded(&mut self, now: Instant, request: Request, response: &Message) {
        match request {
            Request::Allocate => {
                let mut relayed = RelayedAddress::default();
                let is_usable = relayed.get_from(response).is_ok()
                    && !relayed.ip.is_unspecified()
                    && relayed.port != 0;
                if !is_usable {
                    return self.fail(Fault::Lost("it named no address".to_owned()));
                }
                self.relayed = Some(SocketAddr::new(relayed.ip, relayed.port));
                self.extend(now, response);
            }
            Request::Refresh => self.extend(now, response),
            Request::Permit(ip) => self.peers.permitted(now, ip),
            Request::Bind(peer, number) => self.peers.bound(now, peer, number),
        }
    }

    /// Plans the next refresh by the lifetime that the server grants.
    fn extend(&mut self, now: Instant, response: &Message) {
        let mut lifetime = Lifetime::default();
        if lifetime.get_from(response).is_err() || lifetime.0.is_zero() {
            return self.fail(Fault::Lost("it ended the allocation".to_owned()));
        }
        self.refresh_every = (lifetime.0 / 2).clamp(Duration::from_secs(1), REFRESH_EVERY);
        self.refresh_at = now + self.refresh_every;
    }

    fn fail(&mut self, fault: Fault) {
        self.relayed = None;
        self.fault.get_or_insert(fault);
    }
}

fn method_of(request: Request) -> Method {
    match request {
        Request::Allocate => METHOD_ALLOCATE,
        Request::Refresh => METHOD_REFRESH,
        Request::Permit(_) => METHOD_CREATE_PERMISSION,
        Request::Bind(..) => METHOD_CHANNEL_BIND,
    }
}

/// Two attributes.
struct Both<A, B>(A, B);

impl<A: Setter, B: Setter> Setter for Both<A, B> {
    fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
        self.0.add_to(message)?;
        self.1.add_to(message)
    }
}

#[cfg(test)]
mod tests;
