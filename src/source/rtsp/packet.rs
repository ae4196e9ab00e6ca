//! RTP packets of a camera ([RFC 3550 §5.1]): order, losses, time without wrap.
//!
//! [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1

use bytes::Bytes;

use crate::media::h264::Packet;

/// Follows the packets of one track.
#[derive(Debug, Default)]
pub(super) struct Follower {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The same without wrap.
    time: i64,
}

/// How far a packet may come late before it counts as a new beginning.
const LATE_MAX: u16 = 512;
/// Payload types of comfort noise, which some cameras mix into G.711 (RFC 3551 §4.5.2).
const COMFORT_NOISE: [u8; 2] = [13, 19];

impl Follower {
    /// Takes a packet as it arrived; none if it is late, doubled, or no RTP packet.
    ///
    /// A new source, and a jump backwards, count as a loss: what follows does not belong to what
    /// came before.
    pub(super) fn take(&mut self, packet: &Bytes) -> Option<Packet> {
        let header = Header::read(packet)?;
        if COMFORT_NOISE.contains(&header.payload_type) {
            return None;
        }
        let (time, lost) = match self.last {
            None => (i64::from(header.timestamp), 0),
            Some(last) => {
                let step = header.sequence.wrapping_sub(last.sequence);
                let behind = last.sequence.wrapping_sub(header.sequence);
                let same = last.ssrc == header.ssrc;
                if same && behind < LATE_MAX {
                    return None;
                }
                let lost = if same && step < 0x8000 { step - 1 } else { 1 };
                (last.unwrap(header.timestamp), lost)
            }
        };
        self.last = Some(Last {
            ssrc: header.ssrc,
            sequence: header.sequence,
            timestamp: header.timestamp,
            time,
        });
        Some(Packet {
            time,
            marker: header.marker,
            lost,
            payload: packet.slice(header.payload),
        })
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
            .map(|(ssrc, seq, time)| follower.take(&packet(*ssrc, *seq, *time)))
            .map(|taken| taken.map(|p| (p.time, p.lost)))
            .collect()
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
        let taken = Follower::default().take(&bytes.into()).unwrap();
        assert_eq!(&taken.payload[..], [42, 43]);
        assert!(taken.marker);
    }

    #[test]
    fn what_is_no_packet_is_passed_over() {
        for bytes in [&[][..], &[0x80; 11], &[0x00; 20], &[0x9f; 13], &[0xb0; 13]] {
            assert!(
                Follower::default()
                    .take(&Bytes::copy_from_slice(bytes))
                    .is_none()
            );
        }
        assert!(is_rtcp(&[0x80, 200]) && !is_rtcp(&packet(1, 1, 1)));
    }
}
