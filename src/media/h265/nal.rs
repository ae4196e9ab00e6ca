//! NAL units of H.265: their header.

/// The type of an H.265 NAL unit (H.265 table 7-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NalType(pub u8);

impl NalType {
    /// Instantaneous decoding refresh with pictures that are sent after it and shown before.
    pub const IDR_W_RADL: Self = Self(19);
    /// The same without.
    pub const IDR_N_LP: Self = Self(20);
    /// Video parameter set.
    pub const VPS: Self = Self(32);
    /// Sequence parameter set.
    pub const SPS: Self = Self(33);
    /// Picture parameter set.
    pub const PPS: Self = Self(34);

    /// The type of a NAL unit of the base layer; none of one that is cut short, or of another layer, which is
    /// for decoders that nobody announces.
    #[must_use]
    pub fn of(nal: &[u8]) -> Option<Self> {
        let [first, second, ..] = nal else {
            return None;
        };
        let layer = (first & 1) << 5 | second >> 3;
        (layer == 0).then_some(Self(first >> 1 & 0x3f))
    }

    /// Whether it carries a part of a picture.
    #[must_use]
    pub fn is_slice(self) -> bool {
        self.0 < 32
    }

    /// Whether it is a part of a picture at which decoding can begin: IDR, CRA and BLA.
    #[must_use]
    pub fn is_random_access(self) -> bool {
        (16..=23).contains(&self.0)
    }

    /// Whether the picture is shown before the random access point after which it is sent: RADL and RASL.
    /// Nothing but its like is predicted from it.
    #[must_use]
    pub fn is_leading(self) -> bool {
        (6..=9).contains(&self.0)
    }

    /// Whether pictures of the same temporal sub-layer may be predicted from it.
    #[must_use]
    pub fn is_reference(self) -> bool {
        self.0 >= 16 || self.0 % 2 == 1
    }
}

/// The temporal sub-layer of a NAL unit, 0 for what all others may need.
pub(super) fn temporal_id(nal: &[u8]) -> u8 {
    nal.get(1).map_or(0, |byte| (byte & 7).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        let of = |first: u8| NalType::of(&[first, 1]).unwrap();
        assert_eq!(of(0x40), NalType::VPS);
        assert_eq!(of(0x42), NalType::SPS);
        assert_eq!(of(0x44), NalType::PPS);
        assert!(of(0x26).is_slice() && of(0x26).is_random_access());
        assert_eq!(
            (of(0x26), of(0x28)),
            (NalType::IDR_W_RADL, NalType::IDR_N_LP)
        );
        let cra = of(0x2a);
        assert!(cra.is_random_access() && !cra.is_leading());
        assert!(of(0x12).is_leading() && !of(0x02).is_leading());
        assert!(of(0x02).is_reference() && !of(0x00).is_reference());
        assert!(!NalType::VPS.is_slice());
        assert_eq!((temporal_id(&[2, 1]), temporal_id(&[2, 3])), (0, 2));
    }

    #[test]
    fn other_layers_and_what_is_cut_short_have_no_type() {
        for nal in [&[][..], &[0x40], &[0x41, 1], &[0x40, 9]] {
            assert_eq!(NalType::of(nal), None, "{nal:?}");
        }
    }
}
