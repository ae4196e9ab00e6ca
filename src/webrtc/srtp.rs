//! SRTP ([RFC 3711], [RFC 7714]): [`Sealer`] for the packets that we send, sealed where they lie;
//! [`Control`] for RTCP in both directions and the speech of viewers, which are rare enough for the family's
//! own context.
//!
//! [RFC 3711]: https://datatracker.ietf.org/doc/html/rfc3711
//! [RFC 7714]: https://datatracker.ietf.org/doc/html/rfc7714

use std::fmt;

use bytes::BytesMut;
use rtc_crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoError, HmacAlgorithm, Mac, RTCCrypto,
    StreamCipher, StreamCipherAlgorithm,
};
use rtc_srtp::{
    context::Context,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use crate::base::{Error, ErrorKind};

/// Bytes of an SRTP master key of the profiles in use.
const KEY: usize = 16;
/// Packets of streams never heard of that are tried to open; a browser has a handful of streams.
const STRANGERS_MAX: usize = 256;
/// Packets that RTP and RTCP may come late by.
const REPLAY_WINDOW: usize = 64;

/// A protection profile that we speak ([RFC 5764 §4.1.2], [RFC 7714 §14.2]).
///
/// [RFC 5764 §4.1.2]: https://datatracker.ietf.org/doc/html/rfc5764#section-4.1.2
/// [RFC 7714 §14.2]: https://datatracker.ietf.org/doc/html/rfc7714#section-14.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`.
    Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`.
    Cm,
}

impl Profile {
    fn salt(self) -> usize {
        match self {
            Self::Gcm => 12,
            Self::Cm => 14,
        }
    }

    /// Bytes by which sealing grows a packet.
    #[must_use]
    pub fn tag(self) -> usize {
        match self {
            Self::Gcm => 16,
            Self::Cm => 10,
        }
    }

    /// Bytes that the DTLS exporter has to give ([RFC 5764 §4.2]).
    ///
    /// [RFC 5764 §4.2]: https://datatracker.ietf.org/doc/html/rfc5764#section-4.2
    #[must_use]
    pub fn material(self) -> usize {
        2 * (KEY + self.salt())
    }

    fn family(self) -> ProtectionProfile {
        match self {
            Self::Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::Cm => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

/// Everything that protects one connection.
#[derive(Debug)]
pub struct Keys {
    /// For the media that we send.
    pub sealer: Sealer,
    /// For RTCP both ways, and media that comes in.
    pub control: Control,
}

impl Keys {
    /// The keys of the DTLS server, from what the exporter gave.
    ///
    /// # Errors
    /// `Internal` when the material is too short or a cipher is missing.
    pub fn server(
        profile: Profile,
        material: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, Error> {
        if material.len() != profile.material() {
            return Err(Error::new(
                ErrorKind::Internal,
                "SRTP keys have a wrong length",
            ));
        }
        let (keys, salts) = material.split_at(2 * KEY);
        let (client_key, server_key) = keys.split_at(KEY);
        let (client_salt, server_salt) = salts.split_at(profile.salt());
        let context = |key, salt| {
            let context = Context::new(
                key,
                salt,
                profile.family(),
                Some(srtp_replay_protection(REPLAY_WINDOW)),
                Some(srtcp_replay_protection(REPLAY_WINDOW)),
                crypto,
            );
            context.map_err(|e| Error::new(ErrorKind::Internal, "no SRTCP").with_source(e))
        };
        Ok(Self {
            sealer: Sealer::new(profile, server_key, server_salt, crypto)
                .map_err(|e| Error::new(ErrorKind::Internal, "no SRTP").with_source(e))?,
            control: Control {
                outgoing: context(server_key, server_salt)?,
                incoming: context(client_key, client_salt)?,
                known: Vec::new(),
                strangers: 0,
            },
        })
    }
}

/// Protects outgoing RTP packets in place.
pub struct Sealer {
    salt: [u8; 14],
    cipher: Cipher,
}

enum Cipher {
    Gcm(Box<dyn AeadCipher>),
    Cm {
        stream: Box<dyn StreamCipher>,
        mac: Box<dyn Mac>,
    },
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// RFC 3711 §4.3.1: what a derived key is for.
const LABEL_ENCRYPTION: u8 = 0;
const LABEL_AUTHENTICATION: u8 = 1;
const LABEL_SALT: u8 = 2;

impl Sealer {
    /// A sealer with the session keys of a master key of 16 bytes and its salt.
    ///
    /// # Errors
    /// When a cipher is missing.
    pub fn new(
        profile: Profile,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, CryptoError> {
        let mut encryption = [0; KEY];
        derive(crypto, key, salt, LABEL_ENCRYPTION, &mut encryption)?;
        let mut session_salt = [0; 14];
        derive(
            crypto,
            key,
            salt,
            LABEL_SALT,
            &mut session_salt[..profile.salt()],
        )?;
        let cipher = match profile {
            Profile::Gcm => Cipher::Gcm(crypto.new_aead(AeadAlgorithm::Aes128Gcm, &encryption)?),
            Profile::Cm => {
                let mut authentication = [0; 20];
                derive(crypto, key, salt, LABEL_AUTHENTICATION, &mut authentication)?;
                Cipher::Cm {
                    stream: crypto
                        .new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &encryption)?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, &authentication)?,
                }
            }
        };
        Ok(Self {
            salt: session_salt,
            cipher,
        })
    }

    /// Bytes by which sealing grows a packet.
    #[must_use]
    pub fn tag(&self) -> usize {
        match self.cipher {
            Cipher::Gcm(_) => Profile::Gcm.tag(),
            Cipher::Cm { .. } => Profile::Cm.tag(),
        }
    }

    /// Protects `packet`: a header of `header` bytes, the payload, and room for the tag. `index` is
    /// the sequence number with its rollovers, below 2⁴⁸; the same index of one `ssrc` must not be
    /// used for different contents. False when the packet must not be sent.
    #[must_use]
    pub fn seal(&mut self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> bool {
        let Some(end) = packet
            .len()
            .checked_sub(self.tag())
            .filter(|end| *end >= header)
        else {
            return false;
        };
        // The low 48 bits are all that there is (RFC 3711 §3.3.1).
        let index: [u8; 8] = index.to_be_bytes();
        let (body, tag) = packet.split_at_mut(end);
        match &mut self.cipher {
            Cipher::Gcm(aead) => {
                // RFC 7714 §8.1: 0, 0, SSRC, ROC, SEQ, exclusive-ored with the salt.
                let mut nonce = [0; 12];
                nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
                nonce[6..].copy_from_slice(&index[2..]);
                exclusive_or(&mut nonce, &self.salt);
                let (header, payload) = body.split_at_mut(header);
                aead.seal_in_place(&nonce, header, payload, tag).is_ok()
            }
            Cipher::Cm { stream, mac } => {
                // RFC 3711 §4.1.1: salt ⊕ SSRC · 2⁶⁴ ⊕ index · 2¹⁶, and a block counter.
                let mut iv = [0; 16];
                iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
                iv[8..14].copy_from_slice(&index[2..]);
                exclusive_or(&mut iv, &self.salt);
                let mut full = [0; 20];
                let sealed = stream.apply_keystream(&iv, &mut body[header..]).is_ok()
                    // RFC 3711 §4.2: the packet and its rollover counter.
                    && mac.sign(&[body, &index[2..6]], &mut full).is_ok();
                tag.copy_from_slice(&full[..tag.len()]);
                sealed
            }
        }
    }
}

fn exclusive_or(target: &mut [u8], with: &[u8]) {
    for (target, with) in target.iter_mut().zip(with) {
        *target ^= with;
    }
}

/// RFC 3711 §4.3.3, with a key derivation rate of zero: AES in counter mode over the salted label.
fn derive(
    crypto: &dyn RTCCrypto,
    key: &[u8],
    salt: &[u8],
    label: u8,
    out: &mut [u8],
) -> Result<(), CryptoError> {
    for (number, part) in (0_u16..).zip(out.chunks_mut(16)) {
        let mut block = [0; 16];
        block[..salt.len()].copy_from_slice(salt);
        block[7] ^= label;
        block[14..].copy_from_slice(&number.to_be_bytes());
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block)?;
        part.copy_from_slice(&block[..part.len()]);
    }
    Ok(())
}

/// Protects RTCP one way, and checks and opens it the other way, and media likewise, with a window against
/// replays.
pub struct Control {
    outgoing: Context,
    incoming: Context,
    /// Streams whose packets were authentic.
    known: Vec<u32>,
    /// Packets of other streams, each of which costs memory before it is found to be forged.
    strangers: usize,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// A compound packet, ready to be sent.
    #[must_use]
    pub fn seal(&mut self, compound: &[u8]) -> Option<BytesMut> {
        self.outgoing.encrypt_rtcp(compound).ok()
    }

    /// A compound packet that came in; none when it is forged, broken or a replay.
    #[must_use]
    pub fn open(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.open_by(packet, 4, |context| context.decrypt_rtcp(packet).ok())
    }

    /// A packet of media that came in, likewise.
    #[must_use]
    pub fn open_media(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.open_by(packet, 8, |context| context.decrypt_rtp(packet).ok())
    }

    /// Opens a packet whose SSRC is at `place`.
    fn open_by(
        &mut self,
        packet: &[u8],
        place: usize,
        open: impl FnOnce(&mut Context) -> Option<BytesMut>,
    ) -> Option<BytesMut> {
        let ssrc = u32::from_be_bytes(*packet.get(place..)?.first_chunk()?);
        let is_known = self.known.contains(&ssrc);
        if !is_known {
            if self.strangers >= STRANGERS_MAX {
                return None;
            }
            self.strangers += 1;
        }
        let opened = open(&mut self.incoming)?;
        if !is_known {
            self.known.push(ssrc);
        }
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(profile: Profile, key: &[u8], salt: &[u8]) -> Context {
        let provider = rtc_crypto::default_provider().unwrap();
        Context::new(key, salt, profile.family(), None, None, provider.crypto()).unwrap()
    }

    #[test]
    fn the_familys_context_opens_what_we_seal_over_a_rollover() {
        let provider = rtc_crypto::default_provider().unwrap();
        for profile in [Profile::Gcm, Profile::Cm] {
            let key: Vec<u8> = (0..16).collect();
            let salt: Vec<u8> = (100..100 + u8::try_from(profile.salt()).unwrap()).collect();
            let mut sealer = Sealer::new(profile, &key, &salt, provider.crypto()).unwrap();
            let mut reference = context(profile, &key, &salt);
            for index in [0x7ffe_u64, 0xffff, 0x1_0000, 0x1_0001, 0x1_7fff] {
                let mut packet = vec![0x80, 96];
                packet.extend_from_slice(&index.to_be_bytes()[6..]);
                packet.extend_from_slice(&[0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef]);
                packet.extend((0..1_000).map(|i: u32| i.to_le_bytes()[0]));
                let clear = packet.clone();
                packet.resize(packet.len() + profile.tag(), 0);
                assert!(sealer.seal(&mut packet, 12, 0xdead_beef, index));
                let opened = reference.decrypt_rtp(&packet).unwrap();
                assert_eq!(opened, clear, "{profile:?} {index:x}");
            }
        }
    }

    #[test]
    fn a_packet_without_room_for_its_tag_is_refused() {
        let provider = rtc_crypto::default_provider().unwrap();
        let mut sealer = Sealer::new(Profile::Gcm, &[1; 16], &[2; 12], provider.crypto()).unwrap();
        assert!(!sealer.seal(&mut [0; 20], 12, 1, 1));
    }

    #[test]
    fn media_is_opened_once_however_it_is_swapped_and_forged_packets_never() {
        let provider = rtc_crypto::default_provider().unwrap();
        for profile in [Profile::Gcm, Profile::Cm] {
            let material: Vec<u8> = (0..profile.material())
                .map(|byte| byte.to_le_bytes()[0])
                .collect();
            let mut server = Keys::server(profile, &material, provider.crypto()).unwrap();
            let (key, salt) = (&material[..KEY], &material[2 * KEY..][..profile.salt()]);
            let mut browser = Sealer::new(profile, key, salt, provider.crypto()).unwrap();
            let mut sealed = |index: u64| {
                let mut packet = vec![0x80, 111];
                packet.extend_from_slice(&index.to_be_bytes()[6..]);
                packet.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 7]);
                packet.extend_from_slice(&[5; 40]);
                let clear = packet.clone();
                packet.resize(packet.len() + profile.tag(), 0);
                assert!(browser.seal(&mut packet, 12, 7, index));
                (packet, clear)
            };
            for index in [0xfffc_u64, 0xfffe, 0xfffd, 0xffff, 0x1_0001, 0x1_0000] {
                let (packet, clear) = sealed(index);
                let mut forged = packet.clone();
                forged[20] ^= 1;
                assert_eq!(server.control.open_media(&forged), None);
                assert_eq!(
                    server.control.open_media(&packet).as_deref(),
                    Some(&clear[..]),
                    "{profile:?} {index:x}"
                );
                assert_eq!(server.control.open_media(&packet), None);
            }
            for length in 0..30 {
                assert_eq!(
                    server.control.open_media(&sealed(0x1_0005).0[..length]),
                    None
                );
            }
        }
    }

    #[test]
    fn control_packets_are_opened_once_and_forged_ones_never() {
        let provider = rtc_crypto::default_provider().unwrap();
        let material: Vec<u8> = (0..56).collect();
        let mut server = Keys::server(Profile::Gcm, &material, provider.crypto()).unwrap();
        // The other side's keys are ours the other way round.
        let mut client = Keys::server(
            Profile::Gcm,
            &[
                &material[16..32],
                &material[..16],
                &material[44..],
                &material[32..44],
            ]
            .concat(),
            provider.crypto(),
        )
        .unwrap();
        let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let sealed = client.control.seal(&report).unwrap();
        let mut forged = sealed.clone();
        forged[9] ^= 1;
        assert_eq!(server.control.open(&forged), None);
        assert_eq!(server.control.open(&sealed).as_deref(), Some(&report[..]));
        assert_eq!(server.control.open(&sealed), None);
    }
}
