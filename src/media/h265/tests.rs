//! Access units out of packets of H.265: what is particular to it.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::media::{
    Part,
    assembler::{Assembler, Packet},
    bits::{Writer, with_emulation_prevention},
};

// Of x265, 176x144, with an order count of 8 bits.
const VPS: &[u8] = &[
    0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x95, 0x94, 0x09,
];
const SPS: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0xa0, 0x16, 0x20, 0x24, 0x59, 0x65, 0x65, 0x4a, 0x4c, 0x2f, 0x01, 0x68, 0x08, 0x00,
    0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x40,
];
const PPS: &[u8] = &[0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89];

const TRAIL_N: u8 = 0;
const TRAIL_R: u8 = 1;
const RADL_N: u8 = 6;
const RASL_R: u8 = 9;
const BLA: u8 = 16;
const IDR: u8 = 19;
const CRA: u8 = 21;

/// The first slice of a picture, with its order count, and so many bytes behind its header.
fn slice(kind: u8, count: u32, size: usize) -> Vec<u8> {
    let mut header = Writer::default();
    header.flag(true);
    if kind >= 16 {
        header.flag(false);
    }
    // The parameter set, and B for the type, which does not tell anything.
    header.ue(0);
    header.ue(0);
    if kind != IDR {
        header.number(count % 256, 8);
    }
    header.number(1, 1);
    let mut nal = vec![kind << 1, 1];
    nal.extend(with_emulation_prevention(&header.finish()));
    nal.extend((0..size).map(|i| i.to_le_bytes()[0] | 1));
    nal
}

fn packet(time: i64, marker: bool, payload: &[u8]) -> Packet {
    Packet {
        time,
        marker,
        lost: 0,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn knowing(described: &[&'static [u8]]) -> Assembler {
    let mut sets = ParameterSets::default();
    for set in described {
        sets.keep(&Bytes::from_static(set));
    }
    Assembler::new(H265::new(sets, false))
}

fn knowing_sets() -> Assembler {
    knowing(&[PPS, SPS, VPS])
}

fn assemble(assembler: &mut Assembler, packets: Vec<Packet>) -> Vec<AccessUnit> {
    let mut units = Vec::new();
    for packet in packets {
        assembler.push(packet, &mut |unit| units.push(unit));
    }
    units
}

/// The times of the pictures that come out, if each is one packet.
fn times(assembler: &mut Assembler, sent: &[(u8, u32)]) -> Vec<i64> {
    let packets = sent
        .iter()
        .map(|(kind, count)| packet((*count).into(), true, &slice(*kind, *count, 9)));
    let units = assemble(assembler, packets.collect());
    units.iter().map(|unit| unit.time).collect()
}

#[test]
fn sets_of_the_description_go_before_each_random_access_point_that_lacks_them() {
    for kind in [IDR, CRA, BLA] {
        let (key, next) = (slice(kind, 0, 9), slice(TRAIL_R, 1, 9));
        let packets = vec![packet(0, true, &key), packet(1, true, &next)];
        let units = assemble(&mut knowing_sets(), packets);
        assert_eq!(units[0].nal_units, [VPS, SPS, PPS, &key]);
        assert!(units[0].random_access && !units[1].random_access);
        assert_eq!(units[1].nal_units, [next]);
    }
}

#[test]
fn sets_in_band_are_put_in_order_and_replace_the_known_ones() {
    let mut other = SPS.to_vec();
    // Level 4.0.
    other[17] = 120;
    let mut assembler = knowing_sets();
    assert_eq!(assembler.codec(), Codec::H265(Some(described(60))));
    let key = slice(IDR, 0, 9);
    let sent = [PPS, &other, &key];
    let packets = sent.iter().map(|nal| packet(0, false, nal));
    let mut packets: Vec<_> = packets.collect();
    packets.push(packet(9, true, &key));
    let units = assemble(&mut assembler, packets);
    for unit in units {
        assert_eq!(unit.nal_units, [VPS, &other, PPS, &key]);
    }
    assert_eq!(assembler.codec(), Codec::H265(Some(described(120))));
    assert_eq!(assembler.picture_size(), Some([176, 144]));
}

fn described(level: u8) -> ProfileTierLevel {
    ProfileTierLevel {
        profile: ProfileTierLevel::MAIN,
        high_tier: false,
        level,
    }
}

#[test]
fn a_camera_without_a_video_parameter_set_gets_the_one_of_its_encoder() {
    let key = slice(IDR, 0, 9);
    let units = assemble(&mut knowing(&[SPS, PPS]), vec![packet(0, true, &key)]);
    assert_eq!(units[0].nal_units, [VPS, SPS, PPS, &key]);
    // What cannot be read gives none.
    let units = assemble(&mut knowing(&[PPS]), vec![packet(0, true, &key)]);
    assert_eq!(units[0].nal_units, [PPS, &key]);
}

#[test]
fn pictures_that_lead_a_random_access_point_are_left_out() {
    let mut assembler = knowing_sets();
    let sent = [
        (CRA, 40),
        (RASL_R, 38),
        (RADL_N, 39),
        (TRAIL_R, 41),
        (CRA, 50),
        (RASL_R, 48),
        (TRAIL_R, 51),
    ];
    assert_eq!(times(&mut assembler, &sent), [40, 41, 50, 51]);
    let reordered = assembler.reordered();
    assert_eq!((reordered.left_out, reordered.references), (3, 0));
}

#[test]
fn pictures_that_are_shown_before_one_that_was_sent_first_are_left_out() {
    let mut assembler = knowing_sets();
    // Groups of four as x265 sends them, over the end of the order count.
    let mut sent = vec![(IDR, 0)];
    let mut kept = vec![0];
    for first in (0..600).step_by(4) {
        for (kind, ahead) in [(TRAIL_R, 4), (TRAIL_R, 2), (TRAIL_N, 1), (TRAIL_N, 3)] {
            sent.push((kind, first + ahead));
        }
        kept.push(i64::from(first + 4));
    }
    assert_eq!(times(&mut assembler, &sent), kept);
    let reordered = assembler.reordered();
    assert_eq!((reordered.left_out, reordered.references), (450, 150));
}

#[test]
fn pictures_in_order_stay_whatever_their_slices_are() {
    let mut assembler = knowing_sets();
    let sent: Vec<_> = (0..600)
        .map(|n| match n % 100 {
            0 => (CRA, n),
            odd if odd % 2 == 1 => (TRAIL_N, n),
            _ => (TRAIL_R, n),
        })
        .collect();
    assert_eq!(times(&mut assembler, &sent).len(), 600);
    assert_eq!(assembler.reordered(), Reordered::default());
    // Without parameter sets nobody knows their order.
    let unknown = times(&mut knowing(&[]), &[(IDR, 0), (TRAIL_R, 4), (TRAIL_R, 2)]);
    assert_eq!(unknown, [0, 4, 2]);
}

#[test]
fn after_a_loss_nothing_is_emitted_before_the_next_random_access_point() {
    let mut assembler = knowing_sets();
    let sent = [
        (IDR, 0),
        (TRAIL_R, 1),
        (TRAIL_R, 2),
        (TRAIL_R, 3),
        (CRA, 4),
        (TRAIL_R, 5),
    ];
    let mut packets: Vec<_> = sent
        .iter()
        .map(|(kind, count)| packet((*count).into(), true, &slice(*kind, *count, 9)))
        .collect();
    packets[2].lost = 1;
    let units = assemble(&mut assembler, packets);
    let times: Vec<_> = units.iter().map(|unit| unit.time).collect();
    assert_eq!(times, [0, 1, 4, 5]);
    assert_eq!(assembler.take_skipped(), 2);
}

/// The payloads of a picture with all structures: an aggregate, a unit alone, two fragments.
fn payloads(has_order_numbers: bool, key: &[u8]) -> Vec<Vec<u8>> {
    let (number, difference): (&[u8], &[u8]) = if has_order_numbers {
        (&[0, 7], &[0])
    } else {
        (&[], &[])
    };
    let aggregate = [
        &[48 << 1, 1][..],
        number,
        &[0, 24],
        VPS,
        difference,
        &[0, 42],
        SPS,
    ];
    let single = [&PPS[..2], number, &PPS[2..]];
    let (kind, data) = (key[0] >> 1, &key[2..]);
    let (start, end) = data.split_at(data.len() / 2);
    let first = [&[49 << 1, 1, 0x80 | kind][..], number, start];
    let last = [&[49 << 1, 1, 0x40 | kind][..], end];
    vec![
        aggregate.concat(),
        single.concat(),
        first.concat(),
        last.concat(),
    ]
}

#[test]
fn every_structure_is_taken_apart_with_and_without_order_numbers() {
    let key = slice(IDR, 0, 300);
    for has_order_numbers in [true, false] {
        let stream = H265::new(ParameterSets::default(), has_order_numbers);
        let mut assembler = Assembler::new(stream);
        let mut payloads = payloads(has_order_numbers, &key);
        // The end of a sequence is a header alone.
        let end: &[u8] = if has_order_numbers {
            &[72, 1, 0, 6]
        } else {
            &[72, 1]
        };
        payloads.insert(0, end.to_vec());
        let packets = payloads.iter().enumerate();
        let packets = packets.map(|(i, payload)| packet(0, i == 4, payload));
        let units = assemble(&mut assembler, packets.collect());
        assert_eq!(
            units[0].nal_units,
            [VPS, SPS, PPS, &key],
            "{has_order_numbers}"
        );
        assert!(units[0].random_access);
    }
}

#[test]
fn a_large_picture_is_handed_on_in_parts_with_its_sets_before_the_first() {
    let key = slice(CRA, 0, 5_000);
    let mut assembler = knowing_sets();
    let mut units = Vec::new();
    let data: Vec<_> = key[2..].chunks(100).collect();
    for (i, part) in data.iter().enumerate() {
        let end = i + 1 == data.len();
        let ends = u8::from(i == 0) << 7 | u8::from(end) << 6;
        let payload = [&[49 << 1, 1, ends | CRA][..], part].concat();
        assembler.push(packet(0, end, &payload), &mut |unit| units.push(unit));
        units.extend(assembler.part(10, 103));
    }
    assert!(units.len() > 3, "{units:?}");
    assert_eq!(units[0].nal_units, [VPS, SPS, PPS]);
    assert_eq!(
        units[0].part,
        Part {
            first: true,
            last: false
        }
    );
    assert!(units[0].random_access && units.last().unwrap().part.last);
    let pieces = units
        .iter()
        .flat_map(|unit| unit.head.iter().chain(&unit.tail));
    let content: Vec<u8> = pieces.flat_map(|piece| piece.data.to_vec()).collect();
    assert_eq!(content, key[2..]);
}

#[test]
fn units_of_other_layers_and_supplemental_information_are_left_out() {
    let key = slice(IDR, 0, 9);
    let mut layer = key.clone();
    layer[1] |= 8;
    let sei = [39 << 1, 1, 5];
    let packets = vec![
        packet(0, false, &sei),
        packet(0, false, &key),
        packet(0, true, &layer),
        packet(1, true, &slice(TRAIL_R, 1, 9)),
    ];
    let units = assemble(&mut knowing_sets(), packets);
    assert_eq!(units[0].nal_units, [VPS, SPS, PPS, &key]);
}

#[test]
fn pictures_of_a_camera_whose_clock_stands_still_are_told_apart() {
    let packets = (0..4).map(|n| {
        let kind = if n == 0 { IDR } else { TRAIL_R };
        packet(7, false, &slice(kind, n, 9))
    });
    let units = assemble(&mut knowing_sets(), packets.collect());
    assert_eq!(units.len(), 3);
}

#[test]
fn hostile_payloads_do_no_harm() {
    let mut random = SmallRng::seed_from_u64(265);
    let key = slice(IDR, 0, 900);
    for round in 0..20_000 {
        let has_order_numbers = round % 2 == 0;
        let mut assembler = Assembler::new(H265::new(ParameterSets::default(), has_order_numbers));
        let mut payloads = payloads(has_order_numbers, &key);
        payloads.push(slice(TRAIL_R, 1, 9));
        for payload in &mut payloads {
            match random.random_range(0..4) {
                0 => payload.truncate(random.random_range(0..=payload.len())),
                1 => {
                    let at = random.random_range(0..payload.len());
                    payload[at] = random.random();
                }
                2 => {
                    let at = random.random_range(0..payload.len().min(6));
                    payload[at] ^= 1 << random.random_range(0..8);
                }
                _ => {}
            }
            let packet = packet(random.random_range(0..2), random.random(), payload);
            let mut units = Vec::new();
            assembler.push(packet, &mut |unit| units.push(unit));
            units.extend(assembler.part(1, 100));
            for unit in units {
                let payloads = assembler.cut(&unit, 100);
                assert!(payloads.iter().all(|payload| payload.len() <= 100));
            }
            let _ = (assembler.codec(), assembler.picture_size());
        }
    }
}
