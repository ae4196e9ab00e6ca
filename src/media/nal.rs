//! NAL units of H.264: their types, those of slices; and the Annex B framing, which is that of H.265 too.

/// The type of an H.264 NAL unit: the low five bits of its first byte (H.264 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NalType(pub u8);

impl NalType {
    /// Coded slice of a picture that is no IDR picture.
    pub const SLICE: Self = Self(1);
    /// Coded slice of an IDR picture.
    pub const IDR: Self = Self(5);
    /// Supplemental enhancement information.
    pub const SEI: Self = Self(6);
    /// Sequence parameter set.
    pub const SPS: Self = Self(7);
    /// Picture parameter set.
    pub const PPS: Self = Self(8);
    /// Access unit delimiter.
    pub const AUD: Self = Self(9);
    /// Filler data.
    pub const FILLER: Self = Self(12);

    /// The type of a NAL unit; none of an empty one.
    #[must_use]
    pub fn of(nal: &[u8]) -> Option<Self> {
        nal.first().map(|byte| Self(byte & 0x1f))
    }

    /// Whether it carries a part of a picture.
    #[must_use]
    pub fn is_slice(self) -> bool {
        (1..=5).contains(&self.0)
    }
}

/// What the macroblocks of a slice may be predicted from (H.264 table 7-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceType {
    /// Up to one picture each.
    P,
    /// Up to two pictures each, of which one is usually shown later.
    B,
    /// Nothing but their own picture.
    I,
}

impl SliceType {
    /// Of a slice, or of the beginning of one; none of what is no slice or ends within its header.
    #[must_use]
    pub fn of(nal: &[u8]) -> Option<Self> {
        // The others carry no slice header, or only its number.
        if !matches!(NalType::of(nal)?.0, 1 | 2 | 5) {
            return None;
        }
        let header = slice_header(nal);
        let mut at = 0;
        let _first_macroblock = unsigned_exp_golomb(&header, &mut at)?;
        match unsigned_exp_golomb(&header, &mut at)? {
            // 3 and 4, 8 and 9 switch between streams, and are else like the first and the third.
            0 | 3 | 5 | 8 => Some(Self::P),
            1 | 6 => Some(Self::B),
            2 | 4 | 7 | 9 => Some(Self::I),
            _ => None,
        }
    }
}

/// The first bytes of a slice header, without emulation prevention (H.264 §7.4.1): `first_mb_in_slice`
/// and `slice_type` have 42 bits at most. What is not there is 0, which is no number's beginning.
fn slice_header(nal: &[u8]) -> [u8; 6] {
    let mut header = [0; 6];
    let mut zeros = 0;
    let content = nal.iter().skip(1).filter(|byte| {
        let prevents = zeros >= 2 && **byte == 3;
        zeros = if **byte == 0 { zeros + 1 } else { 0 };
        !prevents
    });
    for (place, byte) in header.iter_mut().zip(content) {
        *place = *byte;
    }
    header
}

/// Whether other pictures may be predicted from this slice: `nal_ref_idc` (H.264 §7.4.1) is not 0.
#[must_use]
pub fn is_reference(nal: &[u8]) -> bool {
    nal.first().is_some_and(|byte| byte & 0x60 != 0)
}

/// Reads `ue(v)` of H.264 §9.1 at bit position `at` and moves it on.
pub(super) fn unsigned_exp_golomb(data: &[u8], at: &mut usize) -> Option<u32> {
    let mut bit = || {
        let byte = data.get(*at / 8)?;
        let bit = (byte >> (7 - *at % 8)) & 1;
        *at += 1;
        Some(u32::from(bit))
    };
    let mut zeros = 0;
    while bit()? == 0 {
        zeros += 1;
        if zeros > 20 {
            return None;
        }
    }
    let mut value = 1;
    for _ in 0..zeros {
        value = value << 1 | bit()?;
    }
    Some(value - 1)
}

/// The NAL units of an Annex B byte stream (H.264 annex B), without start codes and the zero bytes
/// before them.
pub fn annex_b(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = start_codes(stream).peekable();
    std::iter::from_fn(move || {
        let (_, begin) = starts.next()?;
        let end = starts.peek().map_or(stream.len(), |(code, _)| *code);
        let nal = &stream[begin..end];
        let kept = nal.iter().rposition(|byte| *byte != 0).map_or(0, |i| i + 1);
        Some(&nal[..kept])
    })
    .filter(|nal| !nal.is_empty())
}

/// Whether a unit contains a start code, which emulation prevention keeps out of a proper one.
#[must_use]
pub fn has_start_code(nal: &[u8]) -> bool {
    // Looks at every third byte only: the third of a start code is 1 or 0.
    let mut at = 2;
    while at < nal.len() {
        match nal[at] {
            0 => at += 1,
            1 if nal[at - 1] == 0 && nal[at - 2] == 0 => return true,
            _ => at += 3,
        }
    }
    false
}

/// Positions of each `00 00 01`: where it begins and where the unit after it begins.
fn start_codes(stream: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    stream
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| (at, at + 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_of_start_code_and_trailing_zeros_are_understood() {
        let stream = [
            0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 9, 0,
        ];
        let nals: Vec<_> = annex_b(&stream).collect();
        assert_eq!(nals, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 9]]);
        assert_eq!(NalType::of(nals[2]), Some(NalType::IDR));
    }

    #[test]
    fn a_start_code_is_found_at_every_place() {
        for at in 0..12 {
            let mut nal = vec![0x65; 12];
            nal.splice(at..at, [0, 0, 1]);
            assert!(has_start_code(&nal), "{at}");
        }
        for nal in [
            &[0x65, 0, 1, 0, 1, 1][..],
            &[0, 0],
            &[0, 0, 0, 0],
            &[0x65, 0, 0, 3, 1],
            &[],
        ] {
            assert!(!has_start_code(nal), "{nal:?}");
        }
    }

    #[test]
    fn the_type_of_a_slice_is_read_behind_its_first_macroblock() {
        let of = |nal: &[u8]| SliceType::of(nal);
        // first_mb 0 is the bit 1; 00110, 00111 and 0001000 are 5, 6 and 7.
        assert_eq!(of(&[0x41, 0b1001_1000]), Some(SliceType::P));
        assert_eq!(of(&[0x01, 0b1001_1100]), Some(SliceType::B));
        assert_eq!(of(&[0x65, 0b1000_1000]), Some(SliceType::I));
        // first_mb 80, 0000001010001, and 1 as 010.
        assert_eq!(of(&[0x01, 0b0000_0010, 0b1000_1010]), Some(SliceType::B));
        // A parameter set, data without a header, headers that are cut short or impossible.
        for nal in [
            &[0x67, 0b1001_1100][..],
            &[0x03, 0b1001_1100],
            &[0x41],
            &[0x41, 0b1000_0000],
            &[0x41, 0b1000_0101, 0xff],
            &[],
        ] {
            assert_eq!(of(nal), None, "{nal:?}");
        }
    }

    #[test]
    fn emulation_prevention_is_not_part_of_a_slice_header() {
        // first_mb 65535 is sixteen zeros, 1, and sixteen zeros: the 3 stands behind two empty bytes,
        // twice. Then 010 for B.
        let nal = [0x01, 0, 0, 3, 0b1000_0000, 0, 0b0010_0000];
        assert_eq!(SliceType::of(&nal), Some(SliceType::B));
        let nal = [0x01, 0, 0, 3, 0b1000_0000, 0, 0b0110_0000];
        assert_eq!(SliceType::of(&nal), Some(SliceType::P));
        assert!(is_reference(&[0x21]) && !is_reference(&nal) && !is_reference(&[]));
    }

    #[test]
    fn a_stream_without_units_gives_none() {
        assert_eq!(annex_b(&[]).count(), 0);
        assert_eq!(annex_b(&[0, 0, 1]).count(), 0);
        assert_eq!(annex_b(&[1, 2, 3]).count(), 0);
    }
}
