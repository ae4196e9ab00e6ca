//! Media clocks: [`MediaTime`] and [`SyncClock`]; [`Timeline`](super::Timeline) is between them and a camera.

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
pub(super) fn ticks(time: Duration, rate: u32) -> i64 {
    i64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(i64::MAX)
}

/// A difference between report and arrival that no network explains.
const STRAY_MAX: Duration = Duration::from_secs(10);
/// How much a camera's report may differ from what its last one promised, in nanoseconds.
const CLOCK_STEP_MAX: i128 = 1_000_000_000;

/// Of what the camera's clock has strayed, the part that is made up for at each report.
const BASE_SHARE: i128 = 4;

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
        let Some(Some(first)) = self.tracks.first() else {
            return;
        };
        // The first track stays where arrival has put it; the others move towards it.
        let elapsed = i128::try_from(first.time.elapsed(first.rate).as_nanos());
        let found = first.wall - elapsed.unwrap_or(0);
        match &mut self.base {
            // The camera's clock is a little fast or slow, which adds up to seconds in days.
            Some(base) if track == 0 => *base += (found - *base) / BASE_SHARE,
            None if self.tracks.iter().all(Option::is_some) => self.base = Some(found),
            _ => {}
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
    #[test]
    fn a_clock_that_is_fast_for_days_does_not_move_sound_from_its_picture() {
        let mut clock = SyncClock::new(2);
        let ntp = |millis: u64| ((3_900_000_000_000_u64 + millis) << 32) / 1000;
        // 100 ppm: each ten seconds of ours are one millisecond longer to the camera. The sound comes
        // 300 ms late.
        for report in 1..40_000 {
            let (video, audio) = (
                MediaTime(900_000 * report),
                MediaTime(80_000 * report + 2_400),
            );
            let wall = ntp(10_001 * u64::try_from(report).unwrap());
            clock.report(0, 90_000, video, wall);
            clock.report(1, 8_000, audio, wall);
            let apart = clock
                .captured(0, 90_000, video)
                .abs_diff(clock.captured(1, 8_000, audio));
            assert!(apart < Duration::from_millis(5), "{report}: {apart:?}");
        }
    }
}
