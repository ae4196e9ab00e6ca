//! [`Meter`]: one track of a camera, counted while it plays.

use std::collections::BTreeMap;

use bytes::Bytes;
use retina::rtcp::PacketRef;

use super::{Measured, Picture, Seconds, Sizes};
use crate::{
    media::{
        Codec,
        assembler::{AccessUnit, Assembler},
        nal::SliceType,
    },
    source::rtsp::{
        ingest::without_b_frames,
        packet::{Follower, Taken, is_rtcp},
    },
};

/// Counts the packets of one track, and reads them if they are H.264 or H.265.
pub(super) struct Meter {
    follower: Follower,
    /// Ticks per second.
    rate: u32,
    pictures: Option<Pictures>,
    sizes: BTreeMap<usize, u64>,
    packets: u64,
    bytes: u64,
    lost: u64,
    /// Packets that came after their successors, or twice.
    late: u64,
    reports: u64,
    times: Option<Times>,
}

/// The camera's ticks of what came.
#[derive(Clone, Copy)]
struct Times {
    earliest: i64,
    latest: i64,
    last: i64,
    /// Pictures, or blocks of sound.
    units: u64,
}

struct Pictures {
    assembler: Assembler,
    /// Pictures with a B slice that nevertheless come in the order in which they are shown.
    ordered_b: u64,
    /// When they were, and how many pictures had come by then.
    first_key: Option<(i64, u64)>,
    last_key: Option<(i64, u64)>,
    longest: Option<i64>,
}

impl Meter {
    pub(super) fn new(assembler: Option<Assembler>, rate: u32) -> Self {
        Self {
            follower: Follower::default(),
            rate: rate.max(1),
            pictures: assembler.map(|assembler| Pictures {
                assembler,
                ordered_b: 0,
                first_key: None,
                last_key: None,
                longest: None,
            }),
            sizes: BTreeMap::new(),
            packets: 0,
            bytes: 0,
            lost: 0,
            late: 0,
            reports: 0,
            times: None,
        }
    }

    /// Takes what came on the channel or socket for RTCP (`control`) or RTP; whether it is RTP.
    pub(super) fn take(&mut self, control: bool, packet: &Bytes) -> bool {
        if control || is_rtcp(packet) {
            self.rtcp(packet);
            return false;
        }
        let size = packet.len();
        let Taken::Next(packet) = self.follower.take(packet) else {
            self.late += 1;
            return false;
        };
        *self.sizes.entry(size).or_default() += 1;
        self.packets += 1;
        self.bytes += size as u64;
        self.lost += u64::from(packet.lost);
        let time = packet.time;
        let times = self.times.get_or_insert(Times {
            earliest: time,
            latest: time,
            last: time,
            units: 1,
        });
        times.units += u64::from(times.last != time);
        times.last = time;
        times.earliest = times.earliest.min(time);
        times.latest = times.latest.max(time);
        if let Some(pictures) = &mut self.pictures {
            let mut units = Vec::new();
            let Pictures { assembler, .. } = pictures;
            assembler.push(packet, &mut |unit| units.push(unit));
            for unit in units {
                pictures.add(&unit, times.units);
            }
        }
        true
    }

    /// Sender reports stand at the beginning of a compound packet.
    fn rtcp(&mut self, compound: &[u8]) {
        let first = PacketRef::parse(compound).map(|(first, _)| first.as_sender_report());
        self.reports += u64::from(matches!(first, Ok(Ok(Some(_)))));
    }

    pub(super) fn has_report(&self) -> bool {
        self.reports > 0
    }

    /// Whether the distance of key frames is known; true where there is none to know.
    pub(super) fn has_interval(&self) -> bool {
        let mut pictures = self.pictures.iter();
        pictures.all(|pictures| pictures.longest.is_some())
    }

    pub(super) fn measured(&self) -> Measured {
        let seconds = |ticks: i64| {
            let ticks = i32::try_from(ticks).unwrap_or(i32::MAX);
            Seconds(f64::from(ticks) / f64::from(self.rate))
        };
        let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let frame_rate = self
            .stretch()
            .map(|(ticks, units)| float(units) / seconds(ticks).0);
        let units = self.times.map_or(0, |times| times.units);
        let bit_rate = frame_rate.map(|rate| float(self.bytes * 8) * rate / float(units));
        Measured {
            frame_rate: frame_rate.map(|rate| (rate * 100.0).round() / 100.0),
            bit_rate: bit_rate.map(f64::round),
            packets: self.packets,
            lost: self.lost.saturating_sub(self.late),
            packet_bytes: self.sizes(),
            sender_reports: self.reports,
            picture: self
                .pictures
                .as_ref()
                .map(|pictures| pictures.seen(self.times, seconds)),
        }
    }

    /// A length of time, and the pictures in it. From key frame to key frame none is missing because it is
    /// sent later than shown; of what has no key frames the last picture ends it and does not count.
    fn stretch(&self) -> Option<(i64, u64)> {
        let times = self.times?;
        let keys = |pictures: &Pictures| Some((pictures.first_key?, pictures.last_key?));
        let stretch = match self.pictures.as_ref().and_then(keys) {
            Some(((first, before), (last, by_then))) if last > first => {
                (last - first, by_then - before)
            }
            _ => (times.latest - times.earliest, times.units - 1),
        };
        (stretch.0 > 0).then_some(stretch)
    }

    fn sizes(&self) -> Option<Sizes> {
        let mut before = 0;
        let median = self.sizes.iter().find_map(|(size, count)| {
            before += count;
            (before * 2 >= self.packets).then_some(*size)
        });
        Some(Sizes {
            min: *self.sizes.keys().next()?,
            median: median?,
            max: *self.sizes.keys().next_back()?,
        })
    }
}

impl Pictures {
    /// Takes a picture, of which so many have come.
    fn add(&mut self, unit: &AccessUnit, units: u64) {
        // Of H.265 the type of a slice does not tell whether it looks ahead.
        let is_h264 = matches!(self.assembler.codec(), Codec::H264(_));
        let is_b = |nal: &Bytes| is_h264 && SliceType::of(nal) == Some(SliceType::B);
        self.ordered_b += u64::from(unit.nal_units.iter().any(is_b));
        if !unit.random_access {
            return;
        }
        let key = (unit.time, units);
        self.first_key.get_or_insert(key);
        if let Some((last, _)) = self.last_key.replace(key) {
            self.longest = self.longest.max(Some(unit.time - last));
        }
    }

    fn seen(&self, times: Option<Times>, seconds: impl Fn(i64) -> Seconds) -> Picture {
        // Without two key frames only the times without one are known.
        let gap = times.map(|times| match (self.first_key, self.last_key) {
            (Some((first, _)), Some((last, _))) => {
                (first - times.earliest).max(times.latest - last)
            }
            _ => times.latest - times.earliest,
        });
        let reordered = self.assembler.reordered();
        let codec = self.assembler.codec();
        let (profile_level, profile_tier_level) = match codec {
            Codec::H264(profile_level) => (profile_level, None),
            Codec::H265(profile_tier_level) => (None, profile_tier_level),
            _ => (None, None),
        };
        Picture {
            profile_level,
            profile_tier_level,
            size: self.assembler.picture_size(),
            has_key_frame: self.first_key.is_some(),
            key_frame_interval: self.longest.map(&seconds),
            key_frame_interval_more_than: gap.filter(|_| self.longest.is_none()).map(&seconds),
            b_frames: self.ordered_b > 0 || reordered.left_out > 0,
            left_out: (reordered.left_out > 0).then(|| without_b_frames(codec, reordered).sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::h264::ParameterSets;

    const SPS: [u8; 4] = [0x67, 0x42, 0xc0, 0x1f];

    /// A picture of one packet: an IDR one, or with a slice of this type.
    fn rtp(sequence: u16, time: u32, slice: &[u8]) -> Bytes {
        let mut bytes = vec![0x80, 0xe0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(time.to_be_bytes());
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(slice);
        bytes.into()
    }

    const IDR: &[u8] = &[0x65, 0b1000_1000, 0, 0];
    const P: &[u8] = &[0x41, 0b1001_1000];
    const B: &[u8] = &[0x01, 0b1001_1100];

    fn meter() -> Meter {
        let mut sets = ParameterSets::default();
        sets.keep(&Bytes::from_static(&SPS));
        Meter::new(Some(Assembler::new(sets)), 90_000)
    }

    fn measured(pictures: &[(u32, &[u8])]) -> Measured {
        let mut meter = meter();
        for ((time, slice), sequence) in pictures.iter().zip(0..) {
            assert!(meter.take(false, &rtp(sequence, *time, slice)));
        }
        meter.measured()
    }

    #[test]
    fn rates_and_sizes_are_those_of_the_media_not_of_the_clock() {
        let pictures: Vec<_> = (0..26)
            .map(|n| (n * 3600, if n % 25 == 0 { IDR } else { P }))
            .collect();
        let measured = measured(&pictures);
        assert_eq!(measured.frame_rate, Some(25.0));
        // 24 packets of 14 bytes and two of 16, of which 25 go by in a second.
        assert_eq!(measured.bit_rate, Some(2831.0));
        let sizes = measured.packet_bytes.unwrap();
        assert_eq!((sizes.min, sizes.median, sizes.max), (14, 14, 16));
        let picture = measured.picture.unwrap();
        assert_eq!(picture.key_frame_interval, Some(Seconds(1.0)));
        assert_eq!(picture.key_frame_interval_more_than, None);
        assert!(!picture.b_frames);
    }

    #[test]
    fn b_frames_are_seen_in_and_out_of_order() {
        let reordered = [(0, IDR), (10_800, P), (3_600, B), (7_200, B), (14_400, P)];
        let seen = measured(&reordered);
        let picture = seen.picture.unwrap();
        assert!(picture.b_frames);
        assert!(picture.left_out.unwrap().contains("2 of 3 pictures"));
        assert_eq!(seen.frame_rate, Some(25.0));
        // What is shown before the last picture has not come yet, but from key to key all has.
        let cut_short = [(0, IDR), (7_200, P), (3_600, B), (10_800, IDR), (21_600, P)];
        assert_eq!(measured(&cut_short).frame_rate, Some(25.0));
        // In order, and others are made of it.
        let in_order: &[u8] = &[0x41, 0b1001_1100];
        let picture = measured(&[(0, IDR), (3_600, in_order)]).picture.unwrap();
        assert!(picture.b_frames && picture.left_out.is_none());
    }

    #[test]
    fn one_key_frame_tells_how_rare_they_are_at_least() {
        let seen = measured(&[
            (0, P),
            (90_000, P),
            (180_000, IDR),
            (720_000, P),
            (810_000, P),
        ]);
        let picture = seen.picture.unwrap();
        assert!(picture.has_key_frame && picture.key_frame_interval.is_none());
        let at_least = picture.key_frame_interval_more_than;
        // The last picture counts from its key frame on.
        assert_eq!(at_least, Some(Seconds(7.0)));
        let none = measured(&[(0, P), (270_000, P)]).picture.unwrap();
        assert!(!none.has_key_frame);
        assert_eq!(none.key_frame_interval_more_than, Some(Seconds(3.0)));
    }

    #[test]
    fn losses_are_counted_and_what_comes_late_after_all_is_none() {
        let mut meter = meter();
        for sequence in [0, 1, 4, 3, 5] {
            meter.take(false, &rtp(sequence, 0, P));
        }
        let measured = meter.measured();
        assert_eq!((measured.packets, measured.lost), (4, 1));
        assert_eq!((measured.frame_rate, measured.bit_rate), (None, None));
    }

    #[test]
    fn only_sender_reports_count_as_such() {
        let mut meter = meter();
        let mut report = vec![0x80, 200, 0, 6];
        report.resize(28, 0);
        let receiver = [0x80, 201, 0, 1, 0, 0, 0, 0];
        for (packet, count) in [
            (&receiver[..], 0),
            (&report, 1),
            (&[0x80, 200], 1),
            (&[], 1),
        ] {
            assert!(!meter.take(true, &Bytes::copy_from_slice(packet)));
            assert_eq!(meter.measured().sender_reports, count);
        }
        assert!(meter.has_report());
    }
}
