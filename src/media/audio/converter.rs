//! [`Converter`]: the packets of a camera's sound to Opus, 20 ms at a time.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Channels, Format,
    encoder::Encoder,
    linear::{Decoded, Decoder},
    resampler::Resampler,
};
use crate::media::MediaTime;

/// Ticks per second of Opus in RTP, whatever it codes (RFC 7587 §4.1), and those of a frame.
const CLOCK: i64 = 48_000;
const FRAME: i64 = CLOCK / 50;

/// Between the time that samples say and the one that timestamps say: from here on something must have
/// been left out, or sent twice. Timestamps of cameras that read a clock for each packet are this wrong.
const JUMP: f64 = 0.150;
/// The same if it lasts.
const LASTING: f64 = 0.040;
/// The same when packets are known to be lost.
const JUMP_AFTER_LOSS: f64 = 0.005;
/// What is missing is replaced by silence as long as it is less than this. Else time goes on without any.
const SILENCE_MAX: f64 = 1.0;
/// Over how long the difference is averaged, in seconds.
const AVERAGED: f64 = 4.0;
/// In how many seconds a difference would be made up for, if it went on like that.
const MADE_UP_IN: f64 = 30.0;
/// How much faster or slower sound may become for that: a sixtieth of a semitone.
const CORRECTION_MAX: f64 = 0.001;
/// Of fading in and out around silence: 5 ms.
const FADES_IN_A_SECOND: u32 = 200;

/// Times beyond 30 years, in seconds, are none.
const TIME_MAX: f64 = 1e9;

/// A packet of sound as it came from the camera, in order.
#[derive(Debug, Clone)]
pub struct SoundPacket {
    /// Of its first sample, on the clock that [`Format::clock_rate`] is of.
    pub time: MediaTime,
    /// When that was captured, on the clock that all tracks share.
    pub captured: Duration,
    /// Whether the packet before it is missing.
    pub is_after_loss: bool,
    /// The RTP marker.
    pub marker: bool,
    /// The RTP payload.
    pub payload: Bytes,
}

/// 20 ms of Opus.
#[derive(Debug, Clone)]
pub struct Block {
    /// On a clock of 48 kHz.
    pub time: MediaTime,
    /// When it was captured, on the clock of [`SoundPacket::captured`].
    pub captured: Duration,
    /// The packet.
    pub payload: Bytes,
}

/// Makes Opus of the packets of one track. Time of what it gives never goes back.
///
/// The number of samples and the timestamps of a camera tell of two clocks, which differ by up to
/// 100 ppm. Timestamps are right, as those of the picture are of the same clock; so sound is played a
/// little faster or slower until both fit.
pub struct Converter {
    format: Format,
    decoder: Decoder,
    line: Option<Line>,
    /// Until when blocks have been given, also by an earlier line.
    given: i64,
}

impl Converter {
    /// A converter that has heard nothing yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            decoder: Decoder::new(format),
            line: None,
            given: i64::MIN,
        }
    }

    /// Takes a packet, and gives the blocks that are complete with it.
    pub fn push(&mut self, packet: &SoundPacket, mut out: impl FnMut(Block)) {
        if packet.is_after_loss {
            self.decoder.interrupt();
        }
        let Self {
            format,
            decoder,
            line,
            given,
        } = self;
        let clock = f64::from(format.clock_rate);
        let begin = (precise(packet.time.0) / clock).clamp(-TIME_MAX, TIME_MAX);
        decoder.push(&packet.payload, packet.marker, |decoded| {
            let Decoded {
                rate,
                channels,
                offset,
                ..
            } = decoded;
            if line
                .as_ref()
                .is_none_or(|line| (line.rate, line.channels) != (rate, channels))
            {
                *line = Line::new(rate, channels);
            }
            let Some(line) = line else {
                return;
            };
            let since = precise(offset) / f64::from(rate);
            let reference = Reference {
                time: begin + since,
                captured: packet.captured.as_secs_f64() + since,
            };
            line.take(&decoded, reference, *given);
            while let Some(block) = line.give(given) {
                out(block);
            }
        });
    }
}

/// A media time and when it was captured, both in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub(super) time: f64,
    pub(super) captured: f64,
}

/// Sound of one rate: what is there but fills no block yet, and where that is in time.
pub(super) struct Line {
    rate: u32,
    channels: Channels,
    resampler: Resampler,
    encoder: Encoder,
    frame: Vec<f32>,
    /// In ticks of Opus, where the next sample out of the resampler is; none before the first sample.
    next: Option<i64>,
    last: Reference,
    /// Average of how much later timestamps are than samples, in seconds.
    difference: f64,
    /// Samples out for each one in, if nothing has to be made up for.
    step: f64,
}

impl Line {
    pub(super) fn new(rate: u32, channels: Channels) -> Option<Self> {
        let encoder = Encoder::new(rate, channels).ok()?;
        Some(Self {
            rate,
            channels,
            resampler: Resampler::new(usize::from(channels.count())),
            frame: vec![0.0; encoder.frame_len()],
            step: f64::from(rate) / f64::from(encoder.rate()),
            encoder,
            next: None,
            last: Reference {
                time: 0.0,
                captured: 0.0,
            },
            difference: 0.0,
        })
    }

    /// Takes samples of the time that `reference` says.
    pub(super) fn take(&mut self, decoded: &Decoded<'_>, reference: Reference, given: i64) {
        self.last = reference;
        let rate = f64::from(self.rate);
        let channels = usize::from(self.channels.count());
        let samples = decoded.samples;
        let Some(next) = self.next else {
            self.begin(reference, given);
            self.resampler.push(samples);
            return;
        };
        let difference = reference.time - self.expected(next);
        let duration = precise(samples.len() / channels) / rate;
        let limit = if decoded.is_broken {
            JUMP_AFTER_LOSS
        } else {
            JUMP
        };
        if difference.abs() < limit {
            let weight = (duration / AVERAGED).min(1.0);
            self.difference += (difference - self.difference) * weight;
            if self.difference.abs() < LASTING {
                self.push(samples, decoded.is_broken);
                return;
            }
        }
        self.difference = 0.0;
        if difference >= SILENCE_MAX {
            self.begin(reference, given);
            self.push(samples, true);
        } else if difference > 0.0 {
            self.silence(count(difference * rate));
            self.push(samples, true);
        } else {
            // Sent twice, or the clock went back: what has its time already is left out.
            let doubled = count(-difference * rate).saturating_mul(channels);
            if let Some(rest) = samples.get(doubled..) {
                self.push(rest, true);
            }
        }
    }

    /// In seconds, where the next sample to take would be, and does as if blocks of what is there had
    /// been given.
    #[cfg(test)]
    pub(super) fn skip(&mut self) -> f64 {
        let step = self.step * (1.0 - self.correction());
        let count = self.frame.len() / usize::from(self.channels.count());
        while self.resampler.skip(step, count) {
            self.next = self.next.map(|next| next + FRAME);
        }
        self.next.map_or(0.0, |next| self.expected(next))
    }

    #[cfg(test)]
    pub(super) fn frame(&self) -> &[f32] {
        &self.frame
    }

    /// In seconds, of the encoder.
    #[cfg(test)]
    pub(super) fn delay(&self) -> f64 {
        precise(self.encoder.delay()) / precise(CLOCK)
    }

    /// In seconds, where the next sample to take is by the number of those taken until now.
    fn expected(&self, next: i64) -> f64 {
        precise(next) / precise(CLOCK) + self.resampler.ahead() / f64::from(self.rate)
    }

    /// By which part sound is to be slower.
    fn correction(&self) -> f64 {
        (self.difference / MADE_UP_IN).clamp(-CORRECTION_MAX, CORRECTION_MAX)
    }

    /// Begins at the time of `reference`, but not before what has been given.
    fn begin(&mut self, reference: Reference, given: i64) {
        self.resampler.reset();
        let start = ticks(reference.time);
        self.next = Some(start.max(given.saturating_add(self.encoder.delay())));
        self.difference = 0.0;
    }

    /// Takes samples that fit; they fade in if what was before them does not.
    fn push(&mut self, samples: &[f32], fades: bool) {
        let channels = usize::from(self.channels.count());
        let all = self.resampler.extend(samples.len() / channels);
        let all_len = all.len();
        all.copy_from_slice(&samples[..all_len]);
        if fades {
            for (frame, part) in all.chunks_exact_mut(channels).zip(rise(self.rate)) {
                for sample in frame {
                    *sample *= part;
                }
            }
        }
    }

    /// Takes so much silence, into which the last sample fades out.
    fn silence(&mut self, length: usize) {
        let channels = usize::from(self.channels.count());
        let mut last = [0.0; 2];
        last[..channels].copy_from_slice(self.resampler.last());
        let silence = self.resampler.extend(length);
        for (frame, part) in silence.chunks_exact_mut(channels).zip(rise(self.rate)) {
            for (sample, last) in frame.iter_mut().zip(last) {
                *sample = last * (1.0 - part);
            }
        }
    }

    /// The next block, if all of it is there.
    fn give(&mut self, given: &mut i64) -> Option<Block> {
        loop {
            let (time, captured) = self.pull(given)?;
            // One that the encoder refuses is missing.
            if let Some(payload) = self.encoder.encode(&self.frame) {
                return Some(Block {
                    time,
                    captured,
                    payload,
                });
            }
        }
    }

    /// Samples of the next block into `frame`, and when a decoder gives them.
    pub(super) fn pull(&mut self, given: &mut i64) -> Option<(MediaTime, Duration)> {
        let next = self.next?;
        let step = self.step * (1.0 - self.correction());
        if !self.resampler.pull(step, &mut self.frame) {
            return None;
        }
        self.next = Some(next + FRAME);
        // What a decoder makes of it begins earlier.
        let time = next - self.encoder.delay();
        *given = (time + FRAME).max(*given);
        let since = precise(time) / precise(CLOCK) - self.last.time;
        let captured = (self.last.captured + since).max(0.0);
        let captured = Duration::try_from_secs_f64(captured).unwrap_or_default();
        Some((MediaTime(time), captured))
    }
}

/// Loudness sample by sample while sound fades in.
fn rise(rate: u32) -> impl Iterator<Item = f32> {
    let length = u16::try_from(rate / FADES_IN_A_SECOND).unwrap_or(u16::MAX);
    (0..length).map(move |number| f32::from(number) / f32::from(length))
}

/// Ticks of Opus.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time since the hub's start; what is out of range is at its end"
)]
fn ticks(seconds: f64) -> i64 {
    (seconds * precise(CLOCK)).round() as i64
}

/// A number of samples, of a time that is not long.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range is at its end"
)]
fn count(samples: f64) -> usize {
    samples.round() as usize
}

/// Numbers of samples and ticks are far below 2^53.
trait Precise {
    fn precise(self) -> f64;
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
impl Precise for i64 {
    fn precise(self) -> f64 {
        self as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
impl Precise for usize {
    fn precise(self) -> f64 {
        self as f64
    }
}

fn precise(value: impl Precise) -> f64 {
    value.precise()
}
