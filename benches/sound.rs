//! What a second of a camera's sound costs: taken apart, decoded, brought to a rate of Opus, coded.

#![expect(missing_docs, reason = "criterion's macro writes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use porthole::media::{
    MediaTime,
    audio::{Converter, Format, SoundPacket},
    sdp::Description,
};

const STEREO_48: &[u8] = include_bytes!("../tests/fixtures/audio/stereo48.aac");
const MONO_44: &[u8] = include_bytes!("../tests/fixtures/audio/mono44.aac");
const MONO_16: &[u8] = include_bytes!("../tests/fixtures/audio/mono16.aac");

fn format(name: &str, rate: u32, channels: u16, fmtp: &str) -> Format {
    let sdp = Description::parse(&format!("m=audio 0 RTP/AVP 97\na=fmtp:97 {fmtp}\n"));
    Format::read(name, rate, channels, &sdp.media[0], "97")
        .expect("it is converted")
        .expect("it is known")
}

/// The access units of an ADTS stream as packets of RFC 3640.
fn aac(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = stream;
    while let [0xff, _, _, l0, l1, l2, ..] = rest {
        let length = usize::from(l0 & 3) << 11 | usize::from(*l1) << 3 | usize::from(l2 >> 5);
        let unit = &rest[7..length];
        let size = u16::try_from(unit.len() << 3).expect("a unit is small");
        packets.push([&[0, 16], &size.to_be_bytes()[..], unit].concat());
        rest = &rest[length..];
    }
    packets
}

/// A second, again and again.
fn second(c: &mut Criterion) {
    let noise: Vec<u8> = (0..640_u32)
        .map(|i| (i * i % 251).to_le_bytes()[0])
        .collect();
    let cases = [
        (
            "aac 48 kHz stereo",
            format("mpeg4-generic", 48_000, 2, "config=1190"),
            aac(STEREO_48),
            1_024,
        ),
        (
            "aac 44.1 kHz mono",
            format("mpeg4-generic", 44_100, 1, "config=1208"),
            aac(MONO_44),
            1_024,
        ),
        (
            "aac 16 kHz mono",
            format("mpeg4-generic", 16_000, 1, "config=1408"),
            aac(MONO_16),
            1_024,
        ),
        (
            "g722",
            format("G722", 8_000, 1, ""),
            vec![noise[..160].to_vec()],
            160,
        ),
        (
            "g726-32",
            format("G726-32", 8_000, 1, ""),
            vec![noise[..80].to_vec()],
            160,
        ),
    ];
    let mut group = c.benchmark_group("second");
    group.sample_size(10);
    for (name, format, payloads, ticks) in cases {
        let packets: Vec<bytes::Bytes> = payloads.into_iter().map(Into::into).collect();
        let (mut converter, mut time) = (Converter::new(format), 0);
        let mut next = packets.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let end = time + i64::from(format.clock_rate);
                while time < end {
                    let payload = next.next().expect("it never ends").clone();
                    let packet = SoundPacket {
                        time: MediaTime(time),
                        captured: Duration::ZERO,
                        is_after_loss: false,
                        marker: true,
                        payload,
                    };
                    converter.push(&packet, |block| {
                        black_box(block);
                    });
                    time += ticks;
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, second);
criterion_main!(benches);
