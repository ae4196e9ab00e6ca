//! All of it together: what cameras send to what a browser hears.

use std::{f64::consts::PI, time::Duration};

use bytes::Bytes;

use super::*;
use crate::media::{MediaTime, sdp::Description};

mod hostile;
mod time;
mod vectors;

/// The format of a description's `a=rtpmap` and `a=fmtp`.
pub(super) fn format(map: &str, fmtp: &str) -> Format {
    let text = format!("m=audio 0 RTP/AVP 97\na=rtpmap:97 {map}\na=fmtp:97 {fmtp}\n");
    let sdp = Description::parse(&text);
    let mut parts = map.split('/');
    let name = parts.next().unwrap();
    let mut number = || parts.next().map(|part| part.parse::<u32>().unwrap());
    let (rate, channels) = (number().unwrap(), number().unwrap_or(1));
    let channels = u16::try_from(channels).unwrap();
    Format::read(name, rate, channels, &sdp.media[0], "97")
        .unwrap()
        .unwrap()
}

pub(super) fn packet(time: i64, clock_rate: u32, payload: Vec<u8>) -> SoundPacket {
    SoundPacket {
        time: MediaTime(time),
        captured: MediaTime(time).elapsed(clock_rate),
        is_after_loss: false,
        marker: true,
        payload: payload.into(),
    }
}

/// What a browser hears of blocks: samples with 48 kHz, left and right in turn.
pub(super) fn heard(blocks: &[Block]) -> Vec<f32> {
    let mut decoder = ropus::Decoder::new(48_000, ropus::Channels::Stereo).unwrap();
    let mut all = Vec::new();
    for block in blocks {
        let mut out = [0.0; 960 * 2];
        let count = decoder.decode_float(&block.payload, &mut out, ropus::DecodeMode::Normal);
        assert_eq!(count.unwrap(), 960);
        all.extend(out);
    }
    all
}

/// Which part of the energy of one channel is of a tone, of 0 to 1.
pub(super) fn part_of_tone(samples: &[f32], channel: usize, frequency: f64) -> f64 {
    let (mut cosine, mut sine, mut all) = (0.0, 0.0, 0.0);
    for (sample, number) in samples.iter().skip(channel).step_by(2).zip(0..) {
        let angle = 2.0 * PI * frequency * f64::from(number) / 48_000.0;
        let sample = f64::from(*sample);
        cosine += angle.cos() * sample;
        sine += angle.sin() * sample;
        all += sample * sample;
    }
    let count = f64::from(u32::try_from(samples.len() / 2).unwrap());
    2.0 * (cosine * cosine + sine * sine) / count / f64::max(all, 1e-9)
}

pub(super) fn loudness(samples: &[f32]) -> f32 {
    samples
        .iter()
        .fold(0.0, |most, sample| most.max(sample.abs()))
}

/// The access units of an ADTS stream (ISO/IEC 13818-7 §6.2).
pub(super) fn adts(stream: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut rest = stream;
    while let [0xff, flags, _, l0, l1, l2, ..] = rest {
        let length = usize::from(l0 & 3) << 11 | usize::from(*l1) << 3 | usize::from(l2 >> 5);
        let header = if flags & 1 == 1 { 7 } else { 9 };
        units.push(&rest[header..length]);
        rest = &rest[length..];
    }
    units
}

/// Units as one packet of RFC 3640.
pub(super) fn au_packet(units: &[&[u8]]) -> Vec<u8> {
    let mut payload = u16::try_from(units.len() * 16)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    for unit in units {
        payload.extend((u16::try_from(unit.len()).unwrap() << 3).to_be_bytes());
    }
    payload.extend(units.concat());
    payload
}

fn convert(format: Format, packets: &[SoundPacket]) -> Vec<Block> {
    let mut converter = Converter::new(format);
    let mut blocks = Vec::new();
    for packet in packets {
        converter.push(packet, |block| blocks.push(block));
    }
    blocks
}

pub(super) const MONO_16: &[u8] = include_bytes!("../../../tests/fixtures/audio/mono16.aac");
const MONO_8: &[u8] = include_bytes!("../../../tests/fixtures/audio/mono8.aac");
const MONO_44: &[u8] = include_bytes!("../../../tests/fixtures/audio/mono44.aac");
const STEREO_48: &[u8] = include_bytes!("../../../tests/fixtures/audio/stereo48.aac");

/// Without the beginning and the end, where encoders add silence.
fn steady(sound: &[f32]) -> &[f32] {
    &sound[48_000 / 10 * 2..sound.len() - 48_000 / 7 * 2]
}

/// A tone of 1 kHz is heard, and the blocks follow each other.
fn assert_tone(blocks: &[Block], name: &str) {
    let sound = heard(blocks);
    let steady = steady(&sound);
    assert!(steady.len() > 48_000 / 10 * 2, "{name}: {}", steady.len());
    let part = part_of_tone(steady, 0, 1_000.0);
    assert!(part > 0.95, "{name}: {part}");
    let loudness = loudness(steady);
    assert!((0.25..0.65).contains(&loudness), "{name}: {loudness}");
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].time.0 - pair[0].time.0, 960, "{name}");
    }
}

#[test]
fn aac_of_every_usual_rate_is_heard() {
    for (map, config, stream) in [
        ("mpeg4-generic/8000/1", "1588", MONO_8),
        ("mpeg4-generic/16000/1", "1408", MONO_16),
        ("mpeg4-generic/44100/1", "1208", MONO_44),
        ("mpeg4-generic/48000/2", "1190", STEREO_48),
    ] {
        let format = format(map, &format!("mode=AAC-hbr;config={config}"));
        let units = adts(stream);
        for together in [1, 3] {
            let packets: Vec<_> = units
                .chunks(together)
                .zip(0..)
                .map(|(units, number)| {
                    let time = 77_777 + number * 1_024 * i64::try_from(together).unwrap();
                    packet(time, format.clock_rate, au_packet(units))
                })
                .collect();
            let blocks = convert(format, &packets);
            assert_tone(&blocks, map);
            let begin = blocks[0].captured.abs_diff(packets[0].captured);
            assert!(begin < Duration::from_millis(7), "{map}: {begin:?}");
        }
    }
}

#[test]
fn channels_stay_where_they_are() {
    let format = format("mpeg4-generic/48000/2", "mode=AAC-hbr;config=1190");
    let units = adts(STEREO_48);
    let packets = units.iter().zip(0..);
    let packets: Vec<_> = packets
        .map(|(unit, number)| packet(number * 1_024, 48_000, au_packet(&[unit])))
        .collect();
    let sound = heard(&convert(format, &packets));
    let steady = steady(&sound);
    assert!(part_of_tone(steady, 0, 1_000.0) > 0.95);
    assert!(part_of_tone(steady, 1, 400.0) > 0.95);
}

#[test]
fn linear_and_g711_sound_of_any_rate_is_heard() {
    for (map, rate) in [
        ("L16/11025", 11_025),
        ("L16/48000", 48_000),
        ("PCMU/16000", 16_000),
        ("PCMA/32000", 32_000),
    ] {
        let format = format(map, "");
        let samples: Vec<f64> = (0..rate)
            .map(|i| 0.4 * (2.0 * PI * 1_000.0 * f64::from(i) / f64::from(rate)).sin())
            .collect();
        let table = |decode: fn(u8) -> i16, sample: f64| {
            let distance = |code: &u8| (f64::from(decode(*code)) / 32_768.0 - sample).abs();
            (0..=255)
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
                .unwrap()
        };
        let code = |sample: &f64| match map.as_bytes() {
            [b'L', ..] => ((sample * 32_767.0) as i16).to_be_bytes().to_vec(),
            [.., b'U', b'/', _, _, _, _, _] => vec![table(g711::ulaw, *sample)],
            _ => vec![table(g711::alaw, *sample)],
        };
        let packets = samples.chunks(160).zip(0..);
        let packets: Vec<_> = packets
            .map(|(part, number)| {
                let payload = part.iter().flat_map(code).collect();
                packet(number * 160, format.clock_rate, payload)
            })
            .collect();
        assert_tone(&convert(format, &packets), map);
    }
}

#[test]
fn latm_and_fragments_are_heard() {
    let latm = format("MP4A-LATM/16000/1", "cpresent=0;config=400028103fc0");
    let units = adts(MONO_16);
    let packets = units.iter().zip(0..);
    let latm_packets: Vec<_> = packets
        .clone()
        .map(|(unit, number)| {
            let mut payload = vec![255; unit.len() / 255];
            payload.push(u8::try_from(unit.len() % 255).unwrap());
            payload.extend_from_slice(unit);
            packet(number * 1_024, 16_000, payload)
        })
        .collect();
    assert_tone(&convert(latm, &latm_packets), "LATM");
    let generic = format("mpeg4-generic/16000/1", "config=1408");
    let halves: Vec<_> = packets
        .flat_map(|(unit, number)| {
            let whole = au_packet(&[unit]);
            let (begin, end) = whole.split_at(unit.len() / 2);
            let end = [&whole[..4], end].concat();
            let mut first = packet(number * 1_024, 16_000, begin.to_vec());
            first.marker = false;
            [first, packet(number * 1_024, 16_000, end)]
        })
        .collect();
    assert_tone(&convert(generic, &halves), "fragments");
}

#[test]
fn mono_stays_mono() {
    let format = format("L16/16000", "");
    let blocks = convert(format, &[packet(0, 16_000, vec![1; 3_200])]);
    // RFC 6716 §3.1: the third bit from the right tells of stereo.
    assert!(!blocks.is_empty() && blocks.iter().all(|block| block.payload[0] & 4 == 0));
    assert_eq!(
        Bytes::len(&blocks[0].payload).cmp(&0),
        std::cmp::Ordering::Greater
    );
}
