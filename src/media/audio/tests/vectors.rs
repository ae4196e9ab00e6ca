//! Decoders beside the samples that ffmpeg's decoders give of the same bytes: a sweep with noise.
//!
//! ffmpeg's G.726 differs from the recommendation in two places, in its encoder too: it rounds the scale
//! (MIX) otherwise, which leaves some 40 dB between the samples, and the zeros of 40 kbit/s (UPB)
//! forget twice as fast, so that this rate cannot be compared.

use super::super::{
    g722,
    g726::{Decoder, Packing},
};

const G722: &[u8] = include_bytes!("../../../../tests/fixtures/audio/sweep.g722");
const G722_SAMPLES: &[u8] = include_bytes!("../../../../tests/fixtures/audio/sweep.g722.raw");

/// Bits of a sample, bytes, and what they stand for.
const G726: [(u8, &[u8], &[u8]); 3] = [
    (
        2,
        include_bytes!("../../../../tests/fixtures/audio/sweep.16.g726"),
        include_bytes!("../../../../tests/fixtures/audio/sweep.16.g726.raw"),
    ),
    (
        3,
        include_bytes!("../../../../tests/fixtures/audio/sweep.24.g726"),
        include_bytes!("../../../../tests/fixtures/audio/sweep.24.g726.raw"),
    ),
    (
        4,
        include_bytes!("../../../../tests/fixtures/audio/sweep.32.g726"),
        include_bytes!("../../../../tests/fixtures/audio/sweep.32.g726.raw"),
    ),
];

fn samples(raw: &[u8]) -> Vec<i16> {
    let pairs = raw.chunks_exact(2);
    pairs
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

#[test]
fn g722_is_decoded_to_the_last_bit() {
    let mut decoder = g722::Decoder::default();
    let decoded: Vec<_> = G722.iter().flat_map(|byte| decoder.decode(*byte)).collect();
    assert!(decoded == samples(G722_SAMPLES));
}

/// In dB.
fn signal_to_noise(wanted: &[i16], decoded: &[i16]) -> f64 {
    assert_eq!(wanted.len(), decoded.len());
    let energy = |sum: f64, value: f64| sum + value * value;
    let signal = wanted
        .iter()
        .map(|sample| f64::from(*sample))
        .fold(0.0, energy);
    let pairs = wanted.iter().zip(decoded);
    let noise = pairs
        .map(|(a, b)| f64::from(*a) - f64::from(*b))
        .fold(1.0, energy);
    10.0 * (signal / noise).log10()
}

/// The same codes with the first of a byte in its lower bits.
fn lower_first(bits: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut codes, mut held, mut count) = (Vec::new(), 0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        count += 8;
        while count >= bits {
            count -= bits;
            codes.push(held >> count & ((1 << bits) - 1));
        }
        held &= (1 << count) - 1;
    }
    let (mut out, mut held, mut count) = (Vec::new(), 0, 0);
    for code in codes {
        held |= code << count;
        count += bits;
        while count >= 8 {
            out.push(held.to_le_bytes()[0]);
            held >>= 8;
            count -= 8;
        }
    }
    out
}

#[test]
fn g726_is_decoded_in_both_orders() {
    for (bits, bytes, raw) in G726 {
        for upper_first in [true, false] {
            let bytes = if upper_first {
                bytes.to_vec()
            } else {
                lower_first(bits, bytes)
            };
            let mut decoder = Decoder::new(Packing { bits, upper_first });
            let mut decoded = Vec::new();
            // In packets: no order depends on where they end.
            for payload in bytes.chunks(usize::from(bits) * 10) {
                decoder.decode(payload, |sample| decoded.push(sample));
            }
            let distance = signal_to_noise(&samples(raw), &decoded);
            assert!(distance > 40.0, "{bits} bits: {distance} dB");
        }
    }
}

/// A sweep that is coded by trying which code comes nearest is heard with the noise that its number of
/// bits explains: 6 dB for each.
#[test]
fn g726_follows_what_was_coded_at_every_rate() {
    let sweep: Vec<i16> = samples(G722_SAMPLES)
        .iter()
        .step_by(4)
        .map(|sample| sample / 2)
        .collect();
    for (bits, least) in [(2, 7.0), (3, 13.0), (4, 18.0), (5, 22.0)] {
        let packing = Packing {
            bits,
            upper_first: false,
        };
        let mut decoder = Decoder::new(packing);
        let decoded: Vec<_> = sweep
            .iter()
            .map(|sample| {
                let tried = (0..1 << bits).map(|code| {
                    let mut decoder = decoder.clone();
                    (decoder.step(code), decoder)
                });
                let best = tried
                    .min_by_key(|(decoded, _)| decoded.abs_diff(*sample))
                    .unwrap();
                decoder = best.1;
                best.0
            })
            .collect();
        let distance = signal_to_noise(&sweep, &decoded);
        assert!(distance > least, "{bits} bits: {distance} dB");
    }
}
