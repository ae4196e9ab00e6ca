//! [`Lane`]: one track of one viewer: numbers, stamps and counts its packets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    media::{Codec, Frame, Kind, MediaTime, TrackId},
    webrtc::{gate::Gate, negotiate::Sending},
};

/// How often a sender report is sent. RFC 3550 §6.2 suggests 5 s; browsers bring sound and picture
/// together with the first one, so it should not be long in coming.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a packet's RTP header says, except for the constant parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Counts up by one for each packet of the lane, whatever the gate held back: a gap would make
    /// the browser ask for packets that never were.
    pub sequence: u16,
    /// RTP time.
    pub timestamp: u32,
    /// Set on the last packet of a picture.
    pub marker: bool,
}

/// A sender report's contents ([RFC 3550 §6.4.1]).
///
/// [RFC 3550 §6.4.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.4.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Wall time of the frame, 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    /// RTP time of the same frame.
    pub timestamp: u32,
    /// Packets sent until now.
    pub packets: u32,
    /// Payload bytes sent until now.
    pub octets: u32,
}

/// The state of one track towards one viewer.
#[derive(Debug)]
pub struct Lane {
    /// Which track of the camera.
    pub track: TrackId,
    /// How it is coded, as it was negotiated.
    pub codec: Codec,
    /// Identifies the stream to the browser.
    pub ssrc: u32,
    /// The negotiated payload type.
    pub payload_type: u8,
    /// May the next frame pass?
    pub gate: Gate,
    sequence: u16,
    offset: u32,
    packets: u64,
    octets: u64,
    reported: Option<Duration>,
}

impl Lane {
    /// A lane for what was negotiated, with random identifier and offsets ([RFC 3550 §5.1]).
    ///
    /// [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1
    #[must_use]
    pub fn new(sending: &Sending) -> Self {
        Self {
            track: sending.track.id,
            codec: sending.track.codec,
            ssrc: rand::random::<u32>().max(1),
            payload_type: sending.payload_type,
            gate: Gate::default(),
            // Half of the space, so that SRTP's rollover counter starts unambiguously.
            sequence: rand::random::<u16>() >> 1,
            offset: rand::random(),
            packets: 0,
            octets: 0,
            reported: None,
        }
    }

    /// The header for the next payload of a frame that is to be shown at `time`; `last` ends it.
    pub fn header(&mut self, time: MediaTime, payload: usize, last: bool) -> Header {
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += payload as u64;
        Header {
            sequence: self.sequence,
            timestamp: self.timestamp(time),
            marker: last && self.codec.kind() == Kind::Video,
        }
    }

    fn timestamp(&self, time: MediaTime) -> u32 {
        time.rtp().wrapping_add(self.offset)
    }

    /// A sender report that belongs with `frame`, if it is time for one. `hub_start` is the wall
    /// time at which the hub's clock began.
    pub fn report(&mut self, frame: &Frame, hub_start: SystemTime) -> Option<Report> {
        let due = self
            .reported
            .is_none_or(|last| frame.captured >= last + REPORT_INTERVAL || frame.captured < last);
        if !due {
            return None;
        }
        self.reported = Some(frame.captured);
        Some(Report {
            ntp: ntp(hub_start + frame.captured),
            timestamp: self.timestamp(frame.time),
            packets: low_word(self.packets),
            octets: low_word(self.octets),
        })
    }

    /// Packets and payload bytes sent until now.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        (self.packets, self.octets)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "RTCP counters wrap")]
fn low_word(count: u64) -> u32 {
    count as u32
}

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + NTP_EPOCH) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Track;

    fn lane(codec: Codec) -> Lane {
        Lane::new(&Sending {
            track: Track {
                id: TrackId(0),
                codec,
            },
            payload_type: 98,
            rtpmap: String::new(),
            fmtp: String::new(),
            feedback: Vec::new(),
        })
    }

    fn frame(millis: u64) -> Frame {
        let captured = Duration::from_millis(millis);
        Frame {
            track: TrackId(0),
            codec: Codec::H264(None),
            time: MediaTime::at(captured, 90_000),
            captured,
            random_access: true,
            payloads: Box::new([]),
        }
    }

    #[test]
    fn numbers_have_no_gaps_and_times_keep_their_distance() {
        let mut lane = lane(Codec::H264(None));
        let first = lane.header(frame(0).time, 100, false);
        let second = lane.header(frame(0).time, 100, true);
        let third = lane.header(frame(40).time, 100, true);
        assert_eq!(second.sequence, first.sequence + 1);
        assert_eq!(third.sequence, first.sequence + 2);
        assert_eq!(third.timestamp.wrapping_sub(first.timestamp), 3_600);
        assert_eq!((first.marker, second.marker), (false, true));
        assert_eq!(lane.sent(), (3, 300));
    }

    #[test]
    fn reports_of_two_lanes_agree_on_the_time_of_capture() {
        let (mut video, mut audio) = (lane(Codec::H264(None)), lane(Codec::Pcmu));
        let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let a = video.report(&frame(500), start).unwrap();
        let b = audio.report(&frame(500), start).unwrap();
        assert_eq!(a.ntp, b.ntp);
        assert_eq!(a.ntp >> 32, 1_700_000_000 + NTP_EPOCH);
        assert!(video.report(&frame(1_499), start).is_none());
        assert!(video.report(&frame(1_500), start).is_some());
    }
}
