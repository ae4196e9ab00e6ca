//! Media clocks: [`MediaTime`], [`Timeline`] and [`SyncClock`].

use std::time::Duration;

/// A point on one track's media clock, in ticks of its clock rate, counted from the hub's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// The low 32 bits, as RTP carries them.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "RTP time wraps"
    )]
    pub fn rtp(self) -> u32 {
        self.0 as u32
    }

    /// The time that is `elapsed` after the hub's start, on a clock of `rate` ticks per second.
    #[must_use]
    pub fn at(elapsed: Duration, rate: u32) -> Self {
        Self(ticks(elapsed, rate))
    }

    /// The time since the hub's start, for a clock of `rate` ticks per second; 0 before it.
    #[must_use]
    pub fn elapsed(self, rate: u32) -> Duration {
        let nanos = i128::from(self.0.max(0)) * 1_000_000_000 / i128::from(rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Ticks of a clock of `rate` ticks per second in `time`.
fn ticks(time: Duration, rate: u32) -> i64 {
    i64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Places a camera's timestamps on the hub's clock, without end and without jumps.
///
/// The first timestamp is placed at its arrival; later ones keep their distance from it. A camera
/// whose clock jumps is placed anew at arrival, so that a viewer sees time go on.
#[derive(Debug)]
pub struct Timeline {
    rate: u32,
    floor: Duration,
    anchor: Option<Anchor>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    /// Added to the camera's ticks to give ours.
    offset: i64,
    last: MediaTime,
}

/// The least step of time between what belongs to different clocks.
const STEP: Duration = Duration::from_millis(20);
/// How far time may go back from one packet to the next.
const BACK_MAX: Duration = Duration::from_secs(1);
/// How far a camera's clock may stray from the arrival of its packets before it is placed anew.
const STRAY_MAX: Duration = Duration::from_secs(10);

impl Timeline {
    /// A timeline for a clock of `rate` ticks per second that begins after `floor`: an earlier
    /// connection may have been ahead of arrival, and time must not go back for its viewers.
    #[must_use]
    pub fn new(rate: u32, floor: Duration) -> Self {
        Self {
            rate,
            floor,
            anchor: None,
        }
    }

    /// Where the camera's `ticks` are, without moving anything; none before the first packet.
    #[must_use]
    pub fn at(&self, ticks_in: i64) -> Option<MediaTime> {
        let anchor = self.anchor?;
        Some(MediaTime(anchor.offset.saturating_add(ticks_in)))
    }

    /// The place of the camera's `ticks`, unwrapped to 64 bits, of a packet that came `arrival`
    /// after the hub's start.
    pub fn place(&mut self, ticks_in: i64, arrival: Duration) -> MediaTime {
        let earliest = match self.anchor {
            None if !self.floor.is_zero() => self.floor + STEP,
            _ => Duration::ZERO,
        };
        let now = ticks(arrival.max(earliest), self.rate);
        let anchor = self.anchor.get_or_insert(Anchor {
            offset: now.saturating_sub(ticks_in),
            last: MediaTime(now),
        });
        let mut placed = anchor.offset.saturating_add(ticks_in);
        let stray = placed.abs_diff(now) > ticks(STRAY_MAX, self.rate).unsigned_abs();
        // More than pictures that are sent in another order than shown go back.
        let back = placed < anchor.last.0.saturating_sub(ticks(BACK_MAX, self.rate));
        if stray || back {
            // Never behind what was sent: a receiver would drop it as late.
            placed = now.max(anchor.last.0 + ticks(STEP, self.rate));
            anchor.offset = placed.saturating_sub(ticks_in);
        }
        anchor.last = MediaTime(placed.max(anchor.last.0));
        MediaTime(placed)
    }
}

/// How much a camera's report may differ from what its last one promised, in nanoseconds.
const CLOCK_STEP_MAX: i128 = 1_000_000_000;

/// Brings the tracks of one source to one capture clock, by the camera's sender reports
/// ([RFC 3550 §6.4.1]).
///
/// Until every track has a report, arrival decides, which is right to within a network's delay.
///
/// [RFC 3550 §6.4.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.4.1
#[derive(Debug)]
pub struct SyncClock {
    tracks: Vec<Option<Report>>,
    /// Camera time that corresponds to the hub's start, in nanoseconds; set once all have reports.
    base: Option<i128>,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    rate: u32,
    time: MediaTime,
    /// Camera wall time of `time`, in nanoseconds.
    wall: i128,
}

impl Report {
    fn wall_at(&self, time: MediaTime) -> i128 {
        let ticks = i128::from(time.0) - i128::from(self.time.0);
        self.wall + ticks * 1_000_000_000 / i128::from(self.rate)
    }
}

impl SyncClock {
    /// A clock for `tracks` tracks that all send reports.
    #[must_use]
    pub fn new(tracks: usize) -> Self {
        Self {
            tracks: vec![None; tracks],
            base: None,
        }
    }

    /// Takes a sender report: on track number `track`, `time` is `ntp` (32.32 fixed point seconds)
    /// on the camera's wall clock.
    pub fn report(&mut self, track: usize, rate: u32, time: MediaTime, ntp: u64) {
        // RFC 3550 §6.4.1: a sender that has no clock says zero.
        if ntp == 0 {
            return;
        }
        let wall = (i128::from(ntp) * 1_000_000_000) >> 32;
        let expected = self.tracks.get(track).copied().flatten();
        if expected.is_some_and(|last| (last.wall_at(time) - wall).abs() > CLOCK_STEP_MAX) {
            // The camera's clock was set: what was said before is of no use.
            self.tracks.fill(None);
            self.base = None;
        }
        if let Some(slot) = self.tracks.get_mut(track) {
            *slot = Some(Report { rate, time, wall });
        }
        if self.base.is_none()
            && let Some(Some(first)) = self.tracks.first()
            && self.tracks.iter().all(Option::is_some)
        {
            // The first track stays where arrival has put it; the others move towards it.
            let elapsed = i128::try_from(first.time.elapsed(first.rate).as_nanos());
            self.base = Some(first.wall - elapsed.unwrap_or(0));
        }
    }

    /// When a frame of track number `track` at `time` was captured, since the hub's start.
    #[must_use]
    pub fn captured(&self, track: usize, rate: u32, time: MediaTime) -> Duration {
        let by_arrival = time.elapsed(rate);
        let (Some(base), Some(Some(report))) = (self.base, self.tracks.get(track)) else {
            return by_arrival;
        };
        let since = report.wall_at(time) - base;
        let by_camera = Duration::from_nanos(u64::try_from(since).unwrap_or(0));
        // Some cameras set their wall clock once a second sender report is out. A difference that
        // no network explains is a wrong report.
        if by_camera.abs_diff(by_arrival) > STRAY_MAX {
            return by_arrival;
        }
        by_camera
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn distances_are_kept_and_the_start_is_arrival() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        let first = line.place(1_000_000, SECOND * 3);
        let second = line.place(1_003_600, SECOND * 3 + Duration::from_millis(77));
        assert_eq!((first.0, second.0 - first.0), (270_000, 3_600));
    }

    #[test]
    fn a_new_connection_begins_after_what_viewers_have_seen() {
        let mut line = Timeline::new(8_000, SECOND * 3);
        assert_eq!(line.place(77, SECOND * 2).0, 3 * 8_000 + 160);
        assert_eq!(line.place(237, SECOND * 2).0, 3 * 8_000 + 320);
        assert_eq!(Timeline::new(8_000, SECOND).place(5, SECOND * 2).0, 16_000);
    }

    #[test]
    fn a_clock_that_jumps_an_hour_is_placed_anew() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        line.place(0, SECOND);
        let jumped = line.place(90_000 * 3_600, SECOND * 2);
        assert_eq!(jumped.0, 180_000);
        let back = line.place(3_600, SECOND * 3);
        assert_eq!(back.0, 270_000);
        let little_back = line.place(3_600 - 90_000 * 3, SECOND * 4);
        assert_eq!(little_back.0, 360_000);
        assert_eq!(
            line.place(0, SECOND * 4).0 - little_back.0,
            90_000 * 3 - 3_600
        );
    }

    #[test]
    fn reports_move_sound_to_the_picture_it_belongs_to() {
        // The sound arrived 300 ms late: by its reports it was captured with the picture.
        let mut clock = SyncClock::new(2);
        let ntp = |millis: u64| ((3_900_000_000_000_u64 + millis) / 1000) << 32;
        let (video, audio) = (MediaTime(90_000), MediaTime(8_000 + 2_400));
        assert_eq!(
            clock.captured(1, 8_000, audio),
            Duration::from_millis(1_300)
        );
        clock.report(0, 90_000, video, ntp(0));
        clock.report(1, 8_000, audio, ntp(0));
        assert_eq!(clock.captured(0, 90_000, video), SECOND);
        assert_eq!(clock.captured(1, 8_000, audio), SECOND);
        // The camera's clock is set an hour later: arrival decides until both have told of it.
        let later = MediaTime(180_000);
        clock.report(0, 90_000, later, ntp(3_600_000));
        assert_eq!(
            clock.captured(1, 8_000, audio),
            Duration::from_millis(1_300)
        );
        clock.report(1, 8_000, MediaTime(16_000 + 2_400), ntp(3_600_000));
        assert_eq!(clock.captured(1, 8_000, MediaTime(18_400)), SECOND * 2);
    }
}
