use std::time::Duration;

use super::*;
use crate::media::{Codec, MediaTime, Part, TrackId, nal::annex_b, rtp::h264::cut_access_unit};

/// Four fields of one colour each: red and green, blue and light grey. All made by ffmpeg with x264.
const LIMITED: &[u8] = include_bytes!("../../../tests/fixtures/still/limited601.h264");
const FULL_709: &[u8] = include_bytes!("../../../tests/fixtures/still/full709.h264");
const INTERLACED: &[u8] = include_bytes!("../../../tests/fixtures/still/interlaced.h264");
const TEN_BITS: &[u8] = include_bytes!("../../../tests/fixtures/still/tenbit.h264");

fn frame(first: bool, last: bool, payloads: &[Bytes]) -> Arc<Frame> {
    Arc::new(Frame {
        track: TrackId(0),
        codec: Codec::H264(None),
        time: MediaTime(0),
        captured: Duration::ZERO,
        random_access: first,
        part: Part { first, last },
        payloads: payloads.into(),
    })
}

/// The units of a byte stream as frames of two payloads each.
fn frames(stream: &[u8], payload_max: usize) -> Vec<Arc<Frame>> {
    let units: Vec<_> = annex_b(stream).map(Bytes::copy_from_slice).collect();
    let payloads = cut_access_unit(&units, payload_max);
    let parts = payloads.chunks(2);
    let count = parts.len();
    parts
        .enumerate()
        .map(|(i, part)| frame(i == 0, i + 1 == count, part))
        .collect()
}

/// Width, height, and red, green and blue in the middle of the four fields.
fn seen(jpeg: &[u8]) -> (usize, usize, [[u8; 3]; 4]) {
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let mut decoder = jpeg_decoder::Decoder::new(jpeg);
    let pixels = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let fields = [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
        let at = (y * height / 4 * width + x * width / 4) * 3;
        pixels[at..at + 3].try_into().unwrap()
    });
    (width, height, fields)
}

fn assert_colours(fields: [[u8; 3]; 4], tolerance: u8) {
    let wanted = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [192, 192, 192]];
    for (is, wanted) in fields.iter().flatten().zip(wanted.iter().flatten()) {
        assert!(is.abs_diff(*wanted) <= tolerance, "{fields:?}");
    }
}

#[test]
fn payloads_become_the_byte_stream_that_they_were_cut_from() {
    for payload_max in [20, 60, 100, 1_154] {
        let stream = byte_stream(&frames(LIMITED, payload_max));
        assert!(annex_b(&stream).eq(annex_b(LIMITED)), "{payload_max}");
    }
    let broken = [&[0x78, 0, 9, 1][..], &[0x7c], &[0x1e, 1, 2], &[]].map(Bytes::from_static);
    let stream = byte_stream(&[frame(true, true, &broken)]);
    assert_eq!(stream, [0, 0, 0, 1, 1]);
}

#[test]
fn colours_of_both_ranges_and_both_matrices_are_right() {
    let (width, height, fields) = seen(&jpeg(&frames(LIMITED, 100), Size::default()).unwrap());
    assert_eq!((width, height), (90, 50));
    assert_colours(fields, 3);
    let (width, height, fields) = seen(&jpeg(&frames(FULL_709, 100), Size::default()).unwrap());
    assert_eq!((width, height), (96, 64));
    assert_colours(fields, 3);
}

#[test]
fn a_picture_is_scaled_to_what_is_asked() {
    let size = |width, height| Size::new(width, height).unwrap();
    for (asked, made) in [
        (size(Some(45), None), (45, 25)),
        (size(None, Some(100)), (180, 100)),
        (size(Some(64), Some(64)), (64, 64)),
        (size(Some(33), Some(7)), (33, 7)),
    ] {
        let (width, height, fields) = seen(&jpeg(&frames(LIMITED, 100), asked).unwrap());
        assert_eq!((width, height), made);
        if height > 7 {
            assert_colours(fields, 8);
        }
    }
    let one = jpeg(&frames(LIMITED, 100), size(Some(1), Some(1))).unwrap();
    assert_eq!(seen(&one).0, 1);
}

#[test]
fn no_size_is_out_of_bounds() {
    let of = |width, height, source| Size::new(width, height).unwrap().of(source);
    assert_eq!(of(Some(4_096), None, (100, 1_000)), (410, 4_096));
    assert_eq!(of(None, Some(4_096), (1_920, 1_080)), (4_096, 2_304));
    assert_eq!(of(Some(1), None, (1_000, 10)), (1, 1));
    assert_eq!(of(None, None, (640, 360)), (640, 360));
    for (width, height) in [(Some(0), None), (None, Some(4_097))] {
        let error = Size::new(width, height).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn scaling_keeps_the_mean() {
    let samples: Vec<u8> = (0..12).map(|i| i * 20).collect();
    let plane = Plane::of(&samples, 4, (4, 3)).unwrap();
    assert_eq!(plane.scaled(2, 1).samples, [90, 130]);
    let plane = Plane::of(&[0, 90, 180], 3, (3, 1)).unwrap();
    assert_eq!(plane.scaled(2, 1).samples, [30, 150]);
    let plane = Plane::of(&[0, 90], 2, (2, 1)).unwrap();
    assert_eq!(plane.scaled(3, 1).samples, [0, 45, 90]);
    assert!(Plane::of(&samples, 4, (4, 4)).is_none());
}

#[test]
fn what_the_decoder_does_not_know_is_told_with_the_setting() {
    for (stream, word) in [(INTERLACED, "progressive"), (TEN_BITS, "High profile")] {
        let error = jpeg(&frames(stream, 100), Size::default()).unwrap_err();
        assert_eq!(error.verdict(), Verdict::NoStill, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_picture_that_is_no_idr_picture_is_told_so() {
    let mut stream = LIMITED.to_vec();
    let slice = stream.windows(4).position(|code| code == [0, 0, 1, 0x65]);
    stream[slice.unwrap() + 3] = 0x61;
    let error = jpeg(&frames(&stream, 100), Size::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAcceptable);
    assert!(error.to_string().contains("IDR"), "{error}");
}

#[test]
fn a_damaged_picture_is_an_error() {
    for stream in [&LIMITED[..60], b"\0\0\x01\x65nonsense"] {
        let error = jpeg(&frames(stream, 100), Size::default()).unwrap_err();
        assert_eq!(error.verdict(), Verdict::DamagedPicture, "{error}");
    }
}

#[test]
fn a_set_tells_what_its_samples_mean() {
    let format = |stream| Format::of_sps(annex_b(stream).next().unwrap()).unwrap();
    let limited = format(LIMITED);
    assert_eq!((limited.chroma, limited.depth), (1, [8, 8]));
    assert_eq!((limited.macroblocks, limited.size), ([6, 4], [90, 50]));
    assert!(!limited.full_range);
    let full = format(FULL_709);
    assert_eq!((full.macroblocks, full.size), ([6, 4], [96, 64]));
    assert!(full.full_range && full.bt709);
    assert_eq!(format(TEN_BITS).depth, [10, 10]);
    assert!(format(INTERLACED).interlaced);
    // What the decoder gets says the same, but for what is left out of it.
    for stream in [LIMITED, FULL_709] {
        let written = Format::of_sps(&format(stream).sps).unwrap();
        assert_eq!(written.sps, format(stream).sps);
        assert_eq!(written.size, format(stream).size);
    }
}

mod hostile;
