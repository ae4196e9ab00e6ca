//! DTLS ([RFC 6347], [RFC 5764]): [`Dtls`] is the server's side of one connection, without sockets.
//!
//! [RFC 6347]: https://datatracker.ietf.org/doc/html/rfc6347
//! [RFC 5764]: https://datatracker.ietf.org/doc/html/rfc5764

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use rtc_crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;

use crate::{
    base::{Error, ErrorKind},
    webrtc::srtp::{Keys, Profile},
};

/// The endpoint tells peers apart by address. Ours has one, whose address changes with its path.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// Records that may be taken of one browser: a handshake has a dozen, each perhaps repeated.
const RECORDS_MAX: usize = 256;
/// Pieces of a hello that are waited for, and its length: Chromium's has 1.4 kB in two.
const EARLY_MAX: usize = 6;
const HELLO_MAX: usize = 16 << 10;
/// Times that a flight is sent again by request.
const REPEATS_MAX: u8 = 8;
/// Content type of a handshake record, and the type of its first message (RFC 5246 §6.2.1, §7.4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// What the exporter derives SRTP keys for (RFC 5764 §4.2).
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";

/// Who this server is towards browsers: one certificate for as long as the process runs.
#[derive(Clone)]
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// `Internal` when there are no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let failed = |what| Error::new(ErrorKind::Internal, what);
        let provider =
            rtc_crypto::default_provider().map_err(|e| failed("no cryptography").with_source(e))?;
        let certificate =
            Certificate::generate_self_signed(vec!["porthole".to_owned()], provider.crypto())
                .map_err(|e| failed("no certificate can be made").with_source(e))?;
        let fingerprint = certificate
            .certificate
            .first()
            .and_then(|der| fingerprint(&provider, der))
            .ok_or_else(|| failed("the certificate has no fingerprint"))?;
        Ok(Self {
            provider,
            certificate,
            fingerprint,
        })
    }

    /// The value of `a=fingerprint` ([RFC 8122 §5]).
    ///
    /// [RFC 8122 §5]: https://datatracker.ietf.org/doc/html/rfc8122#section-5
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn config(&self, profiles: Vec<SrtpProtectionProfile>) -> Option<Arc<HandshakeConfig>> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&self.provider))
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            // Browsers' certificates are of no authority: the offer's fingerprint is what counts.
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(false, None);
        config.map(Arc::new).ok()
    }
}

/// `sha-256 AB:CD:…` of a certificate.
fn fingerprint(provider: &Arc<dyn RTCCryptoProvider>, der: &[u8]) -> Option<String> {
    let hash = provider.crypto().hash(HashAlgorithm::Sha256, der).ok()?;
    let mut text = "sha-256 ".to_owned();
    for (number, byte) in hash.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{byte:02X}", if number == 0 { "" } else { ":" });
    }
    Some(text)
}

/// What one connection's DTLS tells.
#[derive(Debug)]
pub enum Event {
    /// The handshake is done, and the browser is who the offer says: media may flow.
    Connected(Box<Keys>),
    /// Data of a data channel (SCTP).
    Data(Bytes),
    /// The browser said goodbye.
    Closed,
    /// The browser is not who the offer says, or no cipher is in common.
    Refused,
}

/// The server's side of one connection.
pub struct Dtls {
    identity: Arc<Identity>,
    /// As the offer writes it.
    fingerprint: String,
    endpoint: Option<Endpoint>,
    /// Pieces of the first hello.
    early: Vec<BytesMut>,
    connected: bool,
    /// Records taken until now that cost memory.
    records: usize,
    outgoing: VecDeque<BytesMut>,
    /// Our last datagrams of the handshake, and how often they were sent again.
    flight: Vec<BytesMut>,
    repeats: u8,
}

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dtls")
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl Dtls {
    /// Waits for the browser whose certificate has `fingerprint`, `sha-256` and hexadecimal bytes.
    #[must_use]
    pub fn new(identity: Arc<Identity>, fingerprint: String) -> Self {
        Self {
            identity,
            fingerprint,
            endpoint: None,
            early: Vec::new(),
            connected: false,
            records: 0,
            outgoing: VecDeque::new(),
            flight: Vec::new(),
            repeats: 0,
        }
    }

    /// Takes a datagram from a path that ICE has validated. What is broken or forged is ignored.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Vec<Event> {
        let costly = costly_records(datagram, self.connected);
        self.records = self.records.saturating_add(costly);
        if costly > 0 && self.records > RECORDS_MAX {
            return Vec::new();
        }
        if self.endpoint.is_some() {
            return self.read(now, datagram);
        }
        // The first hello decides which ciphers are offered; with its large keys it comes in pieces.
        if is_client_hello(datagram) && self.early.len() < EARLY_MAX {
            self.early.push(BytesMut::from(datagram));
        }
        let hello = hello(&self.early);
        if hello.is_none() && self.early.len() < EARLY_MAX {
            return Vec::new();
        }
        let config = self.identity.config(offered_profiles(hello.as_deref()));
        self.endpoint = Some(Endpoint::new(PEER, TransportProtocol::UDP, config));
        let early = std::mem::take(&mut self.early);
        early
            .iter()
            .flat_map(|piece| self.read(now, piece))
            .collect()
    }

    fn read(&mut self, now: Instant, datagram: &[u8]) -> Vec<Event> {
        let Some(endpoint) = &mut self.endpoint else {
            return Vec::new();
        };
        let read = endpoint.read(now, PEER, None, BytesMut::from(datagram));
        if !self.drain() && !self.connected && is_client_hello(datagram) {
            // The endpoint takes a hello that it has seen for nothing, and stops its own timer.
            self.repeat();
        }
        match read {
            Ok(events) => events
                .into_iter()
                .filter_map(|event| self.told(event))
                .collect(),
            Err(e) => {
                tracing::debug!(error = %e, "DTLS record ignored");
                Vec::new()
            }
        }
    }

    /// Takes what the endpoint wants to send; whether there was anything.
    fn drain(&mut self) -> bool {
        let Some(endpoint) = &mut self.endpoint else {
            return false;
        };
        let fresh: Vec<_> =
            std::iter::from_fn(|| endpoint.poll_transmit().map(|transmit| transmit.message))
                .collect();
        if fresh.is_empty() {
            return false;
        }
        if !self.connected {
            self.flight.clone_from(&fresh);
            self.repeats = 0;
        }
        self.outgoing.extend(fresh);
        true
    }

    /// Sends the last flight again: the browser says the same again, so it was lost.
    fn repeat(&mut self) {
        if self.repeats < REPEATS_MAX {
            self.repeats += 1;
            self.outgoing.extend(self.flight.iter().cloned());
        }
    }

    fn told(&mut self, event: EndpointEvent) -> Option<Event> {
        match event {
            EndpointEvent::HandshakeComplete => {
                self.connected = true;
                self.flight = Vec::new();
                Some(
                    self.keys()
                        .map_or(Event::Refused, |keys| Event::Connected(Box::new(keys))),
                )
            }
            EndpointEvent::ApplicationData(data) => Some(Event::Data(data.freeze())),
            // Before the end of the handshake anybody can say it.
            EndpointEvent::PeerClosed => self.connected.then_some(Event::Closed),
            _ => None,
        }
    }

    /// The keys that were agreed on, if the browser is the one of the offer.
    fn keys(&self) -> Option<Keys> {
        let provider = &self.identity.provider;
        let state = self.endpoint.as_ref()?.get_connection_state(PEER)?;
        let shown = fingerprint(provider, state.peer_certificates.first()?)?;
        if !shown.eq_ignore_ascii_case(&self.fingerprint) {
            tracing::debug!("the certificate's fingerprint is not the offer's");
            return None;
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Cm,
            _ => return None,
        };
        let material = state
            .export_keying_material(EXPORTER, &[], profile.material())
            .ok()?;
        Keys::server(profile, material.as_ref(), provider.crypto()).ok()
    }

    /// Sends data of a data channel; nothing before the handshake is done.
    pub fn send(&mut self, now: Instant, data: &[u8]) {
        if let Some(endpoint) = &mut self.endpoint {
            // Fails only before the end of the handshake, and after a goodbye.
            let _ = endpoint.write(now, PEER, data);
        }
        self.drain();
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.stop(now, PEER);
        }
        self.drain();
    }

    /// The next datagram to send, if any.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop_front()
    }

    /// When [`Dtls::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.as_ref()?.poll_timeout(&PEER)
    }

    /// Sends again what was not answered. An error, after many times, ends nothing here: the
    /// viewer's own deadline does.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(endpoint) = &mut self.endpoint {
            let _ = endpoint.handle_timeout(PEER, now);
        }
        self.drain();
    }
}

/// How many records of a datagram the endpoint keeps: those of a handshake for as long as it lives,
/// and before the end of the handshake all. Its reassembly recurses over them.
fn costly_records(mut rest: &[u8], connected: bool) -> usize {
    let mut count = 0;
    while let Some(head) = rest.first_chunk::<13>() {
        count += usize::from(head[0] == HANDSHAKE || !connected);
        let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
        rest = rest.get(13 + length..).unwrap_or_default();
    }
    count
}

fn is_client_hello(datagram: &[u8]) -> bool {
    datagram.first() == Some(&HANDSHAKE) && datagram.get(13) == Some(&CLIENT_HELLO)
}

/// The body of a `ClientHello` out of its fragments, one in each datagram; none while some are missing
/// ([RFC 6347 §4.2.2]).
///
/// [RFC 6347 §4.2.2]: https://datatracker.ietf.org/doc/html/rfc6347#section-4.2.2
fn hello(pieces: &[BytesMut]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        // The next piece: one that begins where the others end, or before.
        let more = pieces.iter().find_map(|piece| {
            // Record header 13; message type 1, length 3, number 2, offset 3, length of the piece 3.
            let mut rest = piece.get(13 + 1..)?;
            let length = number(&mut rest, 3)?;
            number(&mut rest, 2)?;
            let offset = number(&mut rest, 3)?;
            let size = number(&mut rest, 3)?;
            let data = rest.get(..size)?;
            let fresh = data.get(body.len().checked_sub(offset)?..)?;
            (length <= HELLO_MAX && !fresh.is_empty()).then_some((length, fresh))
        });
        let (length, fresh) = more?;
        body.extend_from_slice(fresh);
        if body.len() >= length {
            return Some(body);
        }
    }
}

/// The profiles to agree on with the sender of this `ClientHello`.
///
/// The server chooses by the client's order, in which browsers put AES-CM first, at four times the
/// cost. So AES-GCM alone is offered to whoever takes it. Without a hello that can be read, the
/// client's order decides.
fn offered_profiles(hello: Option<&[u8]>) -> Vec<SrtpProtectionProfile> {
    const GCM: [u8; 2] = [0, 7];
    match hello.and_then(use_srtp) {
        Some(list) if list.as_chunks().0.contains(&GCM) => {
            vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]
        }
        Some(_) => vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80],
        None => vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ],
    }
}

/// The list of profiles in the extension `use_srtp` of a `ClientHello` ([RFC 5764 §4.1.1]).
///
/// [RFC 5764 §4.1.1]: https://datatracker.ietf.org/doc/html/rfc5764#section-4.1.1
fn use_srtp(hello: &[u8]) -> Option<&[u8]> {
    const USE_SRTP: usize = 14;
    // Version 2, random 32.
    let mut rest = hello.get(2 + 32..)?;
    // Session, cookie, cipher suites, compression methods.
    for length_bytes in [1, 1, 2, 1] {
        take(&mut rest, length_bytes)?;
    }
    let mut extensions = take(&mut rest, 2)?;
    while !extensions.is_empty() {
        let kind = number(&mut extensions, 2)?;
        let mut body = take(&mut extensions, 2)?;
        if kind == USE_SRTP {
            return take(&mut body, 2);
        }
    }
    None
}

/// A number of `count` bytes off the front.
fn number(from: &mut &[u8], count: usize) -> Option<usize> {
    let (front, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(front.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
}

/// A vector off the front, whose length comes first, in `length_bytes` bytes.
fn take<'a>(from: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let length = number(from, length_bytes)?;
    let (front, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
    const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;

    /// A client that prefers `profiles` in this order, and its fingerprint.
    fn client(profiles: Vec<SrtpProtectionProfile>) -> (Endpoint, String) {
        let identity = Identity::generate().unwrap();
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&identity.provider))
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            .with_insecure_skip_verify(true)
            .build(true, None)
            .unwrap();
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint
            .connect(Instant::now(), PEER, Arc::new(config), None)
            .unwrap();
        (endpoint, identity.fingerprint)
    }

    /// Carries datagrams both ways until nobody has any.
    fn shake_hands(client: &mut Endpoint, server: &mut Dtls) -> Vec<Event> {
        let now = Instant::now();
        let mut events = Vec::new();
        for _ in 0..20 {
            while let Some(transmit) = client.poll_transmit() {
                events.extend(server.handle(now, &transmit.message));
            }
            while let Some(datagram) = server.poll_transmit() {
                let _ = client.read(now, PEER, None, datagram);
            }
        }
        events
    }

    #[test]
    fn gcm_is_chosen_whatever_the_clients_order() {
        for (offered, tag) in [(vec![CM, GCM], 16), (vec![GCM, CM], 16), (vec![CM], 10)] {
            let (mut client, fingerprint) = client(offered);
            let identity = Arc::new(Identity::generate().unwrap());
            let mut server = Dtls::new(identity, fingerprint);
            let events = shake_hands(&mut client, &mut server);
            let [Event::Connected(keys)] = &events[..] else {
                panic!("{events:?}");
            };
            assert_eq!(keys.sealer.tag(), tag);
            client.write(Instant::now(), PEER, b"hello").unwrap();
            let events = shake_hands(&mut client, &mut server);
            assert!(matches!(&events[..], [Event::Data(data)] if data == &b"hello"[..]));
            client.close(Instant::now()).unwrap();
            let events = shake_hands(&mut client, &mut server);
            assert!(matches!(events[..], [Event::Closed]), "{events:?}");
        }
    }

    /// A datagram with the bytes `from..to` of the message in `hello`.
    fn piece(hello: &[u8], number: u8, from: usize, to: usize) -> Vec<u8> {
        let mut piece = hello[..25].to_vec();
        piece[10] = number;
        let size = u16::try_from(12 + to - from).unwrap();
        piece[11..13].copy_from_slice(&size.to_be_bytes());
        for (at, value) in [(20, from), (23, to - from)] {
            piece[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
        }
        piece.extend_from_slice(&hello[25 + from..25 + to]);
        piece
    }

    #[test]
    fn gcm_is_chosen_by_a_hello_in_pieces_too() {
        for order in [[0, 1], [1, 0]] {
            let (mut client, fingerprint) = client(vec![CM, GCM]);
            let mut server = Dtls::new(Arc::new(Identity::generate().unwrap()), fingerprint);
            let whole = client.poll_transmit().unwrap().message;
            let end = whole.len() - 25;
            let pieces = [piece(&whole, 0, 0, 60), piece(&whole, 40, 60, end)];
            for which in order {
                server.handle(Instant::now(), &pieces[which]);
            }
            while let Some(datagram) = server.poll_transmit() {
                let _ = client.read(Instant::now(), PEER, None, datagram);
            }
            let events = shake_hands(&mut client, &mut server);
            let [Event::Connected(keys)] = &events[..] else {
                panic!("{events:?}");
            };
            assert_eq!(keys.sealer.tag(), 16);
        }
    }

    #[test]
    fn a_lost_flight_is_sent_again_when_the_browser_asks_again() {
        let (mut client, fingerprint) = client(vec![GCM]);
        let mut server = Dtls::new(Arc::new(Identity::generate().unwrap()), fingerprint);
        let now = Instant::now();
        // The first hello is answered with a cookie, the second one with a flight, which is lost.
        let mut hello = client.poll_transmit().unwrap().message;
        server.handle(now, &hello);
        while let Some(datagram) = server.poll_transmit() {
            client.read(now, PEER, None, datagram).unwrap();
        }
        hello = client.poll_transmit().unwrap().message;
        server.handle(now, &hello);
        assert!(server.poll_transmit().is_some());
        while server.poll_transmit().is_some() {}
        server.handle(now, &hello);
        while let Some(datagram) = server.poll_transmit() {
            let _ = client.read(now, PEER, None, datagram);
        }
        let events = shake_hands(&mut client, &mut server);
        assert!(matches!(events[..], [Event::Connected(_)]), "{events:?}");
    }

    #[test]
    fn a_flood_of_records_is_taken_only_so_far() {
        let (mut client, fingerprint) = client(vec![GCM]);
        let mut server = Dtls::new(Arc::new(Identity::generate().unwrap()), fingerprint);
        let now = Instant::now();
        server.handle(now, &client.poll_transmit().unwrap().message);
        // Fragments of one byte each: the endpoint would recurse over all of them.
        let fragment = [
            22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 13, 11, 0, 255, 255, 0, 0, 0, 0, 9, 0, 0, 1, 7,
        ];
        for _ in 0..100_000 {
            server.handle(now, &fragment);
        }
        assert!(server.records > RECORDS_MAX && server.poll_transmit().is_some());
    }

    #[test]
    fn another_certificate_than_the_offers_is_refused() {
        let (mut client, _) = client(vec![GCM]);
        let identity = Arc::new(Identity::generate().unwrap());
        let mut server = Dtls::new(identity, "sha-256 00:11".to_owned());
        let events = shake_hands(&mut client, &mut server);
        assert!(matches!(events[..], [Event::Refused]), "{events:?}");
    }

    #[test]
    fn junk_before_and_during_the_handshake_changes_nothing() {
        let (mut client, fingerprint) = client(vec![GCM]);
        let identity = Arc::new(Identity::generate().unwrap());
        let mut server = Dtls::new(identity, fingerprint);
        let now = Instant::now();
        let hello = client.poll_transmit().unwrap().message;
        for length in 0..hello.len() {
            let mut cut = Dtls::new(Arc::clone(&server.identity), String::new());
            cut.handle(now, &hello[..length]);
        }
        assert!(server.handle(now, &[22, 1, 2, 3]).is_empty());
        assert!(server.handle(now, &hello).is_empty());
        assert!(server.handle(now, &[0xff; 60]).is_empty());
        assert!(
            server
                .handle(now, &[23, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 1])
                .is_empty()
        );
        while let Some(datagram) = server.poll_transmit() {
            let _ = client.read(now, PEER, None, datagram);
        }
        let events = shake_hands(&mut client, &mut server);
        assert!(matches!(events[..], [Event::Connected(_)]), "{events:?}");
    }
}
