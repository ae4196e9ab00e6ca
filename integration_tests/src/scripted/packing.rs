//! H.264 pictures as RTP payloads ([RFC 6184]), in the ways of good and of odd cameras, and RTCP.
//!
//! [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184

use super::{
    h264::{Picture, pps, sei},
    media::Track,
    quirk::Quirk,
    script::Camera,
};

/// The type of a fragment (RFC 6184 §5.8).
const FU_A: u8 = 0x1C;

/// What one packet carries.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) marker: bool,
    /// Whether its time is before that of the rest of its frame.
    pub(super) is_early: bool,
}

impl Payload {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            marker: false,
            is_early: false,
        }
    }

    /// The last of a frame.
    pub(super) fn last(bytes: Vec<u8>) -> Self {
        Self {
            marker: true,
            ..Self::new(bytes)
        }
    }
}

/// The packets of a picture, its parameter sets before it if it is a key frame.
pub(super) fn pack(picture: Picture, camera: &Camera) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if camera.has(Quirk::LoneSei) {
        payloads.push(Payload {
            is_early: true,
            ..Payload::last(sei())
        });
    }
    if picture.place == 0 && !camera.has(Quirk::NoSets) {
        let (sps, pps) = (picture.size.sps(), pps());
        if camera.has(Quirk::Aggregates) {
            payloads.push(Payload::new(aggregate(&[sps, pps])));
        } else {
            payloads.push(Payload {
                marker: camera.has(Quirk::MarkedSps) || camera.has(Quirk::MarkedEach),
                ..Payload::new(sps)
            });
            payloads.push(Payload {
                marker: camera.has(Quirk::MarkedEach),
                ..Payload::new(pps)
            });
        }
        if camera.has(Quirk::MarkedEach) {
            payloads.push(Payload::last(sei()));
        }
    }
    let (mut slices, mut limit) = (1, usize::MAX);
    for quirk in &camera.quirks {
        match quirk {
            Quirk::Slices(count) => slices = *count,
            Quirk::Fragments(size) => limit = *size,
            _ => {}
        }
    }
    for unit in picture.slices(slices) {
        payloads.extend(fragments(unit, limit));
    }
    if camera.has(Quirk::MarkedSei) {
        payloads.push(Payload::new(sei()));
    }
    if let Some(last) = payloads.last_mut() {
        last.marker = !camera.has(Quirk::Unmarked);
    }
    payloads
}

/// Several units in one packet (STAP-A).
fn aggregate(units: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for unit in units {
        let length = u16::try_from(unit.len()).expect("parameter sets are small");
        payload.extend(length.to_be_bytes());
        payload.extend(unit);
    }
    payload
}

/// A unit as it is, or in fragments of at most `limit` bytes (FU-A).
fn fragments(unit: Vec<u8>, limit: usize) -> Vec<Payload> {
    if unit.len() <= limit {
        return vec![Payload::new(unit)];
    }
    let (header, data) = (unit[0], &unit[1..]);
    let count = data.len().div_ceil(limit);
    let fragment = |(place, part): (usize, &[u8])| {
        let first = u8::from(place == 0) << 7;
        let last = u8::from(place + 1 == count) << 6;
        let mut bytes = vec![header & 0xE0 | FU_A, first | last | header & 0x1F];
        bytes.extend(part);
        Payload::new(bytes)
    };
    data.chunks(limit).enumerate().map(fragment).collect()
}

/// RTCP: where the stream is, with a clock that began when the stream did (RFC 3550 §6.4.1).
pub(super) fn sender_report(track: &Track) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(track.ssrc.to_be_bytes());
    // Seconds and fractions since 1900 at the time of the last packet, if its clock runs at 90 kHz.
    let seconds = 3_900_000_000_u32.wrapping_add(track.timestamp / 90_000);
    let fraction = u64::from(track.timestamp % 90_000) * (1 << 32) / 90_000;
    packet.extend(seconds.to_be_bytes());
    packet.extend(u32::try_from(fraction).unwrap_or(u32::MAX).to_be_bytes());
    packet.extend(track.timestamp.to_be_bytes());
    packet.extend(track.sent.0.to_be_bytes());
    packet.extend(track.sent.1.to_be_bytes());
    packet
}

/// RTCP: the source has left (RFC 3550 §6.6).
pub(super) fn bye(track: &Track) -> Vec<u8> {
    let mut packet = sender_report(track);
    packet.extend([0x81, 203, 0, 1]);
    packet.extend(track.ssrc.to_be_bytes());
    packet
}
