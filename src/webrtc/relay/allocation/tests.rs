use rtc_dtls::crypto_provider::default_provider;
use rtc_stun::message::CLASS_SUCCESS_RESPONSE;

use super::*;
use crate::base::Secret;

const PEER: &str = "192.0.2.50:6000";
const RELAYED: &str = "198.51.100.1:50000";
const NONCE: &str = "first";

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

/// A client, and the key that the server shares with it.
fn client(now: Instant) -> (Allocation, Vec<u8>) {
    let crypto = default_provider().unwrap();
    let credentials = Credentials {
        user: Secret::new("me"),
        password: Secret::new("secret"),
    };
    let part = str::to_owned;
    let key = MessageIntegrity::long_term_integrity_key(
        part("me"),
        part("realm"),
        part("secret"),
        crypto.crypto(),
    );
    let client = Allocation::new(now, credentials, Arc::clone(&crypto), true);
    (client, key.unwrap())
}

fn sent(client: &mut Allocation) -> Message {
    let mut message = Message::new();
    let datagram = client.poll_transmit().expect("a request");
    message.unmarshal_binary(&datagram).unwrap();
    message
}

fn is_signed(message: &mut Message, key: &[u8]) -> bool {
    let crypto = default_provider().unwrap();
    MessageIntegrity::check(message, key, crypto.crypto()).is_ok()
}

fn success(request: &Message, key: &[u8], attributes: Vec<Box<dyn Setter>>) -> Bytes {
    let crypto = default_provider().unwrap();
    let mut setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(request.transaction_id),
        Box::new(MessageType::new(request.typ.method, CLASS_SUCCESS_RESPONSE)),
    ];
    for attribute in attributes {
        setters.push(attribute);
    }
    setters.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(
        key.to_vec(),
        crypto.crypto(),
    )));
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw.into()
}

fn failure(request: &Message, code: ErrorCode, nonce: Option<&str>) -> Bytes {
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(request.transaction_id),
        Box::new(MessageType::new(request.typ.method, CLASS_ERROR_RESPONSE)),
        Box::new(ErrorCodeAttribute {
            code,
            reason: Vec::new(),
        }),
    ];
    if let Some(nonce) = nonce {
        setters.push(Box::new(Realm::new(ATTR_REALM, "realm".to_owned())));
        setters.push(Box::new(Nonce::new(ATTR_NONCE, nonce.to_owned())));
    }
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw.into()
}

fn lifetime(seconds: u64) -> Box<dyn Setter> {
    Box::new(Lifetime(Duration::from_secs(seconds)))
}

fn relayed_address() -> Box<dyn Setter> {
    let at: SocketAddr = RELAYED.parse().unwrap();
    let (ip, port) = (at.ip(), at.port());
    Box::new(RelayedAddress { ip, port })
}

/// A client with an allocation of ten minutes.
fn allocated(now: Instant) -> (Allocation, Vec<u8>) {
    let (mut client, key) = client(now);
    let request = sent(&mut client);
    client.handle(now, &failure(&request, CODE_UNAUTHORIZED, Some(NONCE)));
    let request = sent(&mut client);
    let response = success(&request, &key, vec![relayed_address(), lifetime(600)]);
    client.handle(now, &response);
    assert_eq!(client.relayed(), RELAYED.parse().ok());
    (client, key)
}

/// Lets the peer in, and answers for the server.
fn permit(client: &mut Allocation, key: &[u8], now: Instant) {
    client.permit(now, peer().ip());
    let request = sent(client);
    assert_eq!(request.typ.method, METHOD_CREATE_PERMISSION);
    client.handle(now, &success(&request, key, Vec::new()));
}

#[test]
fn it_logs_in_when_asked_and_signs_from_then_on() {
    let now = Instant::now();
    let (mut client, key) = client(now);
    let mut first = sent(&mut client);
    assert!(!is_signed(&mut first, &key) && !first.contains(ATTR_USERNAME));
    client.handle(now, &failure(&first, CODE_UNAUTHORIZED, Some(NONCE)));
    let mut second = sent(&mut client);
    assert!(is_signed(&mut second, &key));
    let forged = success(
        &second,
        b"another key",
        vec![relayed_address(), lifetime(600)],
    );
    client.handle(now, &forged);
    assert_eq!(client.relayed(), None);
    client.handle(now, &failure(&second, CODE_UNAUTHORIZED, Some(NONCE)));
    assert!(matches!(client.fault(), Some(Fault::Refused(_))));
    assert!(client.poll_transmit().is_none(), "it does not insist");
}

#[test]
fn a_silent_server_is_given_up_after_five_requests() {
    let start = Instant::now();
    let (mut client, _) = client(start);
    let mut requests = 0;
    let mut now = start;
    while client.fault().is_none() {
        while client.poll_transmit().is_some() {
            requests += 1;
        }
        now = client.poll_timeout();
        client.handle_timeout(now);
    }
    assert_eq!(requests, RETRANSMITS.len());
    let waited = RETRANSMITS.iter().sum::<Duration>();
    assert!(now - start <= waited + RETRANSMITS[0], "{:?}", now - start);
}

#[test]
fn it_is_refreshed_also_with_another_nonce_until_the_server_forgets() {
    let mut now = Instant::now();
    let (mut client, key) = allocated(now);
    for nonce in [None, Some("second")] {
        assert_eq!(client.poll_timeout(), now + REFRESH_EVERY);
        now = client.poll_timeout();
        client.handle_timeout(now);
        let mut request = sent(&mut client);
        assert_eq!(request.typ.method, METHOD_REFRESH);
        if nonce.is_some() {
            client.handle(now, &failure(&request, CODE_STALE_NONCE, nonce));
            request = sent(&mut client);
            assert_eq!(request.get(ATTR_NONCE).unwrap(), b"second");
        }
        assert!(is_signed(&mut request, &key));
        client.handle(now, &success(&request, &key, vec![lifetime(600)]));
    }
    now = client.poll_timeout();
    client.handle_timeout(now);
    let request = sent(&mut client);
    client.handle(now, &failure(&request, ErrorCode(437), None));
    assert!(matches!(client.fault(), Some(Fault::Lost(_))) && client.relayed().is_none());
}

#[test]
fn nonces_that_never_fit_are_not_followed_for_ever() {
    let now = Instant::now();
    let (mut client, _) = client(now);
    let mut requests = 0;
    while let Some(datagram) = client.poll_transmit() {
        let mut request = Message::new();
        request.unmarshal_binary(&datagram).unwrap();
        requests += 1;
        client.handle(now, &failure(&request, CODE_STALE_NONCE, Some(NONCE)));
    }
    assert_eq!(requests, 1 + usize::from(NONCES_MAX));
    assert!(client.fault().is_some());
}

#[test]
fn data_goes_by_indications_and_then_by_a_channel() {
    let now = Instant::now();
    let (mut client, key) = allocated(now);
    permit(&mut client, &key, now);
    let bind = loop {
        client.send(now, peer(), b"hello");
        let message = sent(&mut client);
        if message.typ.method == METHOD_CHANNEL_BIND {
            break message;
        }
        assert_eq!(message.typ, MessageType::new(METHOD_SEND, CLASS_INDICATION));
        let mut data = Data::default();
        data.get_from(&message).unwrap();
        assert_eq!(data.0, b"hello");
    };
    let _indication = sent(&mut client);
    client.handle(now, &success(&bind, &key, Vec::new()));
    client.send(now, peer(), b"hello");
    let datagram = client.poll_transmit().unwrap();
    assert_eq!(datagram, [&[0x40, 0, 0, 5][..], b"hello"].concat());
    assert_eq!(
        client.handle(now, &datagram),
        Some((peer(), Bytes::from_static(b"hello")))
    );
    for bad in [&[0x40, 1, 0, 0][..], &[0x40, 0, 0, 9, 1], &[0x40], &[]] {
        assert_eq!(client.handle(now, &Bytes::copy_from_slice(bad)), None);
    }
}

#[test]
fn only_permitted_peers_are_heard() {
    let now = Instant::now();
    let (mut client, key) = allocated(now);
    let indication = || {
        let (ip, port) = (peer().ip(), peer().port());
        let mut message = Message::new();
        message
            .build(&[
                Box::new(TransactionId::new()),
                Box::new(MessageType::new(METHOD_DATA, CLASS_INDICATION)),
                Box::new(PeerAddress { ip, port }),
                Box::new(Data(b"hello".to_vec())),
            ])
            .unwrap();
        Bytes::from(message.raw)
    };
    assert_eq!(client.handle(now, &indication()), None);
    permit(&mut client, &key, now);
    let heard = client.handle(now, &indication());
    assert_eq!(heard, Some((peer(), Bytes::from_static(b"hello"))));
    client.permit(now, "2001:db8::1".parse().unwrap());
    assert!(client.poll_transmit().is_none(), "it relays IPv4 only");
}

#[test]
fn it_is_given_back_with_a_lifetime_of_zero() {
    let now = Instant::now();
    let (mut client, key) = allocated(now);
    client.release();
    let mut request = sent(&mut client);
    let mut lifetime = Lifetime::default();
    lifetime.get_from(&request).unwrap();
    assert!(lifetime.0.is_zero() && is_signed(&mut request, &key));
    assert_eq!(client.relayed(), None);
}
