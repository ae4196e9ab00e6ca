//! [`Bits`] to read and [`Writer`] to write the content of NAL units (H.264 §7.2, §9.1), which are the same in H.265.

use crate::media::nal::unsigned_exp_golomb;

/// H.264 §7.4.1: the content of a unit is without the 3 of `00 00 03`. None where the standard leaves
/// open what a decoder sees: for another byte than 0 to 3 after that, and for `00 00 00` to `00 00 02`.
pub(super) fn without_emulation_prevention(unit: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(unit.len());
    let (mut zeros, mut after_prevention) = (0, false);
    for byte in unit {
        if zeros >= 2 && *byte <= 2 || after_prevention && *byte > 3 {
            return None;
        }
        after_prevention = zeros >= 2 && *byte == 3;
        if after_prevention {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        content.push(*byte);
    }
    Some(content)
}

/// The other way.
pub(super) fn with_emulation_prevention(content: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(content.len() + 8);
    let mut zeros = 0;
    for byte in content {
        if zeros >= 2 && *byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        unit.push(*byte);
    }
    unit
}

/// Reads content bit by bit; nothing but none past its end.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bit.
    pub(super) at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(super) fn skip(&mut self, bits: usize) {
        self.at += bits;
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// `u(n)`, of 32 bits at most.
    pub(super) fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    /// `ue(v)` of H.264 §9.1; none above 2²¹ - 2, which nothing in a parameter set needs.
    pub(super) fn ue(&mut self) -> Option<u32> {
        unsigned_exp_golomb(self.data, &mut self.at)
    }

    /// The same, but none above `max`.
    pub(super) fn ue_to(&mut self, max: u32) -> Option<u32> {
        self.ue().filter(|value| *value <= max)
    }

    /// `se(v)` of H.264 §9.1.1.
    pub(super) fn se(&mut self) -> Option<i32> {
        let code = i32::try_from(self.ue()?).ok()?;
        Some(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }
}

/// Writes content bit by bit.
#[derive(Default)]
pub(super) struct Writer {
    content: Vec<u8>,
    bits: usize,
}

impl Writer {
    pub(super) fn flag(&mut self, bit: bool) {
        if self.bits.is_multiple_of(8) {
            self.content.push(0);
        }
        if let Some(last) = self.content.last_mut() {
            *last |= u8::from(bit) << (7 - self.bits % 8);
        }
        self.bits += 1;
    }

    /// The lowest `count` bits of `number`.
    pub(super) fn number(&mut self, number: u32, count: u32) {
        for bit in (0..count).rev() {
            self.flag(number >> bit & 1 == 1);
        }
    }

    /// `ue(v)` of H.264 §9.1.
    pub(super) fn ue(&mut self, number: u32) {
        let code = number + 1;
        let bits = 32 - code.leading_zeros();
        self.number(code, 2 * bits - 1);
    }

    /// These bits of `data`.
    pub(super) fn copy(&mut self, data: &[u8], bits: std::ops::Range<usize>) -> Option<()> {
        let count = bits.len();
        let mut from = Bits {
            data,
            at: bits.start,
        };
        for _ in 0..count {
            self.flag(from.flag()?);
        }
        Some(())
    }

    /// All that was written, the last byte filled up with zeros.
    pub(super) fn finish(self) -> Vec<u8> {
        self.content
    }
}
