//! [`Resampler`]: from one rate of samples to another, and a little faster or slower as long as needed.
//!
//! A filter of windowed sincs (Smith, "Digital Audio Resampling") at any place between two samples, so
//! that the distance of places can change from one sample to the next without anybody hearing it.

use std::f64::consts::PI;

/// Samples on each side of a place that count.
const REACH: usize = 16;
const TAPS: usize = 2 * REACH;
/// Places between two samples whose filters are known; between them they are interpolated, which is
/// exact to -100 dB.
const PHASES: usize = 256;
/// The highest tone that passes, as a part of what a rate can carry.
const CUTOFF: f64 = 0.94;
/// Of the window (Kaiser): what does not pass is 80 dB less.
const BETA: f64 = 8.0;

/// Holds the samples that count for the next.
pub(super) struct Resampler {
    channels: usize,
    /// For each phase the taps, and one phase more for the interpolation.
    filter: Box<[[f32; TAPS]]>,
    /// All channels in turn. `place` is where the next sample is, in samples from the first of these.
    input: Vec<f32>,
    place: f64,
}

impl Resampler {
    pub(super) fn new(channels: usize) -> Self {
        let taps = |phase: usize| {
            let fraction = float(phase) / float(PHASES);
            let mut taps = [0.0; TAPS];
            for (tap, value) in taps.iter_mut().enumerate() {
                *value = kernel(float(tap) - float(REACH - 1) - fraction);
            }
            // No phase is louder than another.
            let sum: f64 = taps.iter().sum();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounded to single precision"
            )]
            taps.map(|value| (value / sum) as f32)
        };
        let mut resampler = Self {
            channels,
            filter: (0..=PHASES).map(taps).collect(),
            input: Vec::new(),
            place: 0.0,
        };
        resampler.reset();
        resampler
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.input.clear();
        // Silence before the first sample.
        self.input.resize(REACH * self.channels, 0.0);
        self.place = float(REACH);
    }

    /// Takes samples, all channels in turn.
    pub(super) fn push(&mut self, samples: &[f32]) {
        self.input.extend_from_slice(samples);
    }

    /// Room for `count` samples of each channel, to be written.
    pub(super) fn extend(&mut self, count: usize) -> &mut [f32] {
        let begin = self.input.len();
        self.input.resize(begin + count * self.channels, 0.0);
        &mut self.input[begin..]
    }

    /// The last samples that were taken, one for each channel; silence before the first.
    pub(super) fn last(&self) -> &[f32] {
        &self.input[self.input.len() - self.channels..]
    }

    /// How many samples of a channel are between the next sample to give and the next to take.
    pub(super) fn ahead(&self) -> f64 {
        float(self.input.len() / self.channels) - self.place
    }

    /// Fills `out` with samples that are `step` of those taken apart; false, and nothing is done, when
    /// too few are there.
    pub(super) fn pull(&mut self, step: f64, out: &mut [f32]) -> bool {
        let count = out.len() / self.channels;
        if self.ahead() < step * float(count) + float(REACH) {
            return false;
        }
        for (frame, number) in out.chunks_exact_mut(self.channels).zip(0..) {
            let place = self.place + step * f64::from(number);
            let (before, fraction) = split(place);
            let (phase, part) = split(fraction * float(PHASES));
            #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
            let part = part as f32;
            let begin = (before + 1 - REACH) * self.channels;
            let input = &self.input[begin..begin + TAPS * self.channels];
            let (low, high) = (&self.filter[phase], &self.filter[phase + 1]);
            match frame {
                [only] => *only = mono(low, high, part, input),
                [left, right] => (*left, *right) = stereo(low, high, part, input),
                _ => {}
            }
        }
        self.place += step * float(count);
        self.forget();
        true
    }

    /// Does as if so many samples of each channel had been pulled.
    #[cfg(test)]
    pub(super) fn skip(&mut self, step: f64, count: usize) -> bool {
        if self.ahead() < step * float(count) + float(REACH) {
            return false;
        }
        self.place += step * float(count);
        self.forget();
        true
    }

    /// Forgets what does not count any more, now and then.
    fn forget(&mut self) {
        let (before, _) = split(self.place);
        let done = before.saturating_sub(REACH) * self.channels;
        if done >= 4_096 {
            self.input.drain(..done);
            self.place -= float(done / self.channels);
        }
    }
}

fn mono(low: &[f32; TAPS], high: &[f32; TAPS], part: f32, input: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let rows = low
        .chunks_exact(8)
        .zip(high.chunks_exact(8))
        .zip(input.chunks_exact(8));
    for ((low, high), input) in rows {
        for (sum, ((low, high), input)) in sums.iter_mut().zip(low.iter().zip(high).zip(input)) {
            *sum += (low + (high - low) * part) * input;
        }
    }
    sums.iter().sum()
}

fn stereo(low: &[f32; TAPS], high: &[f32; TAPS], part: f32, input: &[f32]) -> (f32, f32) {
    let mut sums = [0.0; 8];
    let rows = low
        .chunks_exact(4)
        .zip(high.chunks_exact(4))
        .zip(input.chunks_exact(8));
    for ((low, high), input) in rows {
        for (tap, (low, high)) in low.iter().zip(high).enumerate() {
            let weight = low + (high - low) * part;
            sums[2 * tap] += weight * input[2 * tap];
            sums[2 * tap + 1] += weight * input[2 * tap + 1];
        }
    }
    (
        sums[0] + sums[2] + sums[4] + sums[6],
        sums[1] + sums[3] + sums[5] + sums[7],
    )
}

/// The filter at a distance from its middle, in samples.
fn kernel(distance: f64) -> f64 {
    let within = distance / float(REACH);
    if within.abs() >= 1.0 {
        return 0.0;
    }
    let window = bessel(BETA * (1.0 - within * within).sqrt()) / bessel(BETA);
    let angle = PI * CUTOFF * distance;
    let sinc = if angle == 0.0 {
        1.0
    } else {
        angle.sin() / angle
    };
    sinc * window
}

/// The modified Bessel function of the first kind, order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..32 {
        term *= (x / 2.0 / f64::from(n)).powi(2);
        sum += term;
    }
    sum
}

/// The whole and the rest of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places in a buffer of a few thousand samples"
)]
fn split(value: f64) -> (usize, f64) {
    let whole = value.floor();
    (whole as usize, value - whole)
}

#[expect(clippy::cast_precision_loss, reason = "lengths of buffers")]
fn float(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of a tone in `rate` samples.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded to single precision"
    )]
    fn tone(frequency: f64, rate: usize) -> Vec<f32> {
        (0..rate)
            .map(|i| (2.0 * PI * frequency * float(i) / float(rate)).sin() as f32)
            .collect()
    }

    /// How much more the tone is than everything else, in dB.
    fn purity(samples: &[f32], frequency: f64, rate: usize) -> f64 {
        let (mut cosine, mut sine, mut all) = (0.0, 0.0, 0.0);
        for (i, sample) in samples.iter().enumerate() {
            let (angle, sample) = (
                2.0 * PI * frequency * float(i) / float(rate),
                f64::from(*sample),
            );
            cosine += angle.cos() * sample;
            sine += angle.sin() * sample;
            all += sample * sample;
        }
        let of_tone = 2.0 * (cosine * cosine + sine * sine) / float(samples.len());
        10.0 * (of_tone / (all - of_tone).max(1e-12)).log10()
    }

    #[test]
    fn a_tone_stays_that_tone_at_every_rate() {
        for (from, to) in [
            (11_025, 12_000),
            (16_000, 16_000),
            (22_050, 24_000),
            (32_000, 48_000),
            (44_100, 48_000),
            (48_000, 48_000),
        ] {
            let mut resampler = Resampler::new(1);
            resampler.push(&tone(1_000.0, from));
            let mut out = vec![0.0; to / 2];
            assert!(resampler.pull(float(from) / float(to), &mut out));
            let steady = &out[to / 10..to / 10 + to / 5];
            let purity = purity(steady, 1_000.0, to);
            assert!(purity > 70.0, "{from} to {to}: {purity} dB");
        }
    }

    #[test]
    fn a_tone_that_is_played_faster_is_as_clean_and_channels_do_not_mix() {
        let mut resampler = Resampler::new(2);
        let left = tone(1_000.0, 48_000);
        let both: Vec<f32> = left.iter().flat_map(|sample| [*sample, 0.0]).collect();
        resampler.push(&both);
        let mut out = vec![0.0; 960 * 2];
        let mut heard = Vec::new();
        while resampler.pull(1.0005, &mut out) {
            assert!(out.iter().skip(1).step_by(2).all(|right| *right == 0.0));
            heard.extend(out.iter().step_by(2));
        }
        assert!(heard.len() > 46_000);
        assert!(purity(&heard[4_800..43_200], 1_000.5, 48_000) > 70.0);
        assert!(resampler.ahead() < 960.0 * 1.001 + 17.0 && resampler.input.len() < 8_192);
    }

    #[test]
    fn a_click_is_where_it_was() {
        let mut resampler = Resampler::new(1);
        let mut input = vec![0.0; 2_000];
        input[1_000] = 1.0;
        resampler.push(&input);
        let mut out = vec![0.0; 3_600];
        assert!(resampler.pull(0.5, &mut out));
        let loudest = (0..out.len()).max_by(|a, b| out[*a].total_cmp(&out[*b]));
        assert_eq!(loudest, Some(2_000));
    }
}
