//! [`Format`]: what a sequence parameter set (H.264 §7.3.2.1.1) says of the samples.

use crate::media::nal::{NalType, unsigned_exp_golomb};

/// How the samples of a picture are laid out and what their values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub(super) chroma: u32,
    /// Bits of a sample of light, and of colour.
    pub(super) depth: [u32; 2],
    /// Blocks of 16 × 16 pixels in a picture.
    pub(super) macroblocks: u64,
    /// Pictures that a decoder keeps.
    pub(super) references: u32,
    /// Two fields of every other line instead of whole pictures.
    pub(super) interlaced: bool,
    /// `video_full_range_flag`: black is 0 and white 255, not 16 and 235.
    pub(super) full_range: bool,
    /// `matrix_coefficients` is that of BT.709; anything else is taken for BT.601, as it is where the
    /// camera says nothing.
    pub(super) bt709: bool,
}

/// Profiles whose sets tell the chroma format and may carry scaling matrices (H.264 §7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

impl Format {
    /// Of a sequence parameter set NAL unit; none of one that is cut short.
    pub(super) fn of_sps(sps: &[u8]) -> Option<Self> {
        debug_assert_eq!(NalType::of(sps), Some(NalType::SPS));
        let profile = *sps.get(1)?;
        let data = without_emulation_prevention(sps.get(4..)?);
        let mut bits = Bits { data: &data, at: 0 };
        let _id = bits.ue()?;
        let (mut chroma, mut depth) = (1, [8, 8]);
        if HIGH_PROFILES.contains(&profile) {
            chroma = bits.ue()?;
            if chroma == 3 {
                bits.skip(1);
            }
            depth = [8 + bits.ue()?, 8 + bits.ue()?];
            bits.skip(1);
            if bits.flag()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.skip_order_count()?;
        let references = bits.ue()?;
        bits.skip(1);
        let macroblocks = (u64::from(bits.ue()?) + 1) * (u64::from(bits.ue()?) + 1);
        let interlaced = !bits.flag()?;
        if interlaced {
            bits.skip(1);
        }
        bits.skip(1);
        if bits.flag()? {
            let _cropped = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
        }
        let (full_range, bt709) = bits.video_signal().unwrap_or_default();
        Some(Self {
            chroma,
            depth,
            macroblocks,
            references,
            interlaced,
            full_range,
            bt709,
        })
    }
}

/// H.264 §7.4.1: the 3 of `00 00 03` is not part of the content.
fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        content.push(*byte);
    }
    content
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn skip(&mut self, bits: usize) {
        self.at += bits;
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn byte(&mut self) -> Option<u8> {
        (0..8).try_fold(0, |byte, _| Some(byte << 1 | u8::from(self.flag()?)))
    }

    /// `ue(v)` of H.264 §9.1.
    fn ue(&mut self) -> Option<u32> {
        unsigned_exp_golomb(self.data, &mut self.at)
    }

    /// `se(v)` of H.264 §9.1.1.
    fn se(&mut self) -> Option<i32> {
        let code = i32::try_from(self.ue()?).ok()?;
        Some(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }

    /// H.264 §7.3.2.1.1.1: a list of `size` numbers, which ends early where the rest are equal.
    fn skip_scaling_list(&mut self, size: usize) -> Option<()> {
        let mut last = 8_i32;
        for _ in 0..size {
            last = (last + self.se()?).rem_euclid(256);
            if last == 0 {
                break;
            }
        }
        Some(())
    }

    /// From `log2_max_frame_num_minus4` to the end of what is about the order of pictures.
    fn skip_order_count(&mut self) -> Option<()> {
        let _frame_number = self.ue()?;
        match self.ue()? {
            0 => {
                self.ue()?;
            }
            1 => {
                self.skip(1);
                let _offsets = [self.se()?, self.se()?];
                for _ in 0..self.ue()?.min(255) {
                    self.se()?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Full range and BT.709 of the usability information (H.264 §E.1.1); none if it does not tell.
    fn video_signal(&mut self) -> Option<(bool, bool)> {
        const EXTENDED_ASPECT: u8 = 255;
        const BT709: u8 = 1;
        let has_usability = self.flag()?;
        if !has_usability {
            return None;
        }
        if self.flag()? && self.byte()? == EXTENDED_ASPECT {
            self.skip(32);
        }
        if self.flag()? {
            self.skip(1);
        }
        let has_signal = self.flag()?;
        if !has_signal {
            return None;
        }
        self.skip(3);
        let full_range = self.flag()?;
        let has_colours = self.flag()?;
        if has_colours {
            self.skip(16);
        }
        Some((full_range, has_colours && self.byte()? == BT709))
    }
}
