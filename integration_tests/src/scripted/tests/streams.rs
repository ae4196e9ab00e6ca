//! RTP streams without sockets: numbers, markers and what is lost on the way.

use std::time::Duration;

use super::super::{
    Camera, Checker, Jump, Quirk, Size, h264_sdp,
    media::{Media, Way},
};

/// Marker, sequence number, time, source and payload of each packet in so many frames.
type Packets = Vec<(bool, u16, u32, u32, Vec<u8>)>;

fn media() -> Media {
    let mut media = Media::of(&h264_sdp());
    media.tracks[0].setup = Some(("rtsp://x/track1".into(), Way::Channel(0)));
    media
}

fn camera() -> Camera {
    Camera::describing(h264_sdp()).pace(Duration::from_millis(50), 10)
}

fn packets(media: &mut Media, camera: &Camera, frames: u32) -> Packets {
    let packets = (0..frames).flat_map(|slot| media.next(camera, slot));
    let packets = packets.filter(|packet| !packet.is_rtcp);
    packets
        .map(|packet| {
            let bytes = packet.bytes;
            let word = |at: usize| {
                let word = bytes[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(word)
            };
            let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
            (
                bytes[1] & 0x80 != 0,
                sequence,
                word(4),
                word(8),
                bytes[12..].to_vec(),
            )
        })
        .collect()
}

fn sent(camera: &Camera, frames: u32) -> Packets {
    packets(&mut media(), camera, frames)
}

/// The types of the NAL units, in capitals where they are marked.
fn shape(packets: &Packets) -> String {
    let shape = packets.iter().map(|(marker, _, _, _, payload)| {
        let kind = match payload[0] & 0x1F {
            7 => 's',
            8 => 'p',
            6 => 'i',
            5 => 'k',
            1 => 'd',
            24 => 'a',
            28 => 'f',
            _ => '?',
        };
        if *marker {
            kind.to_ascii_uppercase()
        } else {
            kind
        }
    });
    shape.collect()
}

#[test]
fn frames_have_the_shape_that_quirks_give_them() {
    for (quirk, expected) in [
        (Quirk::NoRtpInfo, "spKDD"),
        (Quirk::MarkedSei, "spkIdIdI"),
        (Quirk::MarkedEach, "SPIKDD"),
        (Quirk::MarkedSps, "SpKDD"),
        (Quirk::Unmarked, "spkdd"),
        (Quirk::LoneSei, "IspKIDID"),
        (Quirk::Aggregates, "aKDD"),
        (Quirk::NoSets, "KDD"),
        (Quirk::Fragments(200), "spfFDD"),
    ] {
        assert_eq!(
            shape(&sent(&camera().with(quirk), 3)),
            expected,
            "{quirk:?}"
        );
    }
    let sliced = camera().size(Size::Wide).with(Quirk::Slices(2));
    assert_eq!(shape(&sent(&sliced, 2)), "spkKdD");
}

#[test]
fn numbers_go_on_without_a_seam_and_jump_where_they_are_told_to() {
    let plain = sent(&camera(), 12);
    let sequences: Vec<_> = plain.iter().map(|packet| packet.1).collect();
    assert_eq!(sequences, (0..16).collect::<Vec<_>>(), "two key frames");
    let times: Vec<_> = plain.iter().map(|packet| packet.2).collect();
    assert_eq!(times[2..5], [0, 4_500, 9_000]);
    let wrapping = sent(&camera().with(Quirk::NearWrap), 30);
    assert_eq!(wrapping[0].1, 0xFFF0);
    assert!(
        wrapping
            .iter()
            .any(|packet| packet.1 < 20 && packet.2 < 200_000)
    );
    let constant = sent(&camera().with(Quirk::ConstantTime), 5);
    assert!(constant.iter().all(|packet| packet.2 == 0));
    let fast = sent(&camera().with(Quirk::FastClock(100)), 2);
    assert_eq!(fast[3].2, 4_950);
    let mut media = media();
    let before = packets(&mut media, &camera(), 1)[2].clone();
    media.jump(Jump {
        packets: 500,
        seconds: -60,
        source: true,
    });
    let after = packets(&mut media, &camera(), 1)[0].clone();
    assert_eq!(after.1, before.1 + 501);
    assert_eq!(after.2, before.2.wrapping_sub(60 * 90_000));
    assert_ne!(after.3, before.3);
}

#[test]
fn what_a_network_does_to_packets_is_the_same_in_every_run() {
    // 900 pictures with 90 pairs of sets are 1080 packets.
    for (quirk, expected) in [
        (Quirk::Loses(50), 1_000..1_060),
        (Quirk::Doubles(50), 1_110..1_170),
        (Quirk::Swaps(50), 1_079..1_081),
    ] {
        let once = sent(&camera().with(quirk), 900);
        assert_eq!(once, sent(&camera().with(quirk), 900), "{quirk:?}");
        assert!(expected.contains(&once.len()), "{quirk:?}: {}", once.len());
        let late = once.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        let is_swapped = matches!(quirk, Quirk::Swaps(_));
        assert_eq!(late > 20, is_swapped, "{quirk:?}: {late} late");
    }
}

#[test]
fn a_new_size_begins_with_a_key_frame() {
    let mut media = media();
    let mut checker = Checker::default();
    let mut sizes = Vec::new();
    for (slot, size) in (0..25).zip([Size::Dot; 15].into_iter().chain([Size::Wide; 10])) {
        let packets = media.next(&camera().size(size), slot);
        let units: Vec<_> = packets
            .iter()
            .map(|packet| packet.bytes[12..].to_vec())
            .collect();
        sizes.push(checker.take(&units).expect("a whole picture"));
    }
    assert_eq!(sizes[..20], [Some(Size::Dot); 20]);
    assert_eq!(sizes[20..], [Some(Size::Wide); 5]);
}
