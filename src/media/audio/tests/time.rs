//! Gaps, clocks that differ, and what conversion adds to the delay.

use std::time::Duration;

use super::super::{
    converter::{Line, Reference},
    linear::Decoded,
    *,
};
use super::{convert, format, heard, loudness, packet};

/// Samples per second of the camera in these tests.
const RATE: u32 = 8_000;

/// A second of a loud tone in packets of 20 ms, of which some are missing, with timestamps from 0.
fn tone(seconds: i64) -> Vec<SoundPacket> {
    let sample = |i: i64| {
        let angle = 2.0 * std::f64::consts::PI * 440.0 * i as f64 / f64::from(RATE);
        ((angle.sin() * 12_000.0) as i16).to_be_bytes()
    };
    (0..seconds * 50)
        .map(|number| {
            let payload = (number * 160..(number + 1) * 160)
                .flat_map(sample)
                .collect();
            packet(number * 160, RATE, payload)
        })
        .collect()
}

fn without(mut packets: Vec<SoundPacket>, lost: std::ops::Range<usize>) -> Vec<SoundPacket> {
    packets[lost.end].is_after_loss = true;
    packets.drain(lost);
    packets
}

/// Blocks follow each other without a gap.
fn assert_gapless(blocks: &[Block]) {
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].time.0 - pair[0].time.0, 960);
    }
}

#[test]
fn lost_packets_are_silence_and_nothing_moves() {
    let blocks = convert(format("L16/8000", ""), &without(tone(2), 50..60));
    assert_gapless(&blocks);
    let sound = heard(&blocks);
    let at = |millis: usize| &sound[millis * 48 * 2..][..20 * 48 * 2];
    assert!(loudness(at(900)) > 0.3 && loudness(at(1_300)) > 0.3);
    assert!(loudness(at(1_080)) < 0.02, "{}", loudness(at(1_080)));
    // A click would be louder than the tone.
    assert!(loudness(&sound) < 0.45, "{}", loudness(&sound));
}

#[test]
fn after_a_long_gap_time_goes_on_where_the_camera_is() {
    let blocks = convert(format("L16/8000", ""), &without(tone(5), 50..150));
    let jumps: Vec<_> = blocks
        .windows(2)
        .map(|pair| pair[1].time.0 - pair[0].time.0)
        .filter(|step| *step != 960)
        .collect();
    assert_eq!(jumps.len(), 1);
    assert!(
        (2 * 48_000 - 960..=2 * 48_000 + 1_920).contains(&jumps[0]),
        "{jumps:?}"
    );
    let last = blocks.last().unwrap();
    assert!((last.time.0 - 5 * 48_000).abs() < 2_400 && last.captured.as_secs_f64() > 4.94);
}

#[test]
fn timestamps_that_jitter_are_not_heard() {
    let mut packets = tone(4);
    for (packet, number) in packets.iter_mut().zip(0_i64..) {
        packet.time.0 += number * 7 % 11 * 48 - 240;
    }
    let blocks = convert(format("L16/8000", ""), &packets);
    assert_gapless(&blocks);
    assert!(blocks.len().abs_diff(4 * 50) <= 3, "{}", blocks.len());
}

/// From the packet that completes a block to the first sound of it is less than 80 ms, of which 20 are
/// the block itself.
#[test]
fn conversion_adds_little_delay() {
    for map in ["L16/8000", "L16/16000", "L16/44100", "L16/48000"] {
        let format = format(map, "");
        let mut converter = Converter::new(format);
        let (mut worst, mut done) = (0.0_f64, 0.0_f64);
        for number in 0..100 {
            // 10 ms each.
            let count = i64::from(format.clock_rate) / 100;
            let packet = packet(
                number * count,
                format.clock_rate,
                vec![0; usize::try_from(count).unwrap() * 2],
            );
            converter.push(&packet, |block| {
                done = block.time.0 as f64 / 48_000.0 + 0.020;
            });
            // A decoder has sound until `done`, and the camera has given it until the end of the packet.
            worst = worst.max((number + 1) as f64 * 0.010 - done);
        }
        assert!(worst > 0.0 && worst < 0.035, "{map}: {worst}");
    }
}

/// Clicks, one a second, of a camera whose samples come faster or slower than its
/// timestamps say: the greatest distance in seconds between a click and its time.
fn strays(parts_per_million: f64, seconds: u32) -> f64 {
    let true_rate = f64::from(RATE) * (1.0 + parts_per_million / 1e6);
    let mut line = Line::new(RATE, Channels::Mono).unwrap();
    let (mut given, mut worst) = (i64::MIN, 0.0_f64);
    let mut clicks = 0;
    for number in 0..seconds * 50 {
        let first = f64::from(number * 160);
        let samples: Vec<f32> = (0..160)
            .map(|i| {
                let place = first + f64::from(i);
                let second = (place / true_rate).round();
                // The sample that is nearest to the full second.
                let is_click = (place - second * true_rate).abs() <= 0.5;
                if is_click { 1.0 } else { 0.0 }
            })
            .collect();
        let time = first / true_rate;
        let decoded = Decoded {
            rate: RATE,
            channels: Channels::Mono,
            offset: 0,
            samples: &samples,
            is_broken: false,
        };
        line.take(
            &decoded,
            Reference {
                time,
                captured: time + 5.0,
            },
            given,
        );
        while let Some((begin, captured)) = line.pull(&mut given) {
            let begin = begin.0 as f64 / 48_000.0;
            assert!((captured.as_secs_f64() - begin - 5.0).abs() < 0.001);
            for (sample, place) in line.frame().iter().zip(0_u32..) {
                if *sample > 0.5 {
                    let at = begin + line.delay() + f64::from(place) / f64::from(RATE);
                    worst = worst.max((at - at.round()).abs());
                    clicks += 1;
                }
            }
        }
    }
    assert!(clicks + 2 > seconds, "{clicks}");
    worst
}

#[test]
fn clicks_of_a_clock_that_is_wrong_stay_in_their_places() {
    for parts_per_million in [-100.0, 100.0] {
        let worst = strays(parts_per_million, 60);
        assert!(worst < 0.005, "{parts_per_million}: {worst}");
    }
    assert!(strays(0.0, 5) < 0.000_2);
}

/// Without the samples themselves: how far they are from their time is what matters.
#[test]
fn half_an_hour_of_a_clock_that_is_wrong_moves_no_sound() {
    for parts_per_million in [-100.0, 100.0] {
        let true_rate = 48_000.0 * (1.0 + parts_per_million / 1e6);
        let mut line = Line::new(48_000, Channels::Stereo).unwrap();
        let samples = [0.0; 1_024 * 2];
        let mut worst = 0.0_f64;
        for number in 0..30 * 60 * 48_000 / 1_024 {
            let begin = f64::from(number * 1_024) / true_rate;
            let decoded = Decoded {
                rate: 48_000,
                channels: Channels::Stereo,
                offset: 0,
                samples: &samples,
                is_broken: false,
            };
            let reference = Reference {
                time: begin,
                captured: begin,
            };
            line.take(&decoded, reference, i64::MIN);
            let end = begin + 1_024.0 / true_rate;
            worst = worst.max((line.skip() - end).abs());
        }
        assert!(worst < 0.005, "{parts_per_million}: {worst}");
    }
}

#[test]
fn captured_times_of_a_camera_are_kept() {
    let mut packets = tone(1);
    for packet in &mut packets {
        packet.captured += Duration::from_millis(300);
    }
    let blocks = convert(format("L16/8000", ""), &packets);
    let block = &blocks[20];
    let difference = block.captured.as_secs_f64() - block.time.0 as f64 / 48_000.0;
    assert!((difference - 0.3).abs() < 0.001, "{difference}");
}
