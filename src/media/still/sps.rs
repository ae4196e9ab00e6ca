//! [`Format`]: what a sequence parameter set (H.264 §7.3.2.1.1) says of the samples, and [`Format::sps`],
//! that set as the decoder gets it.

use crate::media::{
    bits::{Bits, Writer, with_emulation_prevention, without_emulation_prevention},
    nal::NalType,
};

/// How the samples of a picture are laid out and what their values mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    /// `profile_idc`.
    pub(super) profile: u8,
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub(super) chroma: u32,
    /// Bits of a sample of light, and of colour.
    pub(super) depth: [u32; 2],
    /// Blocks of 16 × 16 pixels from left to right and from top to bottom.
    pub(super) macroblocks: [u64; 2],
    /// Width and height in pixels, as far as they are to be seen: of 4:2:0 and whole pictures, which are
    /// all that is decoded.
    pub(super) size: [u64; 2],
    /// Two fields of every other line instead of whole pictures.
    pub(super) interlaced: bool,
    /// `video_full_range_flag`: black is 0 and white 255, not 16 and 235.
    pub(super) full_range: bool,
    /// `matrix_coefficients` is that of BT.709; anything else is taken for BT.601, as it is where the
    /// camera says nothing.
    pub(super) bt709: bool,
    /// Of `frame_num`, in bits.
    pub(super) frame_number: u32,
    /// What a slice tells of the order of pictures.
    pub(super) order: Order,
    /// The set itself, written anew: what was read here and nothing else, so that a decoder cannot read
    /// another size than this one. Without usability information, and with one reference picture, as
    /// more would only cost memory for a picture that refers to none.
    pub(super) sps: Vec<u8>,
}

/// `pic_order_cnt_type` with what it says about slices (H.264 §7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A number of so many bits.
    Number(u32),
    /// Differences to a cycle.
    Cycle,
    /// Nothing.
    Implied,
}

/// Profiles whose sets tell the chroma format and may carry scaling matrices (H.264 §7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Width and height in pixels that a sequence parameter set NAL unit tells; none where it cannot be
/// read without doubt.
#[must_use]
pub fn picture_size(sps: &[u8]) -> Option<[u64; 2]> {
    let format = (NalType::of(sps)? == NalType::SPS).then(|| Format::of_sps(sps))??;
    // Fields have half the lines of their picture.
    let whole = |[width, height]: [u64; 2]| [width, height << u32::from(format.interlaced)];
    let uncropped = format.macroblocks.map(|blocks| blocks * 16);
    // What is cropped counts in other units where there is more colour.
    (format.chroma == 1 || format.size == uncropped).then(|| whole(format.size))
}

impl Format {
    /// Of a sequence parameter set NAL unit. None unless it can be read without doubt up to where its
    /// usability information begins, and leaves something to be seen.
    pub(super) fn of_sps(sps: &[u8]) -> Option<Self> {
        debug_assert_eq!(NalType::of(sps), Some(NalType::SPS));
        let unit = without_emulation_prevention(sps)?;
        let (head, data) = unit.split_at_checked(4)?;
        let profile = head[1];
        let mut bits = Bits::new(data);
        let _id = bits.ue_to(31)?;
        let (mut chroma, mut depth) = (1, [8, 8]);
        if HIGH_PROFILES.contains(&profile) {
            chroma = bits.ue_to(3)?;
            if chroma == 3 {
                bits.skip(1);
            }
            depth = [8 + bits.ue_to(6)?, 8 + bits.ue_to(6)?];
            bits.skip(1);
            if bits.flag()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let frame_number = 4 + bits.ue_to(12)?;
        let order = bits.order()?;
        let before_references = bits.at;
        let _references = bits.ue_to(16)?;
        let after_references = bits.at;
        bits.skip(1);
        let macroblocks = [u64::from(bits.ue()?) + 1, u64::from(bits.ue()?) + 1];
        let interlaced = !bits.flag()?;
        if interlaced {
            bits.skip(1);
        }
        bits.skip(1);
        let mut cropped = [0; 4];
        if bits.flag()? {
            for side in &mut cropped {
                *side = u64::from(bits.ue()?);
            }
        }
        let [left, right, top, bottom] = cropped;
        let seen = |blocks: u64, cropped: u64| {
            let seen = (blocks * 16).checked_sub(cropped * 2)?;
            (seen > 0).then_some(seen)
        };
        let size = [
            seen(macroblocks[0], left + right)?,
            seen(macroblocks[1], top + bottom)?,
        ];

        let mut written = Writer::default();
        written.copy(head, 8..32)?;
        written.copy(data, 0..before_references)?;
        for bit in [false, true, false] {
            written.flag(bit);
        }
        written.copy(data, after_references..bits.at)?;
        let (no_usability, stop) = (false, true);
        written.flag(no_usability);
        written.flag(stop);
        let mut sps = vec![0x67];
        sps.extend(with_emulation_prevention(&written.finish()));

        let (full_range, bt709) = bits.video_signal().unwrap_or_default();
        Some(Self {
            profile,
            chroma,
            depth,
            macroblocks,
            size,
            interlaced,
            full_range,
            bt709,
            frame_number,
            order,
            sps,
        })
    }
}

impl Bits<'_> {
    /// H.264 §7.3.2.1.1.1: a list of `size` numbers, which ends early where the rest are equal.
    fn skip_scaling_list(&mut self, size: usize) -> Option<()> {
        let mut last = 8_i32;
        for _ in 0..size {
            let difference = self.se().filter(|by| (-128..128).contains(by))?;
            last = (last + difference).rem_euclid(256);
            if last == 0 {
                break;
            }
        }
        Some(())
    }

    fn order(&mut self) -> Option<Order> {
        Some(match self.ue_to(2)? {
            0 => Order::Number(4 + self.ue_to(12)?),
            1 => {
                let is_always_zero = self.flag()?;
                let _offsets = [self.se()?, self.se()?];
                for _ in 0..self.ue_to(255)? {
                    self.se()?;
                }
                if is_always_zero {
                    Order::Implied
                } else {
                    Order::Cycle
                }
            }
            _ => Order::Implied,
        })
    }

    /// Full range and BT.709 of the usability information (H.264 §E.1.1); none if it does not tell.
    fn video_signal(&mut self) -> Option<(bool, bool)> {
        const EXTENDED_ASPECT: u32 = 255;
        const BT709: u32 = 1;
        let has_usability = self.flag()?;
        if !has_usability {
            return None;
        }
        if self.flag()? && self.number(8)? == EXTENDED_ASPECT {
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
        Some((full_range, has_colours && self.number(8)? == BT709))
    }
}
