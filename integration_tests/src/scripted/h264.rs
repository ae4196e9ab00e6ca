//! Pictures that a real decoder accepts, drawn without an encoder, and the check of what became of them.

/// Macroblocks beside and below each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// 16 by 16 pixels.
    #[default]
    Dot,
    /// 32 by 16 pixels.
    Wide,
    /// 192 by 208 pixels: a key frame has 60 kB.
    Large,
}

impl Size {
    const ALL: [Self; 3] = [Self::Dot, Self::Wide, Self::Large];

    fn macroblocks(self) -> (u32, u32) {
        match self {
            Self::Dot => (1, 1),
            Self::Wide => (2, 1),
            Self::Large => (12, 13),
        }
    }

    fn area(self) -> u32 {
        let (width, height) = self.macroblocks();
        width * height
    }

    /// Sequence parameters of constrained baseline.
    pub(super) fn sps(self) -> Vec<u8> {
        let (width, height) = self.macroblocks();
        let mut bits = Bits(Vec::new());
        bits.ue(0); // seq_parameter_set_id
        bits.ue(0); // log2_max_frame_num_minus4
        bits.ue(2); // pic_order_cnt_type: output order is decoding order
        bits.ue(1); // max_num_ref_frames
        bits.u(1, 0); // gaps_in_frame_num_value_allowed_flag
        bits.ue(width - 1); // pic_width_in_mbs_minus1
        bits.ue(height - 1); // pic_height_in_map_units_minus1
        bits.u(4, 0b1100); // frames only, direct 8x8 inference, no cropping, no VUI
        let level = if self == Self::Large { 30 } else { 10 };
        bits.end(&[0x67, 66, 0xE0, level])
    }
}

/// Picture parameters for all sizes.
pub(super) fn pps() -> Vec<u8> {
    let mut bits = Bits(Vec::new());
    bits.ue(0); // pic_parameter_set_id
    bits.ue(0); // seq_parameter_set_id
    bits.u(2, 0); // CAVLC, no field order
    bits.ue(0); // num_slice_groups_minus1
    bits.ue(0); // num_ref_idx_l0_default_active_minus1
    bits.ue(0); // num_ref_idx_l1_default_active_minus1
    bits.u(3, 0); // no weighted prediction
    bits.ue(0); // pic_init_qp_minus26
    bits.ue(0); // pic_init_qs_minus26
    bits.ue(0); // chroma_qp_index_offset
    bits.u(3, 0); // no deblocking control, no constrained intra, no redundant pictures
    bits.end(&[0x68])
}

/// Supplemental information that nobody needs: unregistered user data.
pub(super) fn sei() -> Vec<u8> {
    let mut unit = vec![0x06, 5, 20];
    unit.extend([0x5C; 20]);
    unit.push(0x80);
    unit
}

/// A picture of one grey.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture {
    pub(super) size: Size,
    /// How many came since the key frame: 0 is one.
    pub(super) place: u32,
    /// Differs between key frames that follow each other.
    pub(super) number: u32,
}

impl Picture {
    /// The picture in at most `count` slices, one NAL unit each.
    pub(super) fn slices(self, count: u32) -> Vec<Vec<u8>> {
        let area = self.size.area();
        let count = count.clamp(1, area);
        let bounds = (0..=count).map(|slice| slice * area / count);
        let bounds: Vec<_> = bounds.collect();
        let slice = |pair: &[u32]| self.slice(pair[0], pair[1] - pair[0]);
        bounds.windows(2).map(slice).collect()
    }

    fn slice(self, first: u32, macroblocks: u32) -> Vec<u8> {
        let is_key = self.place == 0;
        let mut bits = Bits(Vec::new());
        bits.ue(first); // first_mb_in_slice
        bits.ue(if is_key { 7 } else { 5 }); // slice_type: all slices of the picture are I, or P
        bits.ue(0); // pic_parameter_set_id
        bits.u(4, self.place % 16); // frame_num
        if is_key {
            bits.ue(self.number % 2); // idr_pic_id differs between neighbours
            bits.u(2, 0); // neither no_output_of_prior_pics nor long_term_reference
        } else {
            bits.u(3, 0); // as many references as ever, in their order, none forgotten
        }
        bits.ue(0); // slice_qp_delta
        if !is_key {
            bits.ue(macroblocks); // mb_skip_run: nothing has changed
            return bits.end(&[0x61]);
        }
        for _ in 0..macroblocks {
            bits.ue(25); // mb_type I_PCM
            while !bits.0.len().is_multiple_of(8) {
                bits.u(1, 0);
            }
            bits.samples(256, 16 + self.number * 7 % 200);
            bits.samples(128, 128);
        }
        bits.end(&[0x65])
    }
}

/// What the pictures of a scripted camera have become on their way: whether a decoder would show them
/// without a fault.
#[derive(Debug, Default)]
pub struct Checker {
    size: Option<Size>,
    /// `frame_num` of the last picture that was whole.
    last: Option<u32>,
}

impl Checker {
    /// Takes the NAL units of a picture as they came. The size of the picture if it can be shown,
    /// none if a key frame has to come first.
    ///
    /// # Errors
    /// What is wrong with a picture that a decoder would show.
    pub fn take(&mut self, units: &[Vec<u8>]) -> Result<Option<Size>, String> {
        let (mut covered, mut frame, mut is_key) = (0, None, false);
        for unit in units {
            match unit.first().map(|header| header & 0x1F) {
                Some(7) => {
                    let size = Size::ALL.into_iter().find(|size| size.sps() == *unit);
                    self.size = Some(size.ok_or("a parameter set that was never sent")?);
                }
                Some(kind @ (1 | 5)) => {
                    is_key |= kind == 5;
                    let slice = Slice::read(unit)
                        .ok_or_else(|| format!("a broken slice of {} bytes", unit.len()))?;
                    if slice.first != covered || frame.is_some_and(|frame| frame != slice.frame) {
                        return Err(format!("{covered} macroblocks, and then {slice:?}"));
                    }
                    covered += slice.macroblocks;
                    frame = Some(slice.frame);
                }
                _ => {}
            }
        }
        let Some(frame) = frame else {
            return Err("a picture without a slice".to_owned());
        };
        if !is_key && self.last.is_none() {
            return Ok(None);
        }
        let size = self.size.ok_or("a picture before its parameter sets")?;
        if covered != size.area() {
            return Err(format!("{covered} macroblocks of {}", size.area()));
        }
        if !is_key && self.last.map(|last| (last + 1) % 16) != Some(frame) {
            let last = self.last.take();
            return Err(format!("picture {frame} on top of {last:?}"));
        }
        self.last = Some(frame);
        Ok(Some(size))
    }
}

#[derive(Debug)]
struct Slice {
    first: u32,
    frame: u32,
    macroblocks: u32,
}

impl Slice {
    /// Reads what [`Picture::slice`] has written, if it is whole.
    fn read(unit: &[u8]) -> Option<Self> {
        let mut bits = Reader { bytes: unit, at: 8 };
        let is_key = unit[0] & 0x1F == 5;
        let first = bits.ue()?;
        let _slice_type = bits.ue()?;
        let _sets = bits.ue()?;
        let frame = bits.u(4)?;
        if is_key {
            bits.ue()?;
            bits.u(2)?;
        } else {
            bits.u(3)?;
        }
        bits.ue()?;
        let macroblocks = if is_key {
            let begin = (bits.at + 9).div_ceil(8);
            // One has 384 samples; what is before those of the next is two bytes.
            let rest = unit.len().checked_sub(begin + 1)? + 2;
            let grey = *unit.get(begin)?;
            let is_plain = |block: usize| {
                let samples = unit.get(begin + block * 386..)?.get(..384)?;
                let (bright, colour) = samples.split_at(256);
                let is_plain =
                    bright.iter().all(|s| *s == grey) && colour.iter().all(|s| *s == 128);
                is_plain.then_some(())
            };
            (0..rest / 386).try_for_each(is_plain)?;
            u32::try_from((rest % 386 == 0).then_some(rest / 386)?).ok()?
        } else {
            bits.ue()?
        };
        Some(Self {
            first,
            frame,
            macroblocks,
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u(&mut self, width: u32) -> Option<u32> {
        (0..width).try_fold(0, |value, _| {
            let byte = self.bytes.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u32::from(bit))
        })
    }

    fn ue(&mut self) -> Option<u32> {
        let mut width = 0;
        while self.u(1)? == 0 {
            width += 1;
        }
        (width < 16).then_some(())?;
        Some((1 << width | self.u(width)?) - 1)
    }
}

/// Bits in the order of H.264. Nothing written here has two zero bytes in a row, so that no emulation
/// prevention is needed.
struct Bits(Vec<bool>);

impl Bits {
    fn u(&mut self, width: u32, value: u32) {
        self.0
            .extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// Exponential Golomb code.
    fn ue(&mut self, value: u32) {
        let width = (value + 1).ilog2();
        self.u(width, 0);
        self.u(width + 1, value + 1);
    }

    fn samples(&mut self, count: u32, value: u32) {
        for _ in 0..count {
            self.u(8, value);
        }
    }

    /// The NAL unit of what was written, with the bytes that come before.
    fn end(mut self, header: &[u8]) -> Vec<u8> {
        self.u(1, 1);
        let byte = |bits: &[bool]| {
            (0..8).fold(0, |byte, place| {
                byte << 1 | u8::from(bits.get(place) == Some(&true))
            })
        };
        header
            .iter()
            .copied()
            .chain(self.0.chunks(8).map(byte))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(size: Size, place: u32, slices: u32) -> Vec<Vec<u8>> {
        let mut units = vec![size.sps(), pps(), sei()];
        let picture = Picture {
            size,
            place,
            number: 3,
        };
        units.extend(picture.slices(slices));
        units
    }

    #[test]
    fn pictures_of_every_size_are_found_whole() {
        for size in Size::ALL {
            for slices in [1, 2, 5] {
                let mut checker = Checker::default();
                assert_eq!(
                    checker.take(&units(size, 3, 1)),
                    Ok(None),
                    "no key frame yet"
                );
                for place in 0..20 {
                    let seen = checker.take(&units(size, place, slices));
                    assert_eq!(seen, Ok(Some(size)), "{size:?} {slices} {place}");
                }
            }
        }
        let large = units(Size::Large, 0, 1).concat();
        assert!((60_000..61_000).contains(&large.len()), "{}", large.len());
        for size in Size::ALL {
            let all = units(size, 0, 3).concat();
            assert!(!all.windows(3).any(|three| three < &[0, 0, 4][..]));
        }
    }

    #[test]
    fn what_is_lost_or_altered_is_found() {
        let mut checker = Checker::default();
        let whole = units(Size::Large, 0, 4);
        for lost in 3..7 {
            let mut units = whole.clone();
            units.remove(lost);
            assert!(checker.take(&units).is_err(), "slice {lost}");
        }
        for (at, cut) in [(9_000, 9_001), (100, 1_500), (14_000, 15_000)] {
            let mut units = whole.clone();
            units[4].drain(at..cut);
            assert!(checker.take(&units).is_err(), "{at}..{cut}");
        }
        let mut altered = whole.clone();
        altered[5][600] ^= 1;
        assert!(checker.take(&altered).is_err());
        assert!(checker.take(&whole).is_ok());
        assert!(
            checker.take(&units(Size::Large, 2, 1)).is_err(),
            "1 is lost"
        );
        let later = checker.take(&units(Size::Large, 3, 1));
        assert_eq!(later, Ok(None), "a decoder waits for a key frame");
        assert!(checker.take(&whole[..3]).is_err());
    }
}
