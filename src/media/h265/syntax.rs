//! What is read of parameter sets ([`Sps`], [`Pps`]) and slices (H.265 §7.3).

use std::ops::Range;

use super::{NalType, ParameterSets, ProfileTierLevel};
use crate::media::bits::{Bits, Writer, with_emulation_prevention, without_emulation_prevention};

/// What a sequence parameter set says (H.265 §7.3.2.2.1).
#[derive(Debug, Clone)]
pub(super) struct Sps {
    pub(super) number: u32,
    pub(super) profile_tier_level: ProfileTierLevel,
    /// Width and height in pixels, as far as they are to be seen.
    pub(super) size: Option<[u64; 2]>,
    /// Of the order count in slices, in bits.
    order_bits: u32,
    /// Whether each colour has slices of its own.
    has_colour_planes: bool,
    /// The number of temporal sub-layers, less one.
    sub_layers: u32,
    /// Where profile, tier and level stand in the content, in bits.
    profile_at: Range<usize>,
    /// Where the sizes of buffers begin.
    buffers_at: usize,
}

/// What a picture parameter set says (H.265 §7.3.2.3.1).
#[derive(Debug, Clone)]
pub(super) struct Pps {
    pub(super) number: u32,
    /// The number of its sequence parameter set.
    pub(super) sequence: u32,
    has_output_flag: bool,
    extra_slice_bits: usize,
}

/// Bytes of a NAL unit's header.
const HEADER: usize = 2;
/// What is looked at of a slice: its header up to the order count has 20 bytes at most.
const SLICE_HEADER: usize = 40;

impl Sps {
    pub(super) fn read(nal: &[u8]) -> Option<Self> {
        let content = without_emulation_prevention(nal.get(HEADER..)?)?;
        let mut bits = Bits::new(&content);
        bits.skip(4);
        let sub_layers = bits.number(3)?;
        bits.skip(1);
        let before = bits.at;
        let profile_tier_level = bits.profile_tier_level(sub_layers)?;
        let profile_at = before..bits.at;
        let number = bits.ue_to(15)?;
        let chroma = bits.ue_to(3)?;
        let has_colour_planes = chroma == 3 && bits.flag()?;
        let mut size = [u64::from(bits.ue()?), u64::from(bits.ue()?)];
        let mut cropped = [0; 4];
        if bits.flag()? {
            for side in &mut cropped {
                *side = u64::from(bits.ue()?);
            }
        }
        // In samples of colour.
        let [across, down] = match chroma {
            1 => [2, 2],
            2 => [2, 1],
            _ => [1, 1],
        };
        let [left, right, top, bottom] = cropped;
        size[0] = size[0].saturating_sub((left + right) * across);
        size[1] = size[1].saturating_sub((top + bottom) * down);
        let _depths = [bits.ue_to(8)?, bits.ue_to(8)?];
        let order_bits = bits.ue_to(12)? + 4;
        Some(Self {
            number,
            profile_tier_level,
            size: (!size.contains(&0)).then_some(size),
            order_bits,
            has_colour_planes,
            sub_layers,
            profile_at,
            buffers_at: bits.at,
        })
    }
}

impl Pps {
    pub(super) fn read(nal: &[u8]) -> Option<Self> {
        let content = without_emulation_prevention(nal.get(HEADER..)?)?;
        let mut bits = Bits::new(&content);
        let (number, sequence) = (bits.ue_to(63)?, bits.ue_to(15)?);
        let _has_dependent_slices = bits.flag()?;
        Some(Self {
            number,
            sequence,
            has_output_flag: bits.flag()?,
            extra_slice_bits: usize::try_from(bits.number(3)?).ok()?,
        })
    }
}

/// The lower bits of a picture's order count, and how many they are, as the first slice of it tells (H.265
/// §7.3.6.1); none without its parameter sets.
pub(super) fn order_count(slice: &[u8], sets: &ParameterSets) -> Option<(u32, u32)> {
    let kind = NalType::of(slice)?;
    let end = slice.len().min(SLICE_HEADER);
    let content = without_emulation_prevention(slice.get(HEADER..end)?)?;
    let mut bits = Bits::new(&content);
    let is_first = bits.flag()?;
    if !is_first {
        return None;
    }
    if kind.is_random_access() {
        bits.skip(1);
    }
    let (pps, sps) = sets.pps(bits.ue_to(63)?)?;
    if matches!(kind, NalType::IDR_W_RADL | NalType::IDR_N_LP) {
        return Some((0, sps.order_bits));
    }
    bits.skip(pps.extra_slice_bits);
    let _slice_type = bits.ue_to(2)?;
    if pps.has_output_flag {
        bits.skip(1);
    }
    if sps.has_colour_planes {
        bits.skip(2);
    }
    Some((bits.number(sps.order_bits)?, sps.order_bits))
}

/// A video parameter set (H.265 §7.3.2.1) that says what this sequence parameter set says.
pub(super) fn video_parameter_set(nal: &[u8], sps: &Sps) -> Option<Vec<u8>> {
    let content = without_emulation_prevention(nal.get(HEADER..)?)?;
    let mut bits = Bits::new(&content);
    bits.skip(sps.buffers_at);
    let of_each = bits.flag()?;
    for _ in 0..if of_each { sps.sub_layers + 1 } else { 1 } {
        for _ in 0..3 {
            bits.ue()?;
        }
    }
    let mut written = Writer::default();
    // Its number; of the base layer, which is all there is.
    written.copy(&content, 0..4)?;
    written.number(0b11, 2);
    written.number(0, 6);
    // Sub-layers, and whether they nest.
    written.copy(&content, 4..8)?;
    written.number(0xffff, 16);
    written.copy(&content, sps.profile_at.clone())?;
    written.copy(&content, sps.buffers_at..bits.at)?;
    written.number(0, 6);
    written.ue(0);
    // Neither clock nor extension; the end.
    written.number(0b001, 3);
    let mut unit = vec![0x40, 1];
    unit.extend(with_emulation_prevention(&written.finish()));
    Some(unit)
}

impl Bits<'_> {
    /// H.265 §7.3.3, with so many sub-layers below the highest.
    fn profile_tier_level(&mut self, sub_layers: u32) -> Option<ProfileTierLevel> {
        let _space = self.number(2)?;
        let high_tier = self.flag()?;
        let named = u8::try_from(self.number(5)?).ok()?;
        let compatible = self.number(32)?;
        self.skip(48);
        let level = self.number(8)?;
        let of_each: Vec<_> = (0..sub_layers)
            .map(|_| Some([self.flag()?, self.flag()?]))
            .collect::<Option<_>>()?;
        if sub_layers > 0 {
            self.skip(2 * (8 - of_each.len()));
        }
        for [has_profile, has_level] in of_each {
            self.skip(if has_profile { 88 } else { 0 });
            self.skip(if has_level { 8 } else { 0 });
        }
        // A stream says of each profile whether it conforms to it.
        let conforms = |profile: u8| compatible >> (31 - profile) & 1 == 1;
        let plain = [ProfileTierLevel::MAIN, ProfileTierLevel::MAIN_10];
        let profile = plain.into_iter().find(|plain| conforms(*plain));
        Some(ProfileTierLevel {
            profile: profile.unwrap_or(named),
            high_tier,
            level: u8::try_from(level).ok()?,
        })
    }
}
