//! STUN Binding messages ([RFC 8489]) as ICE uses them, read in place and written in one piece.
//!
//! `rtc-stun` copies each attribute, which adds up when a shared socket is flooded, so only its
//! numbers and its checksum are used here; the tests let it read what this module writes.
//!
//! [RFC 8489]: https://datatracker.ietf.org/doc/html/rfc8489

use std::{
    net::{IpAddr, SocketAddr},
    str,
};

use ring::hmac;
use rtc_stun::{
    attributes::{
        ATTR_ERROR_CODE, ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING,
        ATTR_MAPPED_ADDRESS, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_PRIORITY, ATTR_REALM,
        ATTR_UNKNOWN_ATTRIBUTES, ATTR_USE_CANDIDATE, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS,
        AttrType,
    },
    fingerprint::fingerprint_value,
    message::{ATTRIBUTE_HEADER_SIZE, MAGIC_COOKIE, MESSAGE_HEADER_SIZE, TRANSACTION_ID_SIZE},
};

/// Pairs a response with its request.
pub(super) type Transaction = [u8; TRANSACTION_ID_SIZE];

const INTEGRITY_SIZE: usize = 20;
const FINGERPRINT_SIZE: usize = 4;
/// More would not fit any sensible answer.
const MAX_UNKNOWN: usize = 8;

/// Class and method of a Binding message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Class {
    Request = 0x0001,
    Indication = 0x0011,
    Success = 0x0101,
    Error = 0x0111,
}

/// Which role the sender of a request takes (RFC 8445 §7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) controlling: bool,
    pub(super) tie_breaker: u64,
}

/// Whether a datagram has the form of a STUN message: type bits, magic cookie and length.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    let Some((header, attributes)) = datagram.split_first_chunk::<MESSAGE_HEADER_SIZE>() else {
        return false;
    };
    header[0] & 0xc0 == 0
        && header[4..8] == MAGIC_COOKIE.to_be_bytes()
        && usize::from(u16::from_be_bytes([header[2], header[3]])) == attributes.len()
        && attributes.len().is_multiple_of(4)
}

/// The part of a Binding request's USERNAME before the colon: the ufrag of the agent that it is for.
///
/// Allocates nothing and trusts nothing; whether the request is authentic is for the agent to say.
#[must_use]
pub fn ufrag_of(datagram: &[u8]) -> Option<&str> {
    if !is_stun(datagram) || datagram[..2] != (Class::Request as u16).to_be_bytes() {
        return None;
    }
    let username = Attributes::of(datagram)
        .find(|attribute| attribute.kind == ATTR_USERNAME)?
        .value;
    let colon = username.iter().position(|byte| *byte == b':')?;
    str::from_utf8(&username[..colon]).ok()
}

struct Attribute<'a> {
    kind: AttrType,
    /// Where its header begins in the datagram.
    offset: usize,
    value: &'a [u8],
}

/// Ends early where the form is broken.
struct Attributes<'a> {
    datagram: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    fn of(datagram: &'a [u8]) -> Self {
        Self {
            datagram,
            offset: MESSAGE_HEADER_SIZE,
        }
    }

    fn reached_the_end(&self) -> bool {
        self.offset == self.datagram.len()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let rest = self.datagram.get(self.offset..)?;
        let (header, rest) = rest.split_first_chunk::<ATTRIBUTE_HEADER_SIZE>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let attribute = Attribute {
            kind: AttrType(u16::from_be_bytes([header[0], header[1]])),
            offset: self.offset,
            value: rest.get(..length)?,
        };
        self.offset += ATTRIBUTE_HEADER_SIZE + length.next_multiple_of(4);
        Some(attribute)
    }
}

/// A Binding message that was received, well-formed but not yet authentic.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) class: Class,
    pub(super) transaction: Transaction,
    pub(super) username: Option<&'a [u8]>,
    pub(super) priority: Option<u32>,
    pub(super) use_candidate: bool,
    pub(super) role: Option<Role>,
    pub(super) error: Option<u16>,
    /// Attributes that would have to be understood.
    pub(super) unknown: Vec<u16>,
    datagram: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Message<'a> {
    /// `None` unless it is a Binding message, well-formed, its FINGERPRINT right if there is one.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if !is_stun(datagram) {
            return None;
        }
        let class = match u16::from_be_bytes([datagram[0], datagram[1]]) {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return None,
        };
        let mut message = Self {
            class,
            transaction: datagram[8..MESSAGE_HEADER_SIZE].try_into().ok()?,
            username: None,
            priority: None,
            use_candidate: false,
            role: None,
            error: None,
            unknown: Vec::new(),
            datagram,
            integrity: None,
        };
        let mut attributes = Attributes::of(datagram);
        for attribute in &mut attributes {
            message.take(&attribute)?;
        }
        attributes.reached_the_end().then_some(message)
    }

    fn take(&mut self, attribute: &Attribute<'a>) -> Option<()> {
        let value = attribute.value;
        if attribute.kind == ATTR_FINGERPRINT {
            let sum = fingerprint_value(&self.datagram[..attribute.offset]);
            let is_last =
                attribute.offset + ATTRIBUTE_HEADER_SIZE + FINGERPRINT_SIZE == self.datagram.len();
            return (is_last && value == sum.to_be_bytes()).then_some(());
        }
        if self.integrity.is_some() {
            // Not covered by it, so to be ignored (RFC 8489 §14.5).
            return Some(());
        }
        match attribute.kind {
            ATTR_MESSAGE_INTEGRITY => self.integrity = Some((attribute.offset, value)),
            ATTR_USERNAME => self.username = Some(value),
            ATTR_PRIORITY => self.priority = Some(u32::from_be_bytes(value.try_into().ok()?)),
            ATTR_USE_CANDIDATE => self.use_candidate = true,
            ATTR_ICE_CONTROLLING | ATTR_ICE_CONTROLLED => {
                self.role = Some(Role {
                    controlling: attribute.kind == ATTR_ICE_CONTROLLING,
                    tie_breaker: u64::from_be_bytes(value.try_into().ok()?),
                });
            }
            ATTR_ERROR_CODE => {
                let [_, _, hundreds, rest, ..] = *value else {
                    return None;
                };
                self.error = Some(u16::from(hundreds & 7) * 100 + u16::from(rest));
            }
            ATTR_MAPPED_ADDRESS
            | ATTR_XORMAPPED_ADDRESS
            | ATTR_UNKNOWN_ATTRIBUTES
            | ATTR_REALM
            | ATTR_NONCE => {}
            AttrType(kind) => {
                if attribute.kind.required() && self.unknown.len() < MAX_UNKNOWN {
                    self.unknown.push(kind);
                }
            }
        }
        Some(())
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with `key`.
    pub(super) fn is_authentic(&self, key: &hmac::Key) -> bool {
        let Some((offset, tag)) = self.integrity else {
            return false;
        };
        // The length that was signed ends with the integrity, without the fingerprint.
        let mut signed = self.datagram[..offset].to_vec();
        set_length(&mut signed, offset + ATTRIBUTE_HEADER_SIZE + INTEGRITY_SIZE);
        hmac::verify(key, &signed, tag).is_ok()
    }
}

/// Makes the header tell that the whole message is `total` bytes long.
fn set_length(message: &mut [u8], total: usize) {
    let length = u16::try_from(total - MESSAGE_HEADER_SIZE).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// A key for MESSAGE-INTEGRITY (short-term credentials, RFC 8489 §9.1.1).
pub(super) fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// A Binding message to be sent.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(class: Class, transaction: &Transaction) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&(class as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes.extend_from_slice(transaction);
        Self { bytes }
    }

    /// Appends an attribute; its value is cut at 64 KiB.
    pub(super) fn attribute(mut self, kind: AttrType, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let value = &value[..usize::from(length)];
        self.bytes.extend_from_slice(&kind.0.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
        self
    }

    pub(super) fn role(self, role: Role) -> Self {
        let kind = if role.controlling {
            ATTR_ICE_CONTROLLING
        } else {
            ATTR_ICE_CONTROLLED
        };
        self.attribute(kind, &role.tie_breaker.to_be_bytes())
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub(super) fn mapped_address(self, address: SocketAddr) -> Self {
        let mut value = [0; 20];
        let port = address.port().to_be_bytes();
        let length = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..20].copy_from_slice(&ip.octets());
                20
            }
        };
        value[2..4].copy_from_slice(&port);
        // Cookie and transaction, as they stand in the header, are the mask.
        let mask = &self.bytes[4..MESSAGE_HEADER_SIZE];
        for (byte, mask) in value[2..4].iter_mut().zip(mask) {
            *byte ^= mask;
        }
        for (byte, mask) in value[4..].iter_mut().zip(mask) {
            *byte ^= mask;
        }
        self.attribute(ATTR_XORMAPPED_ADDRESS, &value[..length])
    }

    /// ERROR-CODE (RFC 8489 §14.8).
    pub(super) fn error(self, hundreds: u8, rest: u8, reason: &str) -> Self {
        let mut value = vec![0, 0, hundreds, rest];
        value.extend_from_slice(reason.as_bytes());
        self.attribute(ATTR_ERROR_CODE, &value)
    }

    pub(super) fn unknown_attributes(self, kinds: &[u16]) -> Self {
        let value: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        self.attribute(ATTR_UNKNOWN_ATTRIBUTES, &value)
    }

    /// Ends the message with MESSAGE-INTEGRITY and FINGERPRINT.
    pub(super) fn finish(mut self, key: &hmac::Key) -> Vec<u8> {
        let signed = self.bytes.len() + ATTRIBUTE_HEADER_SIZE + INTEGRITY_SIZE;
        set_length(&mut self.bytes, signed);
        let tag = hmac::sign(key, &self.bytes);
        self = self.attribute(ATTR_MESSAGE_INTEGRITY, tag.as_ref());
        let whole = self.bytes.len() + ATTRIBUTE_HEADER_SIZE + FINGERPRINT_SIZE;
        set_length(&mut self.bytes, whole);
        let sum = fingerprint_value(&self.bytes);
        self.attribute(ATTR_FINGERPRINT, &sum.to_be_bytes()).bytes
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use rtc_stun::{
        error_code::ErrorCodeAttribute,
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{
            self, BINDING_ERROR, BINDING_REQUEST, Getter, Message as Reference, Setter,
            TransactionId,
        },
        textattrs::TextAttribute,
        xoraddr::XorMappedAddress,
    };

    use super::*;

    const PASSWORD: &str = "a password of 24 letters";

    fn reference(bytes: &[u8]) -> Reference {
        let mut message = Reference::new();
        message.unmarshal_binary(bytes).unwrap();
        FINGERPRINT.check(&message).unwrap();
        let provider = rtc_crypto::default_provider().unwrap();
        MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), provider.crypto()).unwrap();
        message
    }

    fn request() -> Vec<u8> {
        Writer::new(Class::Request, &[7; 12])
            .attribute(ATTR_USERNAME, b"ours1234:theirs")
            .attribute(ATTR_PRIORITY, &0x6e00_01ff_u32.to_be_bytes())
            .role(Role {
                controlling: true,
                tie_breaker: 0x0102_0304_0506_0708,
            })
            .attribute(ATTR_USE_CANDIDATE, &[])
            .finish(&key(PASSWORD))
    }

    #[test]
    fn the_reference_reads_our_requests() {
        let bytes = request();
        let message = reference(&bytes);
        assert_eq!(message.typ, BINDING_REQUEST);
        assert_eq!(message.transaction_id, TransactionId([7; 12]));
        let username = TextAttribute::get_from_as(&message, ATTR_USERNAME).unwrap();
        assert_eq!(username.text, "ours1234:theirs");
        assert_eq!(message.get(ATTR_PRIORITY).unwrap(), [0x6e, 0, 1, 0xff]);
        assert!(message.contains(ATTR_USE_CANDIDATE));
    }

    #[test]
    fn the_reference_reads_our_responses() {
        for address in ["192.0.2.9:40001", "[2001:db8::9]:40002"] {
            let address: SocketAddr = address.parse().unwrap();
            let bytes = Writer::new(Class::Success, &[9; 12])
                .mapped_address(address)
                .finish(&key(PASSWORD));
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&reference(&bytes)).unwrap();
            assert_eq!(SocketAddr::new(mapped.ip, mapped.port), address);
        }
        let bytes = Writer::new(Class::Error, &[9; 12])
            .error(4, 20, "Unknown Attribute")
            .unknown_attributes(&[0x7001])
            .finish(&key(PASSWORD));
        let message = reference(&bytes);
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).unwrap();
        assert_eq!((message.typ, error.code.0), (BINDING_ERROR, 420));
        assert_eq!(message.get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(), [0x70, 1]);
    }

    #[test]
    fn a_mapped_address_is_that_of_the_socket_beneath() {
        let bytes = Writer::new(Class::Success, &[9; 12])
            .mapped_address("[::ffff:192.0.2.9]:40001".parse().unwrap())
            .finish(&key(PASSWORD));
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&reference(&bytes)).unwrap();
        assert_eq!(mapped.ip, IpAddr::from([192, 0, 2, 9]));
    }

    #[test]
    fn requests_of_the_reference_are_read() {
        let provider = rtc_crypto::default_provider().unwrap();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            PASSWORD.to_owned(),
            provider.crypto(),
        );
        let mut written = Reference::new();
        written.set_type(BINDING_REQUEST);
        written.transaction_id = TransactionId([3; 12]);
        written.write_header();
        TextAttribute::new(ATTR_USERNAME, "abcdefgh:xyz".to_owned())
            .add_to(&mut written)
            .unwrap();
        written.add(ATTR_PRIORITY, &5_u32.to_be_bytes());
        integrity.add_to(&mut written).unwrap();
        FINGERPRINT.add_to(&mut written).unwrap();

        let read = Message::parse(&written.raw).unwrap();
        assert_eq!((read.class, read.transaction), (Class::Request, [3; 12]));
        assert_eq!(read.priority, Some(5));
        assert!(read.is_authentic(&key(PASSWORD)));
        assert!(!read.is_authentic(&key("another password")));
        assert_eq!(ufrag_of(&written.raw), Some("abcdefgh"));
        assert!(message::is_stun_message(&written.raw) && is_stun(&written.raw));
    }

    #[test]
    fn one_changed_bit_is_noticed() {
        let good = request();
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let authentic = Message::parse(&bad).is_some_and(|m| m.is_authentic(&key(PASSWORD)));
            // Bits of the fingerprint's own type may turn it into an attribute to be ignored.
            let beyond_integrity = at / 8 >= good.len() - 8;
            assert!(!authentic || beyond_integrity, "bit {at}");
        }
    }

    #[test]
    fn junk_has_no_ufrag_and_breaks_nothing() {
        let mut random = SmallRng::seed_from_u64(8445);
        let good = request();
        assert_eq!(ufrag_of(&good), Some("ours1234"));
        for length in 0..good.len() {
            assert_eq!(ufrag_of(&good[..length]), None);
            assert!(Message::parse(&good[..length]).is_none());
        }
        let mut read = 0;
        for round in 0..50_000 {
            let mut junk = good.clone();
            junk.truncate(random.random_range(0..=good.len()));
            for _ in 0..random.random_range(0..6) {
                if !junk.is_empty() {
                    let at = random.random_range(0..junk.len());
                    junk[at] = random.random();
                }
            }
            if round % 2 == 0 && junk.len() >= MESSAGE_HEADER_SIZE {
                junk.truncate(junk.len() / 4 * 4);
                let total = junk.len();
                set_length(&mut junk, total);
            }
            read += u32::from(ufrag_of(&junk).is_some());
            if let Some(message) = Message::parse(&junk) {
                message.is_authentic(&key(PASSWORD));
            }
        }
        assert!(read > 1_000, "the junk is too bad to test anything: {read}");
    }
}
