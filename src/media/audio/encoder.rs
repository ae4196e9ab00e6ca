//! [`Encoder`]: Opus ([RFC 6716]), 20 ms at a time.
//!
//! [RFC 6716]: https://datatracker.ietf.org/doc/html/rfc6716

use bytes::Bytes;

use super::Channels;
use crate::media::rtp::PAYLOAD_MAX;

/// Frames in a second.
const FRAMES: u32 = 50;
/// Of 0 to 10. More costs up to twice as much, and is not heard at these bit rates.
const COMPLEXITY: u8 = 5;

/// Makes packets of samples.
pub(super) struct Encoder {
    inner: ropus::Encoder,
    rate: u32,
    channels: Channels,
    packet: Box<[u8; PAYLOAD_MAX]>,
}

impl Encoder {
    /// For sound that was sampled at `rate`: the least rate of Opus that holds it.
    ///
    /// # Errors
    /// What the encoder says.
    pub(super) fn new(rate: u32, channels: Channels) -> Result<Self, String> {
        let rates = [8_000, 12_000, 16_000, 24_000];
        let rate = rates
            .into_iter()
            .find(|enough| rate <= *enough)
            .unwrap_or(48_000);
        let mono = match rate {
            8_000 => 24_000,
            12_000 | 16_000 => 32_000,
            24_000 => 40_000,
            _ => 64_000,
        };
        let (layout, bits_per_second) = match channels {
            Channels::Mono => (ropus::Channels::Mono, mono),
            Channels::Stereo => (ropus::Channels::Stereo, mono * 3 / 2),
        };
        let bit_rate = ropus::Bitrate::try_bits(bits_per_second).map_err(|e| e.to_string())?;
        let inner = ropus::Encoder::builder(rate, layout, ropus::Application::Audio)
            .bitrate(bit_rate)
            .complexity(COMPLEXITY)
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self {
            inner,
            rate,
            channels,
            packet: Box::new([0; PAYLOAD_MAX]),
        })
    }

    /// Samples per second that it takes.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples of all channels in a frame.
    pub(super) fn frame_len(&self) -> usize {
        (self.rate / FRAMES) as usize * usize::from(self.channels.count())
    }

    /// Ticks of 48 kHz by which what a decoder gives is later than what was coded.
    pub(super) fn delay(&self) -> i64 {
        i64::from(self.inner.lookahead()) * i64::from(48_000 / self.rate)
    }

    /// The packet of a frame; none if the encoder refuses it.
    pub(super) fn encode(&mut self, frame: &[f32]) -> Option<Bytes> {
        match self.inner.encode_float(frame, &mut self.packet[..]) {
            // RFC 6716 §3.1: one byte is a frame that is not sent.
            Ok(length @ 2..) => Some(Bytes::copy_from_slice(&self.packet[..length])),
            Ok(_) | Err(_) => None,
        }
    }
}
