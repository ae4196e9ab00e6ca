//! [`Ear`]: what a viewer says, from opened RTP packets to the hub's [`Speaker`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    hub::{Heard, Speaker, Speech},
    media::{Codec, audio::SpeechPacket},
    webrtc::{hearing::Hearing, srtp::Control},
};

/// How long the last word on a viewer's speech stands when nothing more comes.
const STANDS_FOR: Duration = Duration::from_secs(5);
/// From this level on, in dB below the loudest ([RFC 6464 §3]), there is nothing in 16 bits.
///
/// [RFC 6464 §3]: https://datatracker.ietf.org/doc/html/rfc6464#section-3
const SILENT_LEVEL: u8 = 90;
/// An Opus packet of so few bytes has no sound in it: its head, and a frame that is not sent, or is silent.
const SILENT_OPUS: usize = 3;

/// Takes the packets of one viewer.
#[derive(Debug)]
pub struct Ear {
    hearing: Hearing,
    speaker: Speaker,
    /// When a packet has come last.
    last: Option<Instant>,
    heard: Heard,
}

impl Ear {
    /// An ear for what `hearing` agreed on.
    #[must_use]
    pub fn new(hearing: Hearing, speaker: Speaker) -> Self {
        Self {
            hearing,
            speaker,
            last: None,
            heard: Heard::Nothing,
        }
    }

    /// Takes an SRTP packet; one that is forged, or of another format, is passed over.
    pub fn take(&mut self, now: Instant, control: &mut Control, packet: &[u8]) {
        if let Some(packet) = control.open_media(packet) {
            self.listen(now, &packet.freeze());
        }
    }

    fn listen(&mut self, now: Instant, packet: &Bytes) {
        if let Some(speech) = self.read(packet) {
            self.last = Some(now);
            self.heard = self.speaker.speak(speech);
        }
    }

    /// What has become of it.
    #[must_use]
    pub fn heard(&self, now: Instant) -> Heard {
        let stands = self.last.is_some_and(|last| now < last + STANDS_FOR);
        if stands { self.heard } else { Heard::Nothing }
    }

    fn read(&self, packet: &Bytes) -> Option<Speech> {
        let rtp = Rtp::read(packet)?;
        let formats = &mut self.hearing.formats.iter();
        let format = formats.find(|format| format.payload_type == rtp.payload_type)?;
        let level = self.hearing.level.and_then(|id| rtp.extension(id)?.first());
        let is_silent = match level {
            Some(level) => level & 0x7f >= SILENT_LEVEL,
            None => is_silent(format.codec, rtp.payload),
        };
        Some(Speech {
            packet: SpeechPacket {
                codec: format.codec,
                sequence: rtp.sequence,
                timestamp: rtp.timestamp,
                payload: packet.slice_ref(rtp.payload),
            },
            is_silent,
        })
    }
}

/// Whether a payload has nothing to be heard, as far as that is seen from outside.
fn is_silent(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => payload.len() <= SILENT_OPUS,
        // The codes of the smallest samples.
        Codec::Pcmu => payload.iter().all(|code| code & 0x7e == 0x7e),
        Codec::Pcma => payload.iter().all(|code| code & 0x7e == 0x54),
        Codec::H264(_) | Codec::H265(_) => true,
    }
}

/// An RTP packet ([RFC 3550 §5.1]).
///
/// [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1
struct Rtp<'a> {
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    /// The profile of the header extension, and its data.
    extensions: Option<(u16, &'a [u8])>,
    payload: &'a [u8],
}

impl<'a> Rtp<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let (head, rest) = packet.split_first_chunk::<12>()?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let mut rest = rest.get(4 * usize::from(head[0] & 0x0f)..)?;
        let mut extensions = None;
        if head[0] & 0x10 != 0 {
            let ([a, b, c, d], after) = rest.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([*c, *d]));
            let (data, payload) = after.split_at_checked(4 * words)?;
            extensions = Some((u16::from_be_bytes([*a, *b]), data));
            rest = payload;
        }
        if head[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last()?);
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        Some(Self {
            payload_type: head[1] & 0x7f,
            sequence: u16::from_be_bytes([head[2], head[3]]),
            timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            extensions,
            payload: rest,
        })
    }

    /// The data of extension `wanted` ([RFC 8285 §4.2]).
    ///
    /// [RFC 8285 §4.2]: https://datatracker.ietf.org/doc/html/rfc8285#section-4.2
    fn extension(&self, wanted: u8) -> Option<&'a [u8]> {
        let (profile, mut data) = self.extensions?;
        if profile != 0xbede {
            return None;
        }
        while let Some((head, rest)) = data.split_first() {
            if *head == 0 {
                data = rest;
                continue;
            }
            let (id, length) = (head >> 4, usize::from(head & 0x0f) + 1);
            let (value, after) = rest.split_at_checked(length)?;
            if id == wanted {
                return Some(value);
            }
            data = after;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{Wanted, hub},
        webrtc::hearing::HeardFormat,
    };

    fn ear_of(level: Option<u8>, speaker: Speaker) -> Ear {
        let format = |payload_type, codec: Codec| HeardFormat {
            payload_type,
            codec,
            rtpmap: String::new(),
            fmtp: String::new(),
        };
        let formats = vec![format(111, Codec::Opus), format(0, Codec::Pcmu)];
        let hearing = Hearing {
            section: 0,
            formats,
            level,
        };
        Ear::new(hearing, speaker)
    }

    /// A packet with two extensions, 3 being the level, and padding.
    fn packet(payload_type: u8, sequence: u8, level: u8, payload: &[u8]) -> Bytes {
        let mut packet = vec![0xb1, 0x80 | payload_type, 0, sequence, 0, 0, 3, 0xc0];
        packet.extend([0, 0, 0, 9, 0, 0, 0, 8]);
        packet.extend([0xbe, 0xde, 0, 2, 0x51, 1, 2, 0, 0x30, level, 0, 0]);
        packet.extend(payload);
        packet.extend([0, 2]);
        packet.into()
    }

    #[tokio::test]
    async fn speech_is_passed_on_and_silence_begins_nothing() {
        let (out, hub) = hub();
        let mut ear = ear_of(Some(3), hub.speaker());
        let now = Instant::now();
        ear.listen(now, &packet(111, 1, 127, &[1; 40]));
        assert_eq!(ear.heard(now), Heard::Nothing);
        ear.listen(now, &packet(111, 2, 0x9e, &[2; 40]));
        ear.listen(now, &packet(111, 3, 127, &[3; 40]));
        ear.listen(now, &packet(100, 4, 10, &[4; 40]));
        assert_eq!(ear.heard(now), Heard::Passed);
        assert_eq!(ear.heard(now + STANDS_FOR), Heard::Nothing);
        let Wanted::Turn(mut turn) = out.listener().next().await else {
            panic!("nobody has asked")
        };
        for sequence in [2, 3] {
            let said = turn.next().await.unwrap();
            assert_eq!((said.sequence, said.timestamp), (sequence, 960));
            assert_eq!(said.payload, vec![u8::try_from(sequence).unwrap(); 40]);
        }
        let mut other = ear_of(None, hub.speaker());
        other.listen(now, &packet(0, 1, 127, &[0x12; 160]));
        assert_eq!(other.heard(now), Heard::Busy);
    }

    #[test]
    fn without_a_level_silence_is_known_by_its_codes() {
        for (codec, payload, silent) in [
            (Codec::Opus, vec![0xf8, 0xff, 0xfe], true),
            (Codec::Opus, vec![0x78, 1, 2, 3, 4], false),
            (Codec::Pcmu, vec![0xff, 0x7f, 0xfe, 0x7e], true),
            (Codec::Pcmu, vec![0xff, 0x7f, 0xf0], false),
            (Codec::Pcma, vec![0xd5, 0x55, 0xd4], true),
            (Codec::Pcma, vec![0xd5, 0x15], false),
        ] {
            assert_eq!(is_silent(codec, &payload), silent, "{codec} {payload:x?}");
        }
    }

    #[test]
    fn packets_that_end_too_early_are_none() {
        let (_out, hub) = hub();
        let ear = ear_of(Some(3), hub.speaker());
        let whole = packet(111, 1, 30, &[]);
        for length in 0..whole.len() {
            let part = whole.slice(..length);
            assert!(
                ear.read(&part)
                    .is_none_or(|said| said.packet.payload.len() < 8)
            );
        }
        assert!(ear.read(&Bytes::from_static(&[0x40; 40])).is_none());
    }
}
