//! H.264 access units to RTP payloads ([RFC 6184], packetization mode 1).
//!
//! [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184

use bytes::Bytes;

use super::cut::{self, Packing};
use crate::media::assembler::{AccessUnit, Header};

/// NAL unit types of the two payload structures in use ([RFC 6184 §5.2]).
///
/// [RFC 6184 §5.2]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.2
const STAP_A: u8 = 0x18;
const FU_A: u8 = 0x1c;

/// Cuts one access unit into payloads of at most `payload_max` bytes.
///
/// Units that fit together share a STAP-A; a unit that fits alone is passed on without a copy; a
/// larger one is copied once, into fragments of equal size.
#[must_use]
pub fn cut_access_unit(nal_units: &[Bytes], payload_max: usize) -> Box<[Bytes]> {
    cut::access_unit::<H264>(nal_units, payload_max)
}

/// The same for an access unit, or a part of one, with the pieces of units at its ends.
#[must_use]
pub fn cut_part(unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
    cut::part::<H264>(unit, payload_max)
}

struct H264;

impl Packing for H264 {
    const HEADER: usize = 1;

    /// Of a STAP-A ([RFC 6184 §5.7.1]).
    ///
    /// [RFC 6184 §5.7.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.7.1
    fn aggregate(nal_units: &[Bytes]) -> Header {
        let importance = nal_units
            .iter()
            .filter_map(|nal| nal.first())
            .map(|b| b & 0x60)
            .max();
        [importance.unwrap_or(0) | STAP_A, 0]
    }

    /// Of a FU-A: indicator and header ([RFC 6184 §5.8]).
    ///
    /// [RFC 6184 §5.8]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.8
    fn fragment([header, _]: Header, ends: u8) -> [u8; 3] {
        [header & 0xe0 | FU_A, ends | header & 0x1f, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{
        assembler::{Assembler, Packet},
        h264::ParameterSets,
    };

    fn nal(kind: u8, size: usize) -> Bytes {
        (0..size)
            .map(|i| if i == 0 { kind } else { i.to_le_bytes()[0] | 1 })
            .collect()
    }

    /// What a receiver puts together from `payloads`.
    fn rebuilt(payloads: &[Bytes]) -> Vec<Bytes> {
        let mut assembler = Assembler::new(ParameterSets::default());
        let mut units = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            let packet = Packet {
                time: 0,
                marker: i + 1 == payloads.len(),
                lost: 0,
                payload: payload.clone(),
            };
            assembler.push(packet, &mut |unit| units.extend(unit.nal_units));
        }
        units
    }

    #[test]
    fn every_size_is_rebuilt_from_payloads_that_fit() {
        for size in [2, 90, 99, 100, 101, 198, 199, 5_000, 60_000] {
            let units = [nal(0x67, 12), nal(0x68, 5), nal(0x65, size)];
            let payloads = cut_access_unit(&units, 100);
            assert!(
                payloads.iter().all(|p| p.len() <= 100 && !p.is_empty()),
                "{size}"
            );
            assert_eq!(rebuilt(&payloads), units, "{size}");
        }
    }

    #[test]
    fn a_picture_in_parts_is_rebuilt_too() {
        let idr = nal(0x65, 20_000);
        let mut assembler = Assembler::new(ParameterSets::default());
        let mut payloads = Vec::new();
        let cut = |unit: &AccessUnit| cut_part(unit, 100).into_vec();
        let sent = [nal(0x67, 12), nal(0x68, 5), idr];
        let all = cut_access_unit(&sent, 300);
        for (i, payload) in all.iter().enumerate() {
            let packet = Packet {
                time: 0,
                marker: i + 1 == all.len(),
                lost: 0,
                payload: payload.clone(),
            };
            assembler.push(packet, &mut |unit| payloads.extend(cut(&unit)));
            payloads.extend(assembler.part(8, 100).iter().flat_map(cut));
        }
        assert!(payloads.iter().all(|p| p.len() <= 100));
        assert_eq!(rebuilt(&payloads), sent);
    }

    #[test]
    fn parameter_sets_share_one_payload() {
        let payloads = cut_access_unit(&[nal(0x67, 12), nal(0x68, 5), nal(0x65, 2_000)], 1_154);
        assert_eq!(payloads.len(), 3);
        assert_eq!(payloads[0][0], 0x78);
    }

    #[test]
    fn fragments_of_a_unit_differ_by_less_than_their_number() {
        let payloads = cut_access_unit(&[nal(0x65, 60_000)], 1_154);
        let sizes: Vec<_> = payloads.iter().map(Bytes::len).collect();
        let (last, others) = sizes.split_last().unwrap();
        assert!(others.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(others[0] - last < sizes.len(), "{sizes:?}");
    }

    #[test]
    fn one_unit_that_fits_is_not_copied() {
        let unit = nal(0x41, 500);
        assert_eq!(
            cut_access_unit(std::slice::from_ref(&unit), 1_154)[0].as_ptr(),
            unit.as_ptr()
        );
    }
}
