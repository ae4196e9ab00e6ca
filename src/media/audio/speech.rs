//! [`Interpreter`]: what somebody says into a browser to G.711, which cameras take.

use std::fmt;

use bytes::Bytes;

use super::g711;
use crate::media::{Codec, sdp::MediaSection};

/// Blocks of G.711 that are made in a second: cameras expect short packets.
const BLOCKS: u32 = 50;
/// Longest packet of Opus ([RFC 6716 §2.1.4]), as a part of a second.
///
/// [RFC 6716 §2.1.4]: https://datatracker.ietf.org/doc/html/rfc6716#section-2.1.4
const LONGEST: (u32, u32) = (120, 1_000);
/// Time without packets up to which it stands in the timestamps, in seconds. More is another clock.
const PAUSE_MAX: u32 = 60;
/// Rates to which Opus can be decoded.
const OPUS_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// The rate of G.711 in browsers.
const TELEPHONE: u32 = 8_000;

/// One of the two laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// µ-law, `PCMU`.
    Ulaw,
    /// A-law, `PCMA`.
    Alaw,
}

/// What a camera takes as speech: G.711, one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeechFormat {
    /// How a sample is coded.
    pub law: Law,
    /// Samples per second.
    pub rate: u32,
}

impl SpeechFormat {
    /// The best that the section of a camera's description has, and its payload type.
    #[must_use]
    pub fn read(section: &MediaSection) -> Option<(Self, u8)> {
        let formats = section.formats.iter().filter_map(|format| {
            let payload_type = format.parse().ok().filter(|number| *number < 128)?;
            let map = section.rtpmap(format).or(match format.as_str() {
                "0" => Some("PCMU/8000"),
                "8" => Some("PCMA/8000"),
                _ => None,
            });
            let mut parts = map?.split('/').map(str::trim);
            let law = match parts.next()?.to_ascii_uppercase().as_str() {
                "PCMU" => Law::Ulaw,
                "PCMA" => Law::Alaw,
                _ => return None,
            };
            let rate = parts.next().and_then(|rate| rate.parse().ok())?;
            let is_mono = parts.next().is_none_or(|channels| channels == "1");
            let known = is_mono && OPUS_RATES.contains(&rate);
            known.then_some((Self { law, rate }, payload_type))
        });
        // What browsers have as well goes before what is made of Opus; then the camera's order counts.
        formats.min_by_key(|(format, _)| format.rate != TELEPHONE)
    }

    /// The codec of browsers that is the same.
    #[must_use]
    pub fn codec(self) -> Option<Codec> {
        (self.rate == TELEPHONE).then_some(match self.law {
            Law::Ulaw => Codec::Pcmu,
            Law::Alaw => Codec::Pcma,
        })
    }

    /// Samples of one block.
    fn block(self) -> usize {
        (self.rate / BLOCKS) as usize
    }
}

impl fmt::Display for SpeechFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.law {
            Law::Ulaw => "PCMU",
            Law::Alaw => "PCMA",
        };
        write!(f, "{name} {} Hz", self.rate)
    }
}

/// A packet of speech as a browser has sent it.
#[derive(Debug, Clone)]
pub struct SpeechPacket {
    /// What it is.
    pub codec: Codec,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// Its RTP timestamp, on the codec's clock.
    pub timestamp: u32,
    /// The RTP payload.
    pub payload: Bytes,
}

/// A block of G.711, for one packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Spoken<'a> {
    /// Of its first sample, on the clock of [`SpeechFormat::rate`]; from 0.
    pub time: u32,
    /// Whether speech begins here, or goes on after a pause.
    pub begins: bool,
    /// One byte for each sample.
    pub samples: &'a [u8],
}

/// Makes G.711 of what one browser sends. Time of what it gives never goes back.
pub struct Interpreter {
    format: SpeechFormat,
    decoder: Option<ropus::Decoder>,
    linear: Vec<i16>,
    coded: Vec<u8>,
    last: Option<Last>,
    /// Where the next block is if there is no pause before it.
    next: u32,
}

/// The packet before.
struct Last {
    codec: Codec,
    sequence: u16,
    /// When it would end, on the codec's clock.
    end: u32,
}

impl Interpreter {
    /// For a camera that takes `format`.
    #[must_use]
    pub fn new(format: SpeechFormat) -> Self {
        let longest = format.rate * LONGEST.0 / LONGEST.1;
        Self {
            format,
            decoder: None,
            linear: vec![0; longest as usize],
            coded: Vec::new(),
            last: None,
            next: 0,
        }
    }

    /// Takes a packet, and gives the blocks that are in it: none of a packet that comes too late, twice,
    /// or broken.
    pub fn push(&mut self, packet: &SpeechPacket, mut out: impl FnMut(Spoken<'_>)) {
        if let Some(last) = &self.last
            && packet.sequence.wrapping_sub(last.sequence).cast_signed() <= 0
        {
            return;
        }
        if self.convert(packet).is_none() {
            return;
        }
        let clock = packet.codec.clock_rate();
        let scaled = |ticks: u32, from: u32, to: u32| {
            let ticks = u64::from(ticks) * u64::from(to) / u64::from(from);
            u32::try_from(ticks).unwrap_or(u32::MAX)
        };
        let last = self.last.as_ref().filter(|last| last.codec == packet.codec);
        let pause = last.map_or(0, |last| packet.timestamp.wrapping_sub(last.end));
        let pause = if pause <= clock * PAUSE_MAX { pause } else { 0 };
        let pause = scaled(pause, clock, self.format.rate);
        self.next = self.next.wrapping_add(pause);
        let mut begins = last.is_none() || pause > 0;
        for samples in self.coded.chunks(self.format.block()) {
            out(Spoken {
                time: self.next,
                begins: std::mem::take(&mut begins),
                samples,
            });
            let count = u32::try_from(samples.len()).unwrap_or(0);
            self.next = self.next.wrapping_add(count);
        }
        let count = u32::try_from(self.coded.len()).unwrap_or(0);
        let length = scaled(count, self.format.rate, clock);
        self.last = Some(Last {
            codec: packet.codec,
            sequence: packet.sequence,
            end: packet.timestamp.wrapping_add(length),
        });
    }

    /// The samples of a packet into `coded`; none of a broken one.
    fn convert(&mut self, packet: &SpeechPacket) -> Option<()> {
        self.coded.clear();
        if packet.payload.is_empty() {
            return None;
        }
        if self.format.codec() == Some(packet.codec) {
            self.coded.extend_from_slice(&packet.payload);
            return Some(());
        }
        let encode = match self.format.law {
            Law::Ulaw => g711::to_ulaw,
            Law::Alaw => g711::to_alaw,
        };
        let decode = match packet.codec {
            Codec::Pcmu if self.format.rate == TELEPHONE => g711::ulaw,
            Codec::Pcma if self.format.rate == TELEPHONE => g711::alaw,
            Codec::Opus => {
                let decoder = match &mut self.decoder {
                    Some(decoder) => decoder,
                    none => {
                        // The decoder gives any of its rates by itself, without the tones above.
                        let mono = ropus::Channels::Mono;
                        none.insert(ropus::Decoder::new(self.format.rate, mono).ok()?)
                    }
                };
                let normal = ropus::DecodeMode::Normal;
                let decoded = decoder.decode(&packet.payload, &mut self.linear, normal);
                let samples = self.linear.get(..decoded.ok()?)?;
                self.coded.extend(samples.iter().copied().map(encode));
                return Some(());
            }
            _ => return None,
        };
        self.coded
            .extend(packet.payload.iter().map(|byte| encode(decode(*byte))));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::media::sdp::Description;

    const PCMU: SpeechFormat = SpeechFormat {
        law: Law::Ulaw,
        rate: 8_000,
    };
    const PCMA: SpeechFormat = SpeechFormat {
        law: Law::Alaw,
        rate: 8_000,
    };

    fn packet(codec: Codec, number: u16, payload: Vec<u8>) -> SpeechPacket {
        SpeechPacket {
            codec,
            sequence: 65_530_u16.wrapping_add(number),
            timestamp: u32::from(number).wrapping_mul(codec.clock_rate() / 50),
            payload: payload.into(),
        }
    }

    fn blocks(interpreter: &mut Interpreter, packet: &SpeechPacket) -> Vec<(u32, bool, usize)> {
        let mut all = Vec::new();
        interpreter.push(packet, |spoken| {
            all.push((spoken.time, spoken.begins, spoken.samples.len()));
        });
        all
    }

    #[test]
    fn the_format_that_browsers_have_is_chosen_before_others() {
        for (section, chosen) in [
            ("m=audio 0 RTP/AVP 0\na=sendonly", Some((PCMU, 0))),
            (
                "m=audio 0 RTP/AVP 97 102 0 8\na=rtpmap:97 mpeg4-generic/48000\na=rtpmap:102 OPUS/48000/2",
                Some((PCMU, 0)),
            ),
            (
                "m=audio 0 RTP/AVP 98 8\na=rtpmap:98 PCMU/16000/1",
                Some((PCMA, 8)),
            ),
            (
                "m=audio 0 RTP/AVP 98\na=rtpmap:98 pcma/16000",
                Some((
                    SpeechFormat {
                        rate: 16_000,
                        ..PCMA
                    },
                    98,
                )),
            ),
            ("m=audio 0 RTP/AVP 98\na=rtpmap:98 PCMU/8000/2", None),
            ("m=audio 0 RTP/AVP 98\na=rtpmap:98 PCMU/11025", None),
            ("m=audio 0 RTP/AVP 200 97\na=rtpmap:200 PCMU/8000", None),
        ] {
            let read = SpeechFormat::read(&Description::parse(section).media[0]);
            assert_eq!(read, chosen, "{section}");
        }
    }

    #[test]
    fn the_same_law_goes_as_it_is_and_the_other_is_translated() {
        let said: Vec<u8> = (0..160).map(|n: u8| n.wrapping_mul(37)).collect();
        let heard = |format| {
            let mut heard = Vec::new();
            let spoken = packet(Codec::Pcmu, 0, said.clone());
            Interpreter::new(format).push(&spoken, |spoken| heard.extend(spoken.samples));
            heard
        };
        assert_eq!(heard(PCMU), said);
        for (ulaw, alaw) in said.iter().zip(heard(PCMA)) {
            let (was, is) = (i32::from(g711::ulaw(*ulaw)), i32::from(g711::alaw(alaw)));
            assert!(
                (was - is).abs() <= (was.abs() >> 4).max(16),
                "{was} became {is}"
            );
        }
    }

    #[test]
    fn pauses_stand_in_the_time_and_late_packets_are_left_out() {
        let mut interpreter = Interpreter::new(PCMU);
        let mut at = |number| blocks(&mut interpreter, &packet(Codec::Pcmu, number, vec![9; 160]));
        assert_eq!(at(4), [(0, true, 160)]);
        assert_eq!(at(5), [(160, false, 160)]);
        // Over the end of the sequence numbers, with three packets lost.
        assert_eq!(at(9), [(800, true, 160)]);
        assert_eq!(at(9), []);
        assert_eq!(at(8), []);
        assert_eq!(at(10), [(960, false, 160)]);
        // Another codec has another clock.
        let opus = packet(Codec::Opus, 11, vec![1]);
        assert_eq!(
            blocks(&mut interpreter, &opus).first(),
            Some(&(1_120, true, 160))
        );
        let back = SpeechPacket {
            timestamp: 7,
            ..packet(Codec::Opus, 12, vec![1])
        };
        assert_eq!(
            blocks(&mut interpreter, &back).first(),
            Some(&(1_280, false, 160))
        );
    }

    #[test]
    fn long_packets_are_cut_and_broken_ones_left_out() {
        let mut interpreter = Interpreter::new(PCMU);
        let long = packet(Codec::Pcmu, 0, vec![9; 400]);
        assert_eq!(
            blocks(&mut interpreter, &long),
            [(0, true, 160), (160, false, 160), (320, false, 80)]
        );
        for (number, payload) in (1_u16..).zip([vec![], vec![3], vec![0xff; 3], vec![0xff; 1_400]])
        {
            let _ = blocks(&mut interpreter, &packet(Codec::Opus, number, payload));
        }
        let picture = packet(Codec::H264(None), 9, vec![1; 20]);
        assert_eq!(blocks(&mut interpreter, &picture), []);
    }

    #[test]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a few thousand samples"
    )]
    fn a_tone_in_opus_is_the_same_tone_in_g711() {
        for (format, per_block) in [
            (PCMU, 160),
            (PCMA, 160),
            (
                SpeechFormat {
                    rate: 16_000,
                    ..PCMU
                },
                320,
            ),
        ] {
            let mut encoder =
                ropus::Encoder::builder(48_000, ropus::Channels::Stereo, ropus::Application::Voip)
                    .build()
                    .unwrap();
            let mut interpreter = Interpreter::new(format);
            let (mut heard, mut next) = (Vec::new(), 0);
            for number in 0..50_u16 {
                let sound: Vec<i16> = (0..960)
                    .flat_map(|n| {
                        let at = f64::from(u32::from(number) * 960 + n) / 48_000.0;
                        let sample = (8_000.0 * (TAU * 700.0 * at).sin()) as i16;
                        [sample; 2]
                    })
                    .collect();
                let mut coded = vec![0; 1_200];
                let length = encoder.encode(&sound, &mut coded).unwrap();
                coded.truncate(length);
                interpreter.push(&packet(Codec::Opus, number, coded), |spoken| {
                    assert_eq!((spoken.time, spoken.samples.len()), (next, per_block));
                    next += per_block as u32;
                    let decode = match format.law {
                        Law::Ulaw => g711::ulaw,
                        Law::Alaw => g711::alaw,
                    };
                    heard.extend(spoken.samples.iter().map(|byte| decode(*byte)));
                });
            }
            let steady = &heard[heard.len() / 2..];
            let rising = steady.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0);
            let seconds = steady.len() as f64 / f64::from(format.rate);
            let tone = rising.count() as f64 / seconds;
            assert!((tone - 700.0).abs() < 5.0, "{format}: {tone} Hz");
            let loudest = steady.iter().map(|sample| sample.unsigned_abs()).max();
            assert!((6_000..10_000).contains(&loudest.unwrap()), "{loudest:?}");
        }
    }
}
