//! H.265 access units to RTP payloads ([RFC 7798], in one stream and without decoding order numbers).
//!
//! [RFC 7798]: https://datatracker.ietf.org/doc/html/rfc7798

use bytes::Bytes;

use super::cut::{self, Packing};
use crate::media::assembler::{AccessUnit, Header};

/// Cuts an access unit, or a part of one, into payloads of at most `payload_max` bytes.
///
/// Units that fit together share an aggregation packet; a unit that fits alone is passed on without a copy; a
/// larger one is copied once, into fragments of equal size.
#[must_use]
pub fn cut_part(unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
    cut::part::<H265>(unit, payload_max)
}

/// NAL unit types of the two payload structures in use ([RFC 7798 §4.4]).
///
/// [RFC 7798 §4.4]: https://datatracker.ietf.org/doc/html/rfc7798#section-4.4
const AGGREGATION_PACKET: u8 = 48;
const FRAGMENTATION_UNIT: u8 = 49;
/// The bits of a header's first byte that hold the type.
const TYPE: u8 = 0x7e;

struct H265;

impl Packing for H265 {
    const HEADER: usize = 2;

    /// Of an aggregation packet: the lowest layer and sub-layer of its units ([RFC 7798 §4.4.2]).
    ///
    /// [RFC 7798 §4.4.2]: https://datatracker.ietf.org/doc/html/rfc7798#section-4.4.2
    fn aggregate(nal_units: &[Bytes]) -> Header {
        // All of them are of layer 0.
        let sub_layers = nal_units.iter().filter_map(|nal| nal.get(1));
        let lowest = sub_layers.map(|byte| byte & 7).min();
        [AGGREGATION_PACKET << 1, lowest.unwrap_or(1)]
    }

    /// Of a fragmentation unit ([RFC 7798 §4.4.3]).
    ///
    /// [RFC 7798 §4.4.3]: https://datatracker.ietf.org/doc/html/rfc7798#section-4.4.3
    fn fragment([first, second]: Header, ends: u8) -> [u8; 3] {
        let kind = (first & TYPE) >> 1;
        [first & !TYPE | FRAGMENTATION_UNIT << 1, second, ends | kind]
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::media::{
        assembler::{Assembler, Packet},
        h265::{H265 as Stream, ParameterSets},
        rtp::PAYLOAD_MAX,
    };

    fn nal(kind: u8, size: usize) -> Bytes {
        let header = [kind << 1, 1];
        let content = (2..size).map(|i| i.to_le_bytes()[0] | 1);
        header.into_iter().chain(content).collect()
    }

    /// An IDR picture of so many bytes behind its sets, which are too short to be read.
    fn picture(size: usize) -> Vec<Bytes> {
        vec![nal(32, 24), nal(33, 40), nal(34, 7), nal(19, size)]
    }

    fn whole(nal_units: Vec<Bytes>) -> AccessUnit {
        AccessUnit {
            time: 0,
            random_access: true,
            part: crate::media::Part::WHOLE,
            head: None,
            nal_units,
            tail: None,
        }
    }

    fn assembler() -> Assembler {
        Assembler::new(Stream::new(ParameterSets::default(), false))
    }

    fn packets(payloads: &[Bytes]) -> impl Iterator<Item = Packet> {
        let last = payloads.len() - 1;
        payloads.iter().enumerate().map(move |(i, payload)| Packet {
            time: 0,
            marker: i == last,
            lost: 0,
            payload: payload.clone(),
        })
    }

    /// What a receiver puts together from `payloads`.
    fn rebuilt(payloads: &[Bytes]) -> Vec<Bytes> {
        let (mut assembler, mut units) = (assembler(), Vec::new());
        for packet in packets(payloads) {
            assembler.push(packet, &mut |unit| units.extend(unit.nal_units));
        }
        units
    }

    #[test]
    fn every_size_is_rebuilt_from_payloads_that_fit() {
        for payload_max in [60, 100, PAYLOAD_MAX] {
            let steps = (3..700).chain([5_000, 60_000]);
            for size in steps {
                let units = picture(size);
                let payloads = cut_part(&whole(units.clone()), payload_max);
                let fits = |p: &Bytes| p.len() <= payload_max && p.len() > 2;
                assert!(payloads.iter().all(fits), "{size}");
                assert_eq!(rebuilt(&payloads), units, "{size} in {payload_max}");
            }
        }
    }

    #[test]
    fn pictures_of_any_slices_are_rebuilt_byte_for_byte() {
        let mut random = SmallRng::seed_from_u64(7798);
        for round in 0..2_000 {
            let mut units = picture(random.random_range(3..3_000));
            for _ in 0..random.random_range(0..20) {
                let mut slice = nal(19, random.random_range(3..3_000)).to_vec();
                // Emulation prevention keeps three zeros out of a unit, and 0 and 1 behind two.
                random.fill(&mut slice[3..]);
                slice.iter_mut().skip(3).for_each(|byte| *byte |= 2);
                units.push(slice.into());
            }
            let payload_max = random.random_range(60..PAYLOAD_MAX);
            let payloads = cut_part(&whole(units.clone()), payload_max);
            assert!(payloads.iter().all(|p| p.len() <= payload_max), "{round}");
            assert_eq!(rebuilt(&payloads), units, "{round}");
        }
    }

    #[test]
    fn a_picture_in_parts_is_rebuilt_too() {
        let sent = picture(20_000);
        let (mut assembler, mut payloads) = (assembler(), Vec::new());
        let cut = |unit: &AccessUnit| cut_part(unit, 100).into_vec();
        let mut parts = 0;
        for packet in packets(&cut_part(&whole(sent.clone()), 300)) {
            assembler.push(packet, &mut |unit| payloads.extend(cut(&unit)));
            let part = assembler.part(8, 100);
            parts += usize::from(part.is_some());
            payloads.extend(part.iter().flat_map(cut));
        }
        assert!(parts > 10, "{parts}");
        assert!(payloads.iter().all(|p| p.len() <= 100));
        assert_eq!(rebuilt(&payloads), sent);
    }

    #[test]
    fn parameter_sets_share_one_payload_and_fragments_are_of_one_size() {
        let payloads = cut_part(&whole(picture(60_000)), 1_154);
        assert_eq!(payloads[0][..2], [48 << 1, 1]);
        let (first, second) = (&payloads[1], &payloads[2]);
        assert_eq!(first[..3], [49 << 1, 1, 0x93]);
        assert_eq!(second[..3], [49 << 1, 1, 0x13]);
        let sizes: Vec<_> = payloads[1..].iter().map(Bytes::len).collect();
        let (last, others) = sizes.split_last().unwrap();
        assert!(others.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(others[0] - last < sizes.len(), "{sizes:?}");
        assert_eq!(payloads.last().unwrap()[2], 0x53);
    }

    #[test]
    fn an_aggregate_is_of_the_lowest_sub_layer_of_its_units() {
        let high = |kind: u8| Bytes::from(vec![kind << 1, 3, 0x80, 1]);
        let payloads = cut_part(&whole(vec![high(1), high(1)]), 100);
        assert_eq!(payloads[0][..2], [48 << 1, 3]);
    }

    #[test]
    fn one_unit_that_fits_is_not_copied() {
        let unit = nal(1, 500);
        let payloads = cut_part(&whole(vec![unit.clone()]), 1_154);
        assert_eq!(payloads[0].as_ptr(), unit.as_ptr());
    }
}
