//! G.722 at 64 kbit/s to linear samples ([ITU-T G.722]): two bands of adaptive differences, of which a
//! filter makes one of 16 kHz. Names in comments are those of the recommendation.
//!
//! [ITU-T G.722]: https://www.itu.int/rec/T-REC-G.722

/// Inverse quantizers of 6, 4 and 2 bits (tables 11, 14 and 16: QM6, QM4 and QM2).
const LOW_FINE: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
const LOW_COARSE: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];
const HIGH: [i32; 4] = [-7408, -1616, 7408, 1616];
/// How the step grows, by the index that [`LOW_STEP_INDEX`] gives (WL), and for the high band (WH by IH2).
const LOW_STEP: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const LOW_STEP_INDEX: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
const HIGH_STEP: [i32; 4] = [798, -214, 798, -214];
/// Powers of two by 32nds (ILB).
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Half of the filter that joins the bands (table 3); the other half is the same backwards.
const JOIN: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

fn clip(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// One band: the predictor and the size of its step.
#[derive(Debug, Default)]
struct Band {
    /// Predicted sample (SL, SH), and the part of it that the zeros give (SZL).
    predicted: i32,
    by_zeros: i32,
    /// Logarithm of the step, and the step (NBL, DETL).
    log_step: i32,
    step: i32,
    /// Coefficients of poles and zeros (AL, BL).
    poles: [i32; 2],
    zeros: [i32; 6],
    /// The last differences (DLT), signs of partial reconstructions (PLT), reconstructions (RLT).
    differences: [i32; 6],
    partial: [i32; 2],
    reconstructed: [i32; 2],
}

impl Band {
    fn new(step: i32) -> Self {
        Self {
            step,
            ..Self::default()
        }
    }

    /// Block 3: how large the next difference may be.
    fn scale(&mut self, growth: i32, log_max: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + growth).clamp(0, log_max);
        let index = usize::try_from(self.log_step >> 6 & 31).unwrap_or(0);
        let power = POWERS[index];
        let down = shift - (self.log_step >> 11);
        let step = if down < 0 {
            power << -down
        } else {
            power >> down
        };
        self.step = step << 2;
    }

    /// Block 4: takes a difference and predicts the next sample.
    fn predict(&mut self, difference: i32) {
        let partial = difference + self.by_zeros;
        let reconstructed = clip(self.predicted + difference);
        let [p1, p2] = self.partial;
        let same_1 = (partial < 0) == (p1 < 0);
        let same_2 = (partial < 0) == (p2 < 0);
        // UPPOL2
        let [a1, a2] = self.poles;
        let slope = clip(a1 << 2);
        let slope = if same_1 { -slope } else { slope }.min(32_767);
        let push = if same_2 { 128 } else { -128 };
        let second = (push + (slope >> 7) + ((a2 * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1
        let push = if same_1 { 192 } else { -192 };
        let limit = 15_360 - second;
        let first = (push + ((a1 * 32_640) >> 15)).clamp(-limit, limit);
        self.poles = [first, second];
        // UPZERO
        let push = if difference == 0 { 0 } else { 128 };
        for (zero, old) in self.zeros.iter_mut().zip(self.differences) {
            let same = (old < 0) == (difference < 0);
            *zero = (if same { push } else { -push }) + ((*zero * 32_640) >> 15);
        }
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.partial = [partial, p1];
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        // FILTEP and FILTEZ
        let filter = |coefficients: &[i32], values: &[i32]| -> i32 {
            let products = coefficients.iter().zip(values);
            products.map(|(c, v)| (c * clip(v + v)) >> 15).sum()
        };
        let by_poles = clip(filter(&self.poles, &self.reconstructed));
        self.by_zeros = clip(filter(&self.zeros, &self.differences));
        self.predicted = clip(by_poles + self.by_zeros);
    }
}

/// The state between two bytes.
#[derive(Debug)]
pub(super) struct Decoder {
    low: Band,
    high: Band,
    /// Sums and differences of both bands, the oldest first.
    history: [i32; 24],
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            low: Band::new(32),
            high: Band::new(8),
            history: [0; 24],
        }
    }
}

impl Decoder {
    /// The two samples of a byte.
    pub(super) fn decode(&mut self, byte: u8) -> [i16; 2] {
        let code = usize::from(byte);
        let (low_code, high_code) = (code & 0x3f, code >> 6);
        let low = ((self.low.step * LOW_FINE[low_code]) >> 15) + self.low.predicted;
        let low = low.clamp(-16_384, 16_383);
        let coarse = low_code >> 2;
        let difference = (self.low.step * LOW_COARSE[coarse]) >> 15;
        self.low.scale(LOW_STEP[LOW_STEP_INDEX[coarse]], 18_432, 8);
        self.low.predict(difference);

        let difference = (self.high.step * HIGH[high_code]) >> 15;
        let high = (difference + self.high.predicted).clamp(-16_384, 16_383);
        self.high.scale(HIGH_STEP[high_code], 22_528, 10);
        self.high.predict(difference);

        self.history.copy_within(2.., 0);
        self.history[22] = low + high;
        self.history[23] = low - high;
        let (mut first, mut second) = (0, 0);
        for (pair, i) in self.history.chunks_exact(2).zip(0..) {
            second += pair[0] * JOIN[i];
            first += pair[1] * JOIN[11 - i];
        }
        [first, second].map(|sum| i16::try_from(clip(sum >> 11)).unwrap_or_default())
    }
}
