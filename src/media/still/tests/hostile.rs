//! Key pictures that are made to lead a decoder astray.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::media::bits::{Bits, Writer, with_emulation_prevention, without_emulation_prevention};

/// The units of the picture that is spoilt here: set, set, one slice.
fn units() -> [Vec<u8>; 3] {
    let units: Vec<_> = annex_b(LIMITED).map(<[u8]>::to_vec).collect();
    units.try_into().unwrap()
}

fn byte_stream_of(units: &[&[u8]]) -> Vec<u8> {
    let units = units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit]);
    units.collect::<Vec<_>>().concat()
}

fn error_of(units: &[&[u8]]) -> Error {
    Input::of(&byte_stream_of(units)).unwrap_err()
}

/// The types of the units that the decoder would get, and their bytes.
fn given(stream: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let stream = Input::of(stream).unwrap().stream;
    let types = annex_b(&stream).map(|unit| unit[0] & 0x1f).collect();
    (types, stream)
}

fn ue(to: &mut Writer, value: u64) {
    let length = 64 - (value + 1).leading_zeros();
    for _ in 1..length {
        to.flag(false);
    }
    for bit in (0..length).rev() {
        to.flag((value + 1) >> bit & 1 == 1);
    }
}

/// A set of Baseline profile for the slice of [`units`], with pictures of this many macroblocks.
fn sps(macroblocks: [u64; 2], cropped: [u64; 4]) -> Vec<u8> {
    let mut set = Writer::default();
    // Number, length of the frame number, order of pictures, references.
    for value in [0, 0, 2, 1] {
        ue(&mut set, value);
    }
    set.flag(false);
    for side in macroblocks {
        ue(&mut set, side - 1);
    }
    for flag in [true, true, true] {
        set.flag(flag);
    }
    for side in cropped {
        ue(&mut set, side);
    }
    for flag in [false, true] {
        set.flag(flag);
    }
    [
        &[0x67, 66, 0xc0, 30][..],
        &with_emulation_prevention(&set.finish()),
    ]
    .concat()
}

#[test]
fn sets_that_crop_everything_away_or_more_are_refused() {
    let [_, pps, slice] = units();
    let error = |cropped| error_of(&[&sps([6, 4], cropped), &pps, &slice]);
    assert!(Format::of_sps(&sps([6, 4], [0, 47, 31, 0])).is_some());
    for cropped in [
        // A sum that is negative, or small, in 32 bits.
        [1 << 30, 1 << 30, 0, 0],
        [(1 << 31) - 1, (1 << 31) - 1, 0, 0],
        [0, 0, (1 << 31) - 2, 1 << 31],
        // The same with numbers that are read.
        [1 << 20, 0, 0, 0],
        [0, 0, 1 << 20, 1 << 20],
        // Nothing is left over, and less than nothing.
        [24, 24, 0, 0],
        [0, 0, 0, 32],
        [48, 1, 0, 0],
    ] {
        let error = error(cropped);
        assert_eq!(error.kind(), ErrorKind::NotAcceptable, "{cropped:?}");
        assert!(error.to_string().contains("size"), "{error}");
    }
}

#[test]
fn sets_with_codes_that_only_others_read_are_refused() {
    let [_, pps, slice] = units();
    let readable = sps([6, 4], [0; 4]);
    for length in [21, 25, 31, 32, 60] {
        // The number of macroblocks: zeros and nothing else that makes sense.
        let long = sps([1 << length, 4], [0; 4]);
        assert_eq!(
            error_of(&[&long, &pps, &slice]).kind(),
            ErrorKind::NotAcceptable
        );
    }
    for length in 5..readable.len() - 2 {
        let short = &readable[..length];
        let error = error_of(&[short, &pps, &slice]);
        assert!(
            matches!(
                error.kind(),
                ErrorKind::NotAcceptable | ErrorKind::Unavailable
            ),
            "{length}"
        );
    }
}

#[test]
fn too_large_pictures_are_refused_in_every_direction() {
    let [_, pps, slice] = units();
    for macroblocks in [[250, 188], [513, 1], [1, 513], [1 << 20, 1 << 20]] {
        let error = error_of(&[&sps(macroblocks, [0; 4]), &pps, &slice]);
        assert_eq!(error.kind(), ErrorKind::NotAcceptable, "{macroblocks:?}");
        assert!(error.to_string().contains("too large"), "{error}");
    }
}

#[test]
fn units_that_can_be_understood_in_two_ways_are_refused() {
    for (content, is_clear) in [
        (&[1, 0, 0, 3, 0][..], true),
        (&[1, 0, 0, 3, 3, 5], true),
        (&[1, 0, 0, 3], true),
        (&[0, 0, 3, 0, 0, 3, 1], true),
        (&[1, 0, 0, 3, 4], false),
        (&[1, 0, 0, 3, 0xff], false),
        (&[1, 0, 0, 0, 3], false),
        (&[1, 0, 0, 1], false),
        (&[1, 0, 0, 2], false),
    ] {
        assert_eq!(
            without_emulation_prevention(content).is_some(),
            is_clear,
            "{content:?}"
        );
    }
    let [sps, pps, slice] = units();
    let spoilt = |unit: &[u8]| [unit, &[0, 0, 3, 4, 0x80]].concat();
    for units in [
        [&spoilt(&sps), &pps, &slice],
        [&sps, &spoilt(&pps), &slice],
        [&sps, &pps, &spoilt(&slice)],
    ] {
        assert!(Input::of(&byte_stream_of(&units.map(|unit| &unit[..]))).is_err());
    }
    let mut forbidden = slice.clone();
    forbidden[0] |= 0x80;
    assert_eq!(
        error_of(&[&sps, &pps, &forbidden]).kind(),
        ErrorKind::Unavailable
    );
}

#[test]
fn the_decoder_gets_one_picture() {
    let [sps, pps, slice] = units();
    let alone = given(&byte_stream_of(&[&sps, &pps, &slice]));
    assert_eq!(alone.0, [7, 8, 5]);
    let other = annex_b(FULL_709).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for more in [
        vec![&slice],
        vec![&slice, &slice, &slice],
        // Another sequence in the same picture, after it.
        vec![&other[0], &other[1], &other[2], &slice],
    ] {
        let all = [&sps, &pps, &slice].into_iter().chain(more);
        let all: Vec<_> = all.map(|unit| &unit[..]).collect();
        assert_eq!(given(&byte_stream_of(&all)), alone);
    }
    // Of several sets with one number, the last counts; those that nothing refers to do not.
    let with_number_3 = [0x67, 66, 0xc0, 30, 0b0010_0000, 0xff];
    let units = [&other[0][..], &with_number_3, &sps, &pps, &slice];
    assert_eq!(given(&byte_stream_of(&units)), alone);
}

/// Like the slice of [`units`], but beginning at another macroblock.
fn slice_at(place: u64) -> Vec<u8> {
    let slice = &units()[2];
    let content = without_emulation_prevention(&slice[1..]).unwrap();
    let mut bits = Bits::new(&content);
    bits.ue().unwrap();
    let mut moved = Writer::default();
    ue(&mut moved, place);
    moved.copy(&content, bits.at..content.len() * 8).unwrap();
    moved.flag(true);
    [&[slice[0]], &with_emulation_prevention(&moved.finish())[..]].concat()
}

#[test]
fn slices_of_a_picture_come_in_order_and_are_few() {
    let [_, pps, slice] = units();
    let small = units()[0].clone();
    let stream = |sps: &[u8], places: &[u64]| {
        let slices: Vec<_> = places.iter().map(|place| slice_at(*place)).collect();
        let mut units = vec![sps, &pps];
        units.extend(slices.iter().map(|slice| &slice[..]));
        byte_stream_of(&units)
    };
    assert_eq!(slice_at(0)[..20], slice[..20]);
    assert_eq!(given(&stream(&small, &[0, 6, 12])).0, [7, 8, 5, 5, 5]);
    assert_eq!(given(&stream(&small, &[0, 6, 6, 12])).0, [7, 8, 5, 5]);
    assert_eq!(given(&stream(&small, &[0, 6, 3])).0, [7, 8, 5, 5]);
    for places in [&[6][..], &[0, 24], &[0, 1 << 20]] {
        let error = Input::of(&stream(&small, places)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{places:?}");
    }
    // Slices of P or B pictures are not for IDR pictures.
    let error = error_of(&[&small, &pps, &[0x65, 0b1110_0000, 0xff, 0xff, 0xff]]);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn slices_that_make_a_decoder_work_for_long_are_refused() {
    // A header of Baseline profile: place, kind, set, frame number, IDR picture.
    let slice = |place| {
        let mut slice = Writer::default();
        for value in [place, 7, 0] {
            ue(&mut slice, value);
        }
        for _ in 0..4 {
            slice.flag(false);
        }
        for value in [0, 0, 0, 0, 0] {
            ue(&mut slice, value);
        }
        [&[0x65], &with_emulation_prevention(&slice.finish())[..]].concat()
    };
    let pps = [0x68, 0xce, 0x3c, 0x80];
    let refused = |macroblocks, count| {
        let slices: Vec<_> = (0..count).map(slice).collect();
        let sps = sps(macroblocks, [0; 4]);
        let mut units = vec![&sps[..], &pps];
        units.extend(slices.iter().map(|slice| &slice[..]));
        match Input::of(&byte_stream_of(&units)) {
            Ok(_) => false,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::NotAcceptable, "{e}");
                assert!(e.to_string().contains("slices"), "{e}");
                true
            }
        }
    };
    assert!(!refused([120, 68], 140) && refused([120, 68], 257));
    assert!(!refused([240, 135], 30) && refused([240, 135], 40));
}

#[test]
fn nothing_but_sets_and_slices_comes_out_of_fragments() {
    let [sps, pps, slice] = units();
    // As a part that has left before its end was there: nobody has looked for start codes in it.
    let subset = [&[0x6f], &sps[1..]].concat();
    let hidden = [
        &slice[1..],
        &[0, 0, 1],
        &subset,
        &[0, 0, 1, 0x6e, 0x40, 0x80, 7, 0, 0, 1, 0x74, 0x80, 0, 7],
        &[0, 0, 0, 1, 9, 0xf0, 0, 0, 1],
        &sps,
    ]
    .concat();
    let mut payloads = vec![Bytes::from(sps.clone()), Bytes::from(pps.clone())];
    let pieces = hidden.chunks(50);
    let last = pieces.len() - 1;
    for (i, piece) in pieces.enumerate() {
        let flags = u8::from(i == 0) << 7 | u8::from(i == last) << 6;
        payloads.push([&[0x7c, flags | 5], piece].concat().into());
    }
    let picture = [
        frame(true, false, &payloads[..4]),
        frame(false, true, &payloads[4..]),
    ];
    let alone = given(&byte_stream_of(&[&sps, &pps, &slice]));
    assert_eq!(given(&byte_stream(&picture)), alone);
    assert_eq!(seen(&jpeg(&picture, Size::default()).unwrap()).0, 90);
}

#[test]
fn a_picture_of_too_many_bytes_is_refused() {
    let much = Bytes::from(vec![0x65; PICTURE_MAX + 1]);
    let error = jpeg(&[frame(true, true, &[much])], Size::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAcceptable);
    assert!(error.to_string().contains("4 MiB"), "{error}");
}

#[test]
fn no_mutation_of_a_picture_makes_more_than_an_error_or_another_picture() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut made = 0;
    for stream in [LIMITED, FULL_709] {
        let sets = stream
            .windows(4)
            .position(|code| code == [0, 0, 1, 0x65])
            .unwrap();
        for round in 0..1_500 {
            let mut stream = stream.to_vec();
            for _ in 0..random.random_range(1..4) {
                // Mostly the sets, which decide about memory.
                let end = if round % 3 == 0 {
                    stream.len()
                } else {
                    sets + 8
                };
                let at = random.random_range(0..end);
                match random.random_range(0..4) {
                    0 => stream[at] = random.random(),
                    1 => drop(stream.remove(at)),
                    2 => stream.insert(at, [0, 1, 3, 0xff][random.random_range(0..4)]),
                    _ => stream[at] ^= 1 << random.random_range(0..8),
                }
            }
            let picture = frame(true, true, &units_of(&stream));
            if let Ok(jpeg) = jpeg(&[picture], Size::new(Some(16), Some(16)).unwrap()) {
                assert_eq!(seen(&jpeg).0, 16);
                made += 1;
            }
        }
    }
    assert!((100..2_900).contains(&made), "{made}");
}

fn units_of(stream: &[u8]) -> Vec<Bytes> {
    annex_b(stream).map(Bytes::copy_from_slice).collect()
}
