//! Access units out of packets, whole and in parts.

use super::*;
use crate::media::{
    Part,
    assembler::{ACCESS_UNIT_MAX, Assembler, Packet},
};

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
// first_mb 0 (1), slice_type 7 (0001000)
const IDR: &[u8] = &[0x65, 0b1000_1000, 1, 2, 3];
// first_mb 0, slice_type 5 (00110): P
const P: &[u8] = &[0x41, 0b1001_1000, 4, 5];
const SEI: &[u8] = &[0x06, 5, 1];

fn packet(time: i64, marker: bool, payload: &[u8]) -> Packet {
    Packet {
        time,
        marker,
        lost: 0,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn knowing_sets() -> Assembler {
    let mut sets = ParameterSets::default();
    sets.keep(&Bytes::from_static(PPS));
    sets.keep(&Bytes::from_static(SPS));
    Assembler::new(sets)
}

fn assemble(assembler: &mut Assembler, packets: Vec<Packet>) -> Vec<AccessUnit> {
    let mut units = Vec::new();
    for packet in packets {
        assembler.push(packet, &mut |unit| units.push(unit));
    }
    units
}

#[test]
fn sets_of_the_description_go_before_an_idr_picture_that_lacks_them() {
    let units = assemble(
        &mut knowing_sets(),
        vec![packet(0, true, IDR), packet(1, true, P)],
    );
    assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
    assert!(units[0].random_access);
    assert_eq!(units[1].nal_units, [P]);
}

/// Fragments of a slice with `size` bytes after its header, each of 100 bytes.
fn fragments(time: i64, header: u8, size: usize) -> Vec<Packet> {
    let data: Vec<u8> = (0..size).map(|i| i.to_le_bytes()[0] | 1).collect();
    let count = size.div_ceil(100);
    let parts = data.chunks(100).enumerate();
    parts
        .map(|(i, part)| {
            let start = if i == 0 { 0x80 } else { 0 };
            let end = if i + 1 == count { 0x40 } else { 0 };
            let headers = [header & 0xe0 | 0x1c, start | end | header & 0x1f];
            packet(time, end != 0, &[&headers[..], part].concat())
        })
        .collect()
}

#[test]
fn a_large_picture_is_handed_on_in_parts_that_make_up_the_whole() {
    let mut assembler = knowing_sets();
    let mut units = Vec::new();
    for packet in fragments(0, 0x65, 5_000) {
        assembler.push(packet, &mut |unit| units.push(unit));
        units.extend(assembler.part(10, 102));
    }
    let shape: Vec<_> = units
        .iter()
        .map(|unit| {
            (
                unit.part.first,
                unit.part.last,
                unit.random_access,
                unit.nal_units.len(),
            )
        })
        .collect();
    assert_eq!(shape[0], (true, false, true, 2));
    assert_eq!(shape[1], (false, false, false, 0));
    assert_eq!(shape.last(), Some(&(false, true, false, 0)));
    assert_eq!(shape.len(), 5);
    let pieces: Vec<_> = units
        .iter()
        .flat_map(|u| u.head.iter().chain(&u.tail))
        .collect();
    assert!(
        pieces
            .iter()
            .all(|piece| piece.header == [0x65, 0] && !piece.data.is_empty())
    );
    let starts: Vec<_> = pieces
        .iter()
        .map(|piece| (piece.starts, piece.ends))
        .collect();
    assert_eq!(starts.first(), Some(&(true, false)));
    assert_eq!(starts.last(), Some(&(false, true)));
    let whole: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece.data.iter().copied())
        .collect();
    let sent: Vec<u8> = (0..5_000_usize).map(|i| i.to_le_bytes()[0] | 1).collect();
    assert_eq!(whole, sent);
    let next = assemble(&mut assembler, vec![packet(9, true, P)]);
    assert_eq!(
        (next[0].part, &next[0].nal_units[..]),
        (Part::WHOLE, &[Bytes::from_static(P)][..])
    );
}

#[test]
fn a_loss_in_the_middle_ends_a_picture_of_which_a_part_is_out() {
    let mut assembler = knowing_sets();
    let mut packets = fragments(0, 0x65, 3_000);
    packets[20].lost = 1;
    let mut units = Vec::new();
    for packet in packets
        .into_iter()
        .chain([packet(9, true, P), packet(18, true, IDR)])
    {
        assembler.push(packet, &mut |unit| units.push(unit));
        units.extend(assembler.part(10, 102));
    }
    let shape: Vec<_> = units
        .iter()
        .map(|unit| (unit.time, unit.part.first))
        .collect();
    assert_eq!(shape, [(0, true), (18, true)]);
    assert_eq!(assembler.take_skipped(), 2);
}

#[test]
fn what_cannot_be_decoded_is_not_handed_on_in_parts_either() {
    let mut assembler = knowing_sets();
    for packet in fragments(0, 0x41, 3_000) {
        assembler.push(packet, &mut |unit| panic!("{unit:?}"));
        assert_eq!(assembler.part(1, 102), None);
    }
}

#[test]
fn sets_in_band_are_not_doubled_and_replace_the_known_ones() {
    let new_sps: &[u8] = &[0x67, 0x4d, 0x00, 0x28, 0xda];
    let mut assembler = knowing_sets();
    let units = assemble(
        &mut assembler,
        vec![
            packet(0, false, new_sps),
            packet(0, false, PPS),
            packet(0, true, IDR),
            packet(9, true, IDR),
        ],
    );
    assert_eq!(units[0].nal_units, [new_sps, PPS, IDR]);
    assert_eq!(units[1].nal_units, [new_sps, PPS, IDR]);
    let profile_level = "4d0028".parse().ok();
    assert_eq!(assembler.codec(), Codec::H264(profile_level));
}

#[test]
fn markers_on_parameter_sets_and_on_trailing_information_do_not_cut_a_picture() {
    let units = assemble(
        &mut Assembler::new(ParameterSets::default()),
        vec![
            packet(0, true, SPS),
            packet(0, true, PPS),
            packet(0, true, SEI),
            packet(0, false, IDR),
            packet(0, true, SEI),
            packet(1, false, P),
            packet(1, true, SEI),
        ],
    );
    assert_eq!(units.len(), 2);
    assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
}

#[test]
fn a_camera_without_markers_is_cut_at_the_next_timestamp() {
    let units = assemble(
        &mut knowing_sets(),
        vec![
            packet(0, false, IDR),
            packet(1, false, P),
            packet(2, false, P),
        ],
    );
    assert_eq!(units.iter().map(|u| u.time).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn fragments_and_aggregates_give_the_units_they_were_made_of() {
    let aggregate = [&[0x78, 0, 5][..], SPS, &[0, 4], PPS].concat();
    let fragments = [
        [&[0x7c, 0x85][..], &IDR[1..3]].concat(),
        [&[0x7c, 0x45][..], &IDR[3..]].concat(),
    ];
    let units = assemble(
        &mut Assembler::new(ParameterSets::default()),
        vec![
            packet(0, false, &aggregate),
            packet(0, false, &fragments[0]),
            packet(0, true, &fragments[1]),
        ],
    );
    assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
}

#[test]
fn units_with_start_codes_inside_one_are_taken_apart() {
    let together = [SPS, &[0, 0, 0, 1], PPS, &[0, 0, 1], IDR].concat();
    let units = assemble(
        &mut Assembler::new(ParameterSets::default()),
        vec![packet(0, true, &together)],
    );
    assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
    assert!(units[0].random_access);
}

#[test]
fn after_a_loss_nothing_is_emitted_before_the_next_random_access_point() {
    let mut assembler = knowing_sets();
    let mut lossy = packet(2, true, P);
    lossy.lost = 1;
    let units = assemble(
        &mut assembler,
        vec![
            packet(0, true, IDR),
            packet(1, true, P),
            lossy,
            packet(3, true, P),
            packet(4, true, IDR),
        ],
    );
    assert_eq!(units.iter().map(|u| u.time).collect::<Vec<_>>(), [0, 1, 4]);
    assert_eq!(assembler.take_skipped(), 2);
}

#[test]
fn an_intra_picture_after_its_sets_is_a_random_access_point() {
    let intra: &[u8] = &[0x41, 0b1000_1000, 9];
    let mut assembler = Assembler::new(ParameterSets::default());
    let units = assemble(
        &mut assembler,
        vec![
            packet(0, true, P),
            packet(1, false, SPS),
            packet(1, false, PPS),
            packet(1, true, intra),
        ],
    );
    assert_eq!(units.len(), 1);
    assert!(units[0].random_access);
}

// first_mb 1 (010), slice_type 5 (00110) and 7 (0001000): the second slice of a picture.
const P_2: &[u8] = &[0x41, 0b0100_0110, 0b1000_0000, 6];
const IDR_2: &[u8] = &[0x65, 0b0100_0010, 0b0010_0000, 7];

#[test]
fn slices_of_one_picture_are_one_unit_whatever_is_sent_between_them() {
    let units = assemble(
        &mut knowing_sets(),
        vec![
            packet(0, false, SEI),
            packet(0, false, IDR),
            packet(0, true, SEI),
            packet(1, false, P),
            packet(1, true, P_2),
        ],
    );
    assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
    assert_eq!(units[1].nal_units, [P, P_2]);
}

#[test]
fn a_camera_that_marks_every_slice_is_found_out() {
    let mut assembler = knowing_sets();
    let mut sent = Vec::new();
    for time in 0..4 {
        let (first, second) = if time % 2 == 0 {
            (IDR, IDR_2)
        } else {
            (P, P_2)
        };
        sent.extend([packet(time, true, first), packet(time, true, second)]);
    }
    sent.push(packet(4, true, IDR));
    let units = assemble(&mut assembler, sent);
    // The first has gone out before anybody could know.
    let shape: Vec<_> = units.iter().map(|u| (u.time, u.nal_units.len())).collect();
    assert_eq!(shape, [(0, 3), (2, 4), (3, 2)]);
}

#[test]
fn pictures_of_a_camera_whose_clock_stands_still_are_told_apart() {
    for marker in [true, false] {
        let sent = [IDR, P, P_2, P, IDR, IDR_2, P];
        let last = |at: usize| sent.get(at + 1).is_none_or(|next| next[1] & 0x80 != 0);
        let packets = sent.iter().enumerate();
        let packets = packets.map(|(at, nal)| packet(7, marker && last(at), nal));
        let units = assemble(&mut knowing_sets(), packets.collect());
        let sizes: Vec<_> = units.iter().map(|u| u.nal_units.len()).collect();
        let all = [3, 2, 1, 4, 1];
        // Nobody knows whether the last one is whole if it is not marked.
        assert_eq!(sizes, &all[..all.len() - usize::from(!marker)]);
    }
}

#[test]
fn a_picture_without_an_end_is_given_up_at_four_megabytes() {
    for cut in [true, false] {
        let mut assembler = knowing_sets();
        let mut bytes = 0;
        let mut packets = fragments(0, 0x65, 6 << 20);
        packets.extend([packet(9, true, P), packet(18, true, IDR)]);
        let mut times = Vec::new();
        for packet in packets {
            assembler.push(packet, &mut |unit| times.push(unit.time));
            let part = if cut { assembler.part(10, 102) } else { None };
            bytes += part
                .and_then(|unit| unit.tail)
                .map_or(0, |tail| tail.data.len());
        }
        assert!(bytes <= ACCESS_UNIT_MAX, "{bytes}");
        assert_eq!(times, [18], "cut: {cut}");
    }
}

#[test]
fn hostile_payloads_do_no_harm() {
    let mut assembler = knowing_sets();
    for payload in [
        &[][..],
        &[0x78],
        &[0x78, 0xff, 0xff, 1],
        &[0x7c],
        &[0x7c, 0x45],
        &[0x1f],
        &[0x67],
        &[0x68, 0, 0, 0],
    ] {
        assemble(&mut assembler, vec![packet(0, true, payload)]);
    }
}

// first_mb 0, slice_type 6 (00111): B, which other pictures refer to or not.
const B: &[u8] = &[0x01, 0b1001_1100, 6];
const B_REFERENCE: &[u8] = &[0x21, 0b1001_1100, 7];

/// The times of the pictures that come out.
fn times(assembler: &mut Assembler, sent: &[(i64, &[u8])]) -> Vec<i64> {
    let packets = sent.iter().map(|(time, nal)| packet(*time, true, nal));
    let units = assemble(assembler, packets.collect());
    units.iter().map(|unit| unit.time).collect()
}

#[test]
fn b_pictures_that_are_sent_after_a_later_picture_are_left_out_and_counted() {
    let mut assembler = knowing_sets();
    assert_eq!(times(&mut assembler, &[(0, IDR), (4, P)]), [0, 4]);
    assert_eq!(assembler.reordered(), Reordered::default());
    let group = [(2, B_REFERENCE), (1, B), (3, B), (8, P), (6, B_REFERENCE)];
    assert_eq!(times(&mut assembler, &group), [8]);
    let counted = Reordered {
        pictures: 5,
        left_out: 4,
        references: 2,
    };
    assert_eq!(assembler.reordered(), counted);
    // Of a camera that stamps pictures as it sends them, and one without a time to compare with.
    assert!(times(&mut assembler, &[(9, B)]).is_empty());
}

#[test]
fn b_pictures_in_the_order_in_which_they_are_shown_stay_if_others_need_them() {
    let sent = [(0, IDR), (1, B_REFERENCE), (2, B_REFERENCE), (3, P)];
    let mut assembler = knowing_sets();
    assert_eq!(times(&mut assembler, &sent), [0, 1, 2, 3]);
    assert_eq!(assembler.reordered(), Reordered::default());
}

#[test]
fn no_part_of_a_b_picture_that_is_left_out_is_handed_on() {
    let mut assembler = knowing_sets();
    let mut times = Vec::new();
    // What follows the header is a slice of type B, and the same of type P.
    for (time, header, slice) in [
        (0, 0x65, 0x88),
        (8, 0x41, 0x98),
        (4, 0x21, 0x9c),
        (6, 0x01, 0x9c),
    ] {
        for mut packet in fragments(time, header, 3_000) {
            let mut payload = packet.payload.to_vec();
            if payload[1] & 0x80 != 0 {
                payload[2] = slice;
            }
            packet.payload = payload.into();
            assembler.push(packet, &mut |unit| times.push(unit.time));
            times.extend(assembler.part(10, 102).map(|unit| unit.time));
        }
    }
    times.dedup();
    assert_eq!(times, [0, 8]);
    assert_eq!(assembler.reordered().left_out, 2);
}
