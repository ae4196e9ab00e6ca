//! RTP header extensions ([RFC 8285]): which were agreed on, and what goes into them.
//!
//! [RFC 8285]: https://datatracker.ietf.org/doc/html/rfc8285

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// `a=extmap` of the time at which a packet was sent, from which a browser estimates what the path
/// takes.
pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
/// `a=extmap` of a number that counts all packets of the connection, which browsers report back on.
pub const TRANSPORT_SEQUENCE: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// `a=extmap` of how long a browser may and must hold pictures back.
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// `a=extmap` of how loud a packet of sound is ([RFC 6464]).
///
/// [RFC 6464]: https://datatracker.ietf.org/doc/html/rfc6464
pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// How long pictures may be held back. With no shortest time and at most this, browsers show each as
/// soon as it is there.
const DELAY_MAX: Duration = Duration::from_millis(500);

/// The identifiers of the extensions that go into every packet of a lane; 1 to 14 each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Extensions {
    /// [`ABS_SEND_TIME`].
    pub abs_send_time: Option<u8>,
    /// [`TRANSPORT_SEQUENCE`].
    pub transport_sequence: Option<u8>,
    /// [`PLAYOUT_DELAY`].
    pub playout_delay: Option<u8>,
}

/// What the extensions of the next packet say, and what became of those before.
#[derive(Debug, Default)]
pub struct Stamps {
    /// 6.18 fixed point seconds.
    abs_send_time: u32,
    transport_sequence: u16,
    /// How long pictures must be held back at least.
    delay: Duration,
    now: Option<Instant>,
    /// Packets numbered lately: number, time, size.
    log: VecDeque<(u16, Instant, u16)>,
}

/// Packets that may be unreported: more than a second of 8 Mbit/s.
const LOG_MAX: usize = 1024;

impl Stamps {
    /// What is written from now on is sent at `now`; `epoch` is any moment in the past.
    pub fn set(&mut self, now: Instant, epoch: Instant) {
        let micros = now.duration_since(epoch).as_micros();
        let fixed = (micros << 18) / 1_000_000;
        self.abs_send_time = u32::try_from(fixed & 0x00ff_ffff).unwrap_or(0);
        self.now = Some(now);
    }

    /// Pictures must be held back for `delay`, 4 s at most, so that lost packets come in time.
    pub fn hold_back(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// The contents of the extension: shortest and longest time in units of 10 ms, 12 bits each.
    fn playout_delay(&self) -> [u8; 3] {
        let units =
            |time: Duration| u32::try_from(time.as_millis() / 10).map_or(400, |n| n.min(400));
        let longest = self.delay.saturating_mul(2).max(DELAY_MAX);
        let [_, a, b, c] = (units(self.delay) << 12 | units(longest)).to_be_bytes();
        [a, b, c]
    }

    /// A packet of `size` bytes was written.
    pub fn sent(&mut self, extensions: Extensions, size: usize) {
        if extensions.transport_sequence.is_none() {
            return;
        }
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        if let Some(now) = self.now {
            let size = u16::try_from(size).unwrap_or(u16::MAX);
            self.log.push_back((self.transport_sequence, now, size));
        }
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
    }

    /// When packet `sequence` was sent and how large it was; forgets all before it.
    pub fn reported(&mut self, sequence: u16) -> Option<(Instant, u16)> {
        while let Some((number, when, size)) = self.log.front().copied() {
            let ahead = number.wrapping_sub(sequence);
            if ahead != 0 && ahead < 0x8000 {
                return None;
            }
            self.log.pop_front();
            if ahead == 0 {
                return Some((when, size));
            }
        }
        None
    }
}

impl Extensions {
    /// Whether packets have none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Appends the whole extension header, of the same size for every packet; nothing if there are
    /// no extensions.
    pub fn write(self, stamps: &Stamps, bytes: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 0]);
        let start = bytes.len();
        if let Some(id) = self.abs_send_time {
            let [_, a, b, c] = stamps.abs_send_time.to_be_bytes();
            bytes.extend_from_slice(&[id << 4 | 2, a, b, c]);
        }
        if let Some(id) = self.playout_delay {
            let [a, b, c] = stamps.playout_delay();
            bytes.extend_from_slice(&[id << 4 | 2, a, b, c]);
        }
        if let Some(id) = self.transport_sequence {
            let [a, b] = stamps.transport_sequence.to_be_bytes();
            bytes.extend_from_slice(&[id << 4 | 1, a, b, 0]);
        }
        // At most three words.
        bytes[start - 1] = u8::try_from((bytes.len() - start) / 4).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_whole_words_with_what_was_agreed_on() {
        let all = Extensions {
            abs_send_time: Some(2),
            transport_sequence: Some(3),
            playout_delay: Some(5),
        };
        let epoch = Instant::now();
        let mut stamps = Stamps::default();
        stamps.set(epoch + Duration::from_millis(500), epoch);
        stamps.sent(all, 1_000);
        let mut bytes = Vec::new();
        all.write(&stamps, &mut bytes);
        assert_eq!(
            bytes,
            [
                0xbe, 0xde, 0, 3, 0x22, 2, 0, 0, 0x52, 0, 0, 50, 0x31, 0, 1, 0
            ]
        );
        bytes.clear();
        stamps.hold_back(Duration::from_millis(320));
        all.write(&stamps, &mut bytes);
        assert_eq!(bytes[8..12], [0x52, 0x02, 0, 64]);
        bytes.clear();
        Extensions::default().write(&stamps, &mut bytes);
        assert!(bytes.is_empty());
    }

    #[test]
    fn reports_find_their_packets_once_and_over_the_wrap() {
        let now = Instant::now();
        let extensions = Extensions {
            transport_sequence: Some(3),
            ..Extensions::default()
        };
        let mut stamps = Stamps {
            transport_sequence: 0xfffe,
            ..Stamps::default()
        };
        stamps.set(now, now);
        for size in 1..=4 {
            stamps.sent(extensions, size);
        }
        assert_eq!(stamps.reported(0xfffd), None);
        assert_eq!(stamps.reported(0xffff), Some((now, 2)));
        assert_eq!(stamps.reported(0xfffe), None, "skipped");
        assert_eq!(stamps.reported(1), Some((now, 4)));
        assert_eq!(stamps.reported(2), None);
    }
}
