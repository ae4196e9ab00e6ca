//! How H.264 and H.265 are cut alike: several small units in one payload, large ones in fragments.

use bytes::{BufMut, Bytes, BytesMut};

use crate::media::assembler::{AccessUnit, Fragment, Header};

/// What differs.
pub(super) trait Packing {
    /// Bytes of a NAL unit's header, and of an aggregate's. A fragment has one more.
    const HEADER: usize;

    /// The header of a payload with these units in it.
    fn aggregate(nal_units: &[Bytes]) -> Header;

    /// The headers of a payload with a piece of a unit in it. `ends` has bit 7 where the unit begins, and
    /// bit 6 where it ends.
    fn fragment(header: Header, ends: u8) -> [u8; 3];
}

pub(super) fn access_unit<P: Packing>(nal_units: &[Bytes], payload_max: usize) -> Box<[Bytes]> {
    let mut payloads = Vec::new();
    cut::<P>(nal_units, payload_max, &mut payloads);
    payloads.into_boxed_slice()
}

pub(super) fn part<P: Packing>(unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
    let mut payloads = Vec::new();
    if let Some(fragment) = &unit.head {
        cut_fragment::<P>(fragment, payload_max, &mut payloads);
    }
    cut::<P>(&unit.nal_units, payload_max, &mut payloads);
    if let Some(fragment) = &unit.tail {
        cut_fragment::<P>(fragment, payload_max, &mut payloads);
    }
    payloads.into_boxed_slice()
}

fn cut<P: Packing>(nal_units: &[Bytes], payload_max: usize, payloads: &mut Vec<Bytes>) {
    let mut rest = nal_units;
    while let Some(first) = rest.first() {
        let together = count_that_fit::<P>(rest, payload_max);
        if together > 1 {
            payloads.push(aggregate::<P>(&rest[..together]));
        } else if first.len() <= payload_max {
            payloads.push(first.clone());
        } else {
            let mut header = Header::default();
            header[..P::HEADER].copy_from_slice(&first[..P::HEADER]);
            let whole = Fragment {
                header,
                data: first.slice(P::HEADER..),
                starts: true,
                ends: true,
            };
            cut_fragment::<P>(&whole, payload_max, payloads);
        }
        rest = &rest[together.max(1)..];
    }
}

/// How many of the first units fit in one aggregate.
fn count_that_fit<P: Packing>(nal_units: &[Bytes], payload_max: usize) -> usize {
    let mut size = P::HEADER;
    nal_units
        .iter()
        .take_while(|nal| {
            size += 2 + nal.len();
            size <= payload_max
        })
        .count()
}

fn aggregate<P: Packing>(nal_units: &[Bytes]) -> Bytes {
    let size = P::HEADER + nal_units.iter().map(|nal| 2 + nal.len()).sum::<usize>();
    let mut payload = BytesMut::with_capacity(size);
    payload.put_slice(&P::aggregate(nal_units)[..P::HEADER]);
    for nal in nal_units {
        payload.put_u16(
            u16::try_from(nal.len()).expect("a unit that fits in a payload fits in 16 bits"),
        );
        payload.put_slice(nal);
    }
    payload.freeze()
}

/// Fragments of equal size, the last one perhaps shorter, all in one allocation.
fn cut_fragment<P: Packing>(fragment: &Fragment, payload_max: usize, payloads: &mut Vec<Bytes>) {
    let Fragment {
        header,
        data,
        starts,
        ends,
    } = fragment;
    let headers = P::HEADER + 1;
    let count = data.len().div_ceil(payload_max - headers);
    let size = data.len().div_ceil(count.max(1)).max(1);
    let mut buffer = BytesMut::with_capacity(data.len() + count * headers);
    for (i, part) in data.chunks(size).enumerate() {
        let start = if i == 0 && *starts { 0x80 } else { 0 };
        let end = if (i + 1) * size >= data.len() && *ends {
            0x40
        } else {
            0
        };
        buffer.put_slice(&P::fragment(*header, start | end)[..headers]);
        buffer.put_slice(part);
    }
    let mut buffer = buffer.freeze();
    while !buffer.is_empty() {
        payloads.push(buffer.split_to(buffer.len().min(size + headers)));
    }
}
