//! H.264 access units to RTP payloads ([RFC 6184], packetization mode 1).
//!
//! [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184

use bytes::{BufMut, Bytes, BytesMut};

use crate::media::h264::{AccessUnit, Fragment};

/// NAL unit types of the two payload structures in use ([RFC 6184 §5.2]).
///
/// [RFC 6184 §5.2]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.2
const STAP_A: u8 = 0x18;
const FU_A: u8 = 0x1c;

/// Bytes of a FU-A: indicator and header ([RFC 6184 §5.8]).
///
/// [RFC 6184 §5.8]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.8
const FU_HEADERS: usize = 2;

/// Cuts one access unit into payloads of at most `payload_max` bytes.
///
/// Units that fit together share a STAP-A; a unit that fits alone is passed on without a copy; a
/// larger one is copied once, into fragments of equal size.
#[must_use]
pub fn cut_access_unit(nal_units: &[Bytes], payload_max: usize) -> Box<[Bytes]> {
    let mut payloads = Vec::new();
    cut(nal_units, payload_max, &mut payloads);
    payloads.into_boxed_slice()
}

/// The same for an access unit, or a part of one, with the pieces of units at its ends.
#[must_use]
pub fn cut_part(unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
    let mut payloads = Vec::new();
    if let Some(fragment) = &unit.head {
        cut_fragment(fragment, payload_max, &mut payloads);
    }
    cut(&unit.nal_units, payload_max, &mut payloads);
    if let Some(fragment) = &unit.tail {
        cut_fragment(fragment, payload_max, &mut payloads);
    }
    payloads.into_boxed_slice()
}

fn cut(nal_units: &[Bytes], payload_max: usize, payloads: &mut Vec<Bytes>) {
    let mut rest = nal_units;
    while let Some(first) = rest.first() {
        let together = count_that_fit(rest, payload_max);
        if together > 1 {
            payloads.push(aggregate(&rest[..together]));
        } else if first.len() <= payload_max {
            payloads.push(first.clone());
        } else {
            let whole = Fragment {
                header: first[0],
                data: first.slice(1..),
                starts: true,
                ends: true,
            };
            cut_fragment(&whole, payload_max, payloads);
        }
        rest = &rest[together.max(1)..];
    }
}

/// How many of the first units fit in one STAP-A.
fn count_that_fit(nal_units: &[Bytes], payload_max: usize) -> usize {
    let mut size = 1;
    nal_units
        .iter()
        .take_while(|nal| {
            size += 2 + nal.len();
            size <= payload_max
        })
        .count()
}

/// One STAP-A ([RFC 6184 §5.7.1]).
///
/// [RFC 6184 §5.7.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.7.1
fn aggregate(nal_units: &[Bytes]) -> Bytes {
    let size = 1 + nal_units.iter().map(|nal| 2 + nal.len()).sum::<usize>();
    let mut payload = BytesMut::with_capacity(size);
    let importance = nal_units
        .iter()
        .filter_map(|nal| nal.first())
        .map(|b| b & 0x60)
        .max();
    payload.put_u8(importance.unwrap_or(0) | STAP_A);
    for nal in nal_units {
        payload.put_u16(
            u16::try_from(nal.len()).expect("a unit that fits in a payload fits in 16 bits"),
        );
        payload.put_slice(nal);
    }
    payload.freeze()
}

/// FU-As of equal size, the last one perhaps shorter, all in one allocation.
fn cut_fragment(fragment: &Fragment, payload_max: usize, payloads: &mut Vec<Bytes>) {
    let Fragment {
        header,
        data,
        starts,
        ends,
    } = fragment;
    let count = data.len().div_ceil(payload_max - FU_HEADERS);
    let size = data.len().div_ceil(count.max(1)).max(1);
    let mut buffer = BytesMut::with_capacity(data.len() + count * FU_HEADERS);
    for (i, part) in data.chunks(size).enumerate() {
        let start = if i == 0 && *starts { 0x80 } else { 0 };
        let end = if (i + 1) * size >= data.len() && *ends {
            0x40
        } else {
            0
        };
        buffer.put_slice(&[header & 0xe0 | FU_A, start | end | header & 0x1f]);
        buffer.put_slice(part);
    }
    let mut buffer = buffer.freeze();
    while !buffer.is_empty() {
        payloads.push(buffer.split_to(buffer.len().min(size + FU_HEADERS)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::h264::{Assembler, Packet, ParameterSets};

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
