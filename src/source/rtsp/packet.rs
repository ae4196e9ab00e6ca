//! RTP packets of a camera ([RFC 3550 §5.1]): order, losses, time without wrap.
//!
//! [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1

use bytes::Bytes;

use crate::media::assembler::Packet;

/// Follows the packets of one track.
#[derive(Debug, Default)]
pub(super) struct Follower {
    expected: Expected,
    /// Whether a packet of the expected type was seen; until then every other is taken for it.
    is_typed: bool,
    last: Option<Last>,
    /// The source that was followed before, or not wanted in place of the announced one.
    left: Option<u32>,
    /// Packets in a row of a source that is not followed.
    strays: u8,
    /// Packets of the one that is, up to a number that is enough.
    settled: u8,
    /// The last packet that came late, and how many came late in their order.
    late: (u16, u8),
}

/// What a camera says of the packets that it is about to send; not all of it is always right.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    /// As in its description.
    pub(super) payload_type: Option<u8>,
    /// As in its answer to SETUP.
    pub(super) ssrc: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The same without wrap.
    time: i64,
    /// The latest timestamp, where pictures come in another order than they are shown.
    latest: u32,
}

/// How far timestamps go back between neighbours, in ticks of a video clock; what goes back farther was set
/// anew.
const BACK_MAX: u32 = 180_000;

/// How far a packet may come late before it counts as a new beginning.
pub(super) const LATE_MAX: u16 = 512;
/// Late packets in a row, in order, after which the camera has begun to count anew.
const LATE_RUN: u8 = 32;
/// Packets of a source that was left, or not announced, after which it is the one to follow: the other
/// one is silent.
const STRAYS_MAX: u8 = 16;
/// Packets of the announced source after which another one is its successor: those of older sessions come
/// at the beginning.
const SETTLED: u8 = 25;
/// Payload types of comfort noise, which some cameras mix into G.711 (RFC 3551 §4.5.2).
const COMFORT_NOISE: [u8; 2] = [13, 19];

/// What a packet is to its track.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next one.
    Next(Packet),
    /// It says that there is nothing to hear for a while.
    Quiet,
    /// Late, doubled, of another source, or no RTP packet.
    Nothing,
}

impl Follower {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            ..Self::default()
        }
    }

    /// Takes a packet as it arrived.
    ///
    /// A new source, and a jump backwards, count as a loss: what follows does not belong to what
    /// came before.
    pub(super) fn take(&mut self, packet: &Bytes) -> Taken {
        let Some(header) = Header::read(packet) else {
            return Taken::Nothing;
        };
        if COMFORT_NOISE.contains(&header.payload_type) {
            return Taken::Quiet;
        }
        let is_expected = self.expected.payload_type == Some(header.payload_type);
        self.is_typed |= is_expected;
        if self.is_typed && !is_expected {
            return Taken::Nothing;
        }
        let (time, lost) = match self.last {
            None => (i64::from(header.timestamp), 0),
            Some(last) => {
                let step = header.sequence.wrapping_sub(last.sequence);
                let behind = last.sequence.wrapping_sub(header.sequence);
                let same = last.ssrc == header.ssrc;
                let is_unwanted = if same {
                    self.strays = 0;
                    self.settled = SETTLED.min(self.settled + 1);
                    let is_newer = header.timestamp.wrapping_sub(last.latest);
                    let is_newer = (1..0x8000_0000).contains(&is_newer);
                    behind < LATE_MAX && !is_newer && !self.counts_anew(header.sequence)
                } else {
                    !self.changes(last.ssrc, header.ssrc)
                };
                if is_unwanted {
                    return Taken::Nothing;
                }
                let lost = if same && step < 0x8000 && step > 0 {
                    step - 1
                } else {
                    1
                };
                (last.unwrap(header.timestamp), lost)
            }
        };
        self.late.1 = 0;
        self.last = Some(Last {
            ssrc: header.ssrc,
            sequence: header.sequence,
            timestamp: header.timestamp,
            time,
            latest: match self.last {
                Some(last) if last.latest.wrapping_sub(header.timestamp) < BACK_MAX => last.latest,
                _ => header.timestamp,
            },
        });
        Taken::Next(Packet {
            time,
            marker: header.marker,
            lost,
            payload: packet.slice(header.payload),
        })
    }

    /// Whether late packets have come in their order for so long that they are not late.
    fn counts_anew(&mut self, sequence: u16) -> bool {
        let (last, run) = self.late;
        let run = if sequence == last.wrapping_add(1) {
            run + 1
        } else {
            0
        };
        self.late = (sequence, run % LATE_RUN);
        run == LATE_RUN
    }

    /// Whether to follow another source from now on. Some cameras send packets of an older session among
    /// those of ours; a source that was left does not come back as long as the other one sends.
    fn changes(&mut self, from: u32, to: u32) -> bool {
        let is_sure = self.expected.ssrc == Some(to);
        let is_new = self.expected.ssrc == Some(from) && self.settled < SETTLED;
        if self.expected.ssrc == Some(from) && !is_new {
            // What was announced is over.
            self.expected.ssrc = None;
        }
        let is_doubtful = is_new || self.left == Some(to);
        if !is_sure && is_doubtful {
            self.strays += 1;
            if self.strays < STRAYS_MAX {
                self.left = Some(to);
                return false;
            }
        }
        self.strays = 0;
        self.settled = 0;
        self.left = Some(from);
        true
    }

    /// Whether the last packet was of this source.
    pub(super) fn follows(&self, ssrc: u32) -> bool {
        self.last.is_some_and(|last| last.ssrc == ssrc)
    }

    /// The time without wrap of a timestamp near the last packet's; none before the first packet.
    pub(super) fn unwrap(&self, timestamp: u32) -> Option<i64> {
        self.last.map(|last| last.unwrap(timestamp))
    }
}

impl Last {
    #[expect(
        clippy::cast_possible_wrap,
        reason = "the shorter way round the circle"
    )]
    fn unwrap(&self, timestamp: u32) -> i64 {
        self.time + i64::from(timestamp.wrapping_sub(self.timestamp) as i32)
    }
}

/// Whether a packet on an RTP channel is RTCP: some cameras mix them (RFC 5761 §4).
pub(super) fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (200..=207).contains(kind))
}

/// Sequence number and source of an RTP packet; none of what is none.
pub(super) fn place(packet: &[u8]) -> Option<(u16, u32)> {
    Header::read(packet).map(|header| (header.sequence, header.ssrc))
}

struct Header {
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: std::ops::Range<usize>,
}

impl Header {
    fn read(packet: &[u8]) -> Option<Self> {
        let (fixed, _) = packet.split_first_chunk::<12>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if first >> 6 != 2 {
            return None;
        }
        let mut start = 12 + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            let length = packet.get(start + 2..start + 4)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
        }
        let mut end = packet.len();
        if first & 0x20 != 0 {
            end = end.checked_sub(usize::from(*packet.last()?))?;
        }
        (start <= end).then_some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            payload: start..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Bytes {
        let mut bytes = vec![0x80, 0xe0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.push(7);
        bytes.into()
    }

    fn follow(packets: &[(u32, u16, u32)]) -> Vec<Option<(i64, u16)>> {
        let mut follower = Follower::default();
        packets
            .iter()
            .map(|(ssrc, seq, time)| taken(&mut follower, &packet(*ssrc, *seq, *time)))
            .map(|taken| taken.map(|p| (p.time, p.lost)))
            .collect()
    }

    fn taken(follower: &mut Follower, packet: &Bytes) -> Option<Packet> {
        match follower.take(packet) {
            Taken::Next(packet) => Some(packet),
            Taken::Quiet | Taken::Nothing => None,
        }
    }

    #[test]
    fn a_doubled_packet_is_none_in_whichever_order_pictures_come() {
        // P, its packet again after B, the next B.
        let sent = [(1, 5, 9_000), (1, 6, 3_000), (1, 5, 9_000), (1, 7, 6_000)];
        let seen = follow(&sent);
        assert_eq!(seen[2], None);
        assert_eq!(seen[3], Some((6_000, 0)));
    }

    #[test]
    fn sequence_and_time_wrap_without_a_seam() {
        let near = u32::MAX - 99;
        let seen = follow(&[
            (1, 65_534, near),
            (1, 65_535, near),
            (1, 0, 100),
            (1, 2, 200),
        ]);
        let base = i64::from(near);
        assert_eq!(
            seen,
            [
                Some((base, 0)),
                Some((base, 0)),
                Some((base + 200, 0)),
                Some((base + 300, 1))
            ]
        );
    }

    #[test]
    fn late_and_doubled_packets_are_dropped_and_a_restart_is_a_loss() {
        let seen = follow(&[
            (1, 1_000, 0),
            (1, 1_000, 0),
            (1, 999, 0),
            (1, 5, 9),
            (2, 6, 10),
        ]);
        assert_eq!(
            seen,
            [Some((0, 0)), None, None, Some((9, 1)), Some((10, 1))]
        );
    }

    #[test]
    fn extensions_contributors_and_padding_are_not_payload() {
        let mut bytes = packet(1, 1, 1).to_vec();
        bytes[0] = 0x80 | 0x20 | 0x10 | 1;
        bytes.truncate(12);
        bytes.extend([0; 4]);
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        bytes.extend([42, 43, 0, 2]);
        let taken = taken(&mut Follower::default(), &bytes.into()).unwrap();
        assert_eq!(&taken.payload[..], [42, 43]);
        assert!(taken.marker);
    }

    #[test]
    fn what_is_no_packet_is_passed_over() {
        for bytes in [&[][..], &[0x80; 11], &[0x00; 20], &[0x9f; 13], &[0xb0; 13]] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert!(taken(&mut Follower::default(), &bytes).is_none());
        }
        assert!(is_rtcp(&[0x80, 200]) && !is_rtcp(&packet(1, 1, 1)));
    }

    #[test]
    fn packets_of_an_older_session_do_not_disturb() {
        let (old, new) = (1, 2);
        let mixed = [(old, 7, 7), (new, 100, 0), (old, 8, 9), (new, 101, 0)];
        let seen = follow(&mixed);
        let taken: Vec<_> = seen.iter().map(Option::is_some).collect();
        assert_eq!(taken, [true, true, false, true]);
        assert_eq!(seen[3].unwrap().1, 0);
        // Announced in the answer to SETUP, so known from its first packet on.
        let mut follower = Follower::new(Expected {
            ssrc: Some(new),
            ..Expected::default()
        });
        let mut takes = |ssrc, sequence| taken_by(&mut follower, ssrc, sequence);
        assert!(takes(new, 1));
        for sequence in 0..100 {
            assert!(!takes(old, 1_000 + sequence) && takes(new, 2 + sequence));
        }
        // Once the announced one is silent, the other is better than nothing.
        let other = (0..40).filter(|sequence| takes(old, *sequence));
        assert_eq!(other.count(), 40 - usize::from(STRAYS_MAX) + 1);
    }

    #[test]
    fn a_source_that_follows_the_announced_one_late_is_its_successor() {
        let mut follower = Follower::new(Expected {
            ssrc: Some(1),
            ..Expected::default()
        });
        let mut takes = |ssrc, sequence| taken_by(&mut follower, ssrc, sequence);
        assert!((0..26).all(|sequence| takes(1, sequence)));
        assert!(takes(2, 9) && !takes(1, 26) && takes(2, 10));
    }

    fn taken_by(follower: &mut Follower, ssrc: u32, sequence: u16) -> bool {
        taken(follower, &packet(ssrc, sequence, 0)).is_some()
    }

    #[test]
    fn what_is_late_by_its_number_and_new_by_its_time_counts_anew() {
        let seen = follow(&[(1, 1_000, 0), (1, 800, 9), (1, 801, 9), (1, 802, 18)]);
        assert_eq!(
            seen,
            [Some((0, 0)), Some((9, 1)), Some((9, 0)), Some((18, 0))]
        );
    }

    #[test]
    fn a_camera_that_counts_anew_a_little_behind_is_followed_again() {
        let mut follower = Follower::default();
        for sequence in 1_000..1_100 {
            assert!(taken_by(&mut follower, 1, sequence));
        }
        let again = (900..1_000).filter(|sequence| taken_by(&mut follower, 1, *sequence));
        assert_eq!(again.count(), 100 - usize::from(LATE_RUN));
    }

    #[test]
    fn a_stream_that_is_sent_twice_is_taken_once() {
        let mut follower = Follower::default();
        for sequence in 1..500 {
            assert!(taken_by(&mut follower, 1, sequence));
            assert!(!taken_by(&mut follower, 1, sequence.wrapping_sub(1)));
            assert!(!taken_by(&mut follower, 1, sequence));
        }
    }

    #[test]
    fn packets_of_other_types_are_passed_over_once_the_described_one_is_there() {
        let mut follower = Follower::new(Expected {
            payload_type: Some(96),
            ..Expected::default()
        });
        let mut takes = |sequence, kind: u8| {
            let mut bytes = packet(1, sequence, 0).to_vec();
            bytes[1] = kind;
            taken(&mut follower, &bytes.into()).is_some()
        };
        assert!(takes(1, 97) && takes(2, 96) && !takes(3, 97) && takes(4, 96));
    }
}
