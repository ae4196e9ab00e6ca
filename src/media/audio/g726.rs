//! G.726 to linear samples ([ITU-T G.726]): adaptive differences of 2 to 5 bits. Names in comments are
//! those of the recommendation.
//!
//! [ITU-T G.726]: https://www.itu.int/rec/T-REC-G.726

/// Bits of a sample, and in which order they lie in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// 2 for 16 kbit/s, to 5 for 40 kbit/s.
    pub bits: u8,
    /// Whether the first sample of a byte is in its upper bits, as ATM's AAL2 has it
    /// ([RFC 3551 §4.5.4]: `AAL2-G726-…`); else it is in the lower ones.
    ///
    /// [RFC 3551 §4.5.4]: https://datatracker.ietf.org/doc/html/rfc3551#section-4.5.4
    pub upper_first: bool,
}

/// What depends on the number of bits, for codes without their sign (tables 5 to 12): the logarithm of
/// the difference (DQLN), the multiplier of the scale (W), and of the speed (F).
struct Rate {
    logarithm: &'static [i32],
    scale: &'static [i32],
    speed: &'static [i32],
}

const RATES: [Rate; 4] = [
    Rate {
        logarithm: &[116, 365],
        scale: &[-22, 439],
        speed: &[0, 7],
    },
    Rate {
        logarithm: &[-2048, 135, 273, 373],
        scale: &[-4, 30, 137, 582],
        speed: &[0, 1, 2, 7],
    },
    Rate {
        logarithm: &[-2048, 4, 135, 213, 273, 323, 373, 425],
        scale: &[-12, 18, 41, 64, 112, 198, 355, 1122],
        speed: &[0, 0, 0, 1, 1, 1, 3, 7],
    },
    Rate {
        logarithm: &[
            -2048, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566,
        ],
        scale: &[
            14, 14, 24, 39, 40, 41, 58, 100, 141, 179, 219, 280, 358, 440, 529, 696,
        ],
        speed: &[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6],
    },
];

/// A number in the recommendation's floating point: 4 bits of exponent and 6 of mantissa.
#[derive(Debug, Clone, Copy)]
struct Float {
    is_negative: bool,
    exponent: i32,
    mantissa: i32,
}

impl Float {
    const ZERO: Self = Self {
        is_negative: false,
        exponent: 0,
        mantissa: 32,
    };

    /// FLOATA and FLOATB.
    fn from(value: i32) -> Self {
        let magnitude = value.abs();
        let exponent = bit_length(magnitude);
        let mantissa = if magnitude == 0 {
            32
        } else {
            (magnitude << 6) >> exponent
        };
        Self {
            is_negative: value < 0,
            exponent,
            mantissa,
        }
    }

    /// FMULT: a coefficient times this.
    fn times(self, coefficient: i32) -> i32 {
        let magnitude = (coefficient >> 2).abs();
        let exponent = bit_length(magnitude);
        let mantissa = if magnitude == 0 {
            32
        } else {
            (magnitude << 6) >> exponent
        };
        let product = (self.mantissa * mantissa + 48) >> 4;
        let value = match self.exponent + exponent - 19 {
            up @ 0.. => product << up & 0x7fff,
            down => product >> -down,
        };
        if self.is_negative == (coefficient < 0) {
            value
        } else {
            -value
        }
    }
}

fn bit_length(value: i32) -> i32 {
    32 - i32::try_from(value.leading_zeros()).unwrap_or(32)
}

/// The state between two samples.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    packing: Packing,
    /// Scale factors: fast (YU) and slow (YL), and what mixes them (AP).
    fast: i32,
    slow: i32,
    mix: i32,
    /// Averages of the speed, short and long (DMS, DML).
    short: i32,
    long: i32,
    /// Coefficients of poles and zeros (A, B), and what they are applied to (SR, DQ).
    poles: [i32; 2],
    zeros: [i32; 6],
    reconstructed: [Float; 2],
    differences: [Float; 6],
    /// Signs of partial reconstructions (PK), and whether there is a tone (TD).
    signs: [i32; 2],
    is_tone: bool,
}

impl Decoder {
    pub(super) fn new(packing: Packing) -> Self {
        Self {
            packing,
            fast: 544,
            slow: 34_816,
            mix: 0,
            short: 0,
            long: 0,
            poles: [0; 2],
            zeros: [0; 6],
            reconstructed: [Float::ZERO; 2],
            differences: [Float::ZERO; 6],
            signs: [1; 2],
            is_tone: false,
        }
    }

    /// Gives the samples of a payload.
    pub(super) fn decode(&mut self, payload: &[u8], mut sample: impl FnMut(i16)) {
        let bits = u32::from(self.packing.bits);
        let mask = (1 << bits) - 1;
        let (mut held, mut count) = (0_u32, 0);
        for byte in payload {
            if self.packing.upper_first {
                held = held << 8 | u32::from(*byte);
            } else {
                held |= u32::from(*byte) << count;
            }
            count += 8;
            while count >= bits {
                count -= bits;
                let code = if self.packing.upper_first {
                    held >> count & mask
                } else {
                    let code = held & mask;
                    held >>= bits;
                    code
                };
                sample(self.step(code as usize));
            }
            if self.packing.upper_first {
                held &= (1 << count) - 1;
            }
        }
    }

    /// One sample.
    pub(super) fn step(&mut self, code: usize) -> i16 {
        let bits = usize::from(self.packing.bits);
        let rate = &RATES[bits - 2];
        let half = 1 << (bits - 1);
        let is_negative = code >= half;
        let magnitude = if is_negative {
            half * 2 - 1 - code
        } else {
            code
        };
        let zeros = self.zeros.iter().zip(&self.differences);
        let by_zeros: i32 = zeros.map(|(b, dq)| dq.times(*b)).sum();
        let poles = self.poles.iter().zip(&self.reconstructed);
        let by_poles: i32 = poles.map(|(a, sr)| sr.times(*a)).sum();
        let estimate = (by_zeros + by_poles) >> 1;
        let by_zeros = by_zeros >> 1;
        // MIX: the scale of this step.
        let scale = if self.mix >= 256 {
            self.fast
        } else {
            let (slow, mix) = (self.slow >> 6, self.mix >> 2);
            let difference = self.fast - slow;
            match difference {
                0.. => slow + ((difference * mix) >> 6),
                _ => slow + ((difference * mix + 63) >> 6),
            }
        };
        let size = antilog(rate.logarithm[magnitude] + (scale >> 2));
        let difference = if is_negative { -size } else { size };
        let value = estimate + difference;
        self.adapt(
            rate,
            magnitude,
            scale,
            &Step {
                difference,
                is_negative,
                value,
                partial: by_zeros + difference,
            },
        );
        i16::try_from((value << 2).clamp(-32_768, 32_767)).unwrap_or_default()
    }
}

/// One step of the decoder, for what comes after.
struct Step {
    difference: i32,
    is_negative: bool,
    value: i32,
    partial: i32,
}

/// ANTILOG: of 7 bits behind the point.
fn antilog(logarithm: i32) -> i32 {
    if logarithm < 0 {
        return 0;
    }
    let (exponent, mantissa) = (logarithm >> 7 & 15, (logarithm & 127) + 128);
    mantissa << 7 >> (14 - exponent)
}

impl Decoder {
    fn adapt(&mut self, rate: &Rate, magnitude: usize, scale: i32, step: &Step) {
        // TRANS: after a tone, a jump means that something else begins.
        let (whole, fraction) = (self.slow >> 15, self.slow >> 10 & 31);
        let threshold = if whole > 9 {
            31 << 10
        } else {
            (32 + fraction) << whole
        };
        let is_transition =
            self.is_tone && step.difference.abs() > (threshold + (threshold >> 1)) >> 1;
        // FUNCTW, FILTD, LIMB, FILTE.
        let grown = rate.scale[magnitude] << 5;
        self.fast = (scale + ((grown - scale) >> 5)).clamp(544, 5_120);
        self.slow += self.fast + (-self.slow >> 6);

        if is_transition {
            self.poles = [0; 2];
            self.zeros = [0; 6];
        } else {
            self.adapt_poles(step.partial);
            self.adapt_zeros(step);
        }
        self.signs = [if step.partial < 0 { -1 } else { 1 }, self.signs[0]];
        self.differences.rotate_right(1);
        self.differences[0] = Float {
            is_negative: step.is_negative,
            ..Float::from(step.difference)
        };
        self.reconstructed = [
            Float::from(step.value.clamp(-32_768, 32_767)),
            self.reconstructed[0],
        ];
        // TONE, FILTA, FILTB, SUBTC, FILTC.
        self.is_tone = !is_transition && self.poles[1] < -11_776;
        let speed = rate.speed[magnitude] << 9;
        self.short += (speed - self.short) >> 5;
        self.long += ((speed << 2) - self.long) >> 7;
        let moves = ((self.short << 2) - self.long).abs() >= self.long >> 3;
        if is_transition {
            self.mix = 256;
        } else if scale < 1_536 || self.is_tone || moves {
            self.mix += (0x200 - self.mix) >> 4;
        } else {
            self.mix += -self.mix >> 4;
        }
    }

    /// UPA1 and UPA2, with their limits.
    fn adapt_poles(&mut self, partial: i32) {
        let [same_first, same_second] = self.signs.map(|sign| sign * partial.signum());
        let [a1, a2] = self.poles;
        let mut pushed = a2 - (a2 >> 7) + (same_second << 7);
        pushed += match -same_first * a1 {
            ..-8_191 => -0x100,
            8_192.. => 0xff,
            slope => slope >> 5,
        };
        let a2 = pushed.clamp(-12_288, 12_288);
        let limit = 15_360 - a2;
        let a1 = (a1 - (a1 >> 8) + 192 * same_first).clamp(-limit, limit);
        self.poles = [a1, a2];
    }

    /// UPB.
    fn adapt_zeros(&mut self, step: &Step) {
        let decay = if self.packing.bits == 5 { 9 } else { 8 };
        for (zero, old) in self.zeros.iter_mut().zip(&self.differences) {
            *zero -= *zero >> decay;
            if step.difference != 0 {
                *zero += if step.is_negative == old.is_negative {
                    128
                } else {
                    -128
                };
            }
        }
    }
}
