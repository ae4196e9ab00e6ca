//! [`Timeline`]: a camera's timestamps on the hub's clock.

use std::time::Duration;

use super::{MediaTime, time::ticks};

/// Places a camera's timestamps on the hub's clock, without end, without jumps, and always forward.
///
/// The first timestamp is placed at its arrival; later ones keep their distance from it. Where a camera's
/// clock jumps or stands still, time goes on as it passes here. A clock that is fast or slow is corrected
/// little by little.
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
    /// The latest place that was given, and the arrival of what got it.
    last: i64,
    arrived: i64,
    /// Timestamps in a row that were no later than the latest.
    backward: u32,
    drift: Drift,
}

/// The least step of time between what belongs to different clocks.
const STEP: Duration = Duration::from_millis(20);
/// The step to what should have come before.
const TINY_STEP: Duration = Duration::from_millis(1);
/// How far one timestamp may go back without a word on the clock.
const BACK_MAX: Duration = Duration::from_secs(1);
/// How far a camera's clock may run ahead of what has come quickest until now.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// How far it may stray from the arrival of its packets before it is placed anew.
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

    /// The place of the camera's `ticks`, unwrapped to 64 bits, of a picture or block of sound that came
    /// `arrival` after the hub's start. Later than every place before.
    pub fn place(&mut self, ticks_in: i64, arrival: Duration) -> MediaTime {
        let rate = self.rate;
        let in_ticks = |time| ticks(time, rate);
        let now = in_ticks(arrival);
        let Some(anchor) = &mut self.anchor else {
            let begin = if self.floor.is_zero() {
                now
            } else {
                now.max(in_ticks(self.floor + STEP))
            };
            self.anchor = Some(Anchor {
                offset: begin.saturating_sub(ticks_in),
                last: begin,
                arrived: now,
                backward: 0,
                drift: Drift::new(now, rate),
            });
            return MediaTime(begin);
        };
        let placed = anchor.offset.saturating_add(ticks_in);
        let step = placed.saturating_sub(anchor.last);
        let lead = placed.saturating_sub(now);
        if step > 0 {
            anchor.backward = 0;
        } else {
            anchor.backward += 1;
        }
        let jumped = lead.abs() > in_ticks(STRAY_MAX)
            || anchor.drift.ahead(lead) > in_ticks(AHEAD_MAX)
            || step < -in_ticks(BACK_MAX)
            || anchor.backward > 1;
        let place = if jumped {
            anchor.go_on(now, in_ticks(STEP), in_ticks(STRAY_MAX))
        } else {
            // A single one that is late is taken along.
            placed.max(anchor.last + in_ticks(TINY_STEP))
        };
        if jumped {
            anchor.offset = place.saturating_sub(ticks_in);
            anchor.drift.pause(now);
        } else {
            anchor.offset += anchor.drift.correction(step, lead, now);
        }
        (anchor.last, anchor.arrived) = (place, now);
        MediaTime(place)
    }
}

impl Anchor {
    /// The place for what comes `now`, from the last place alone: as far from it as their arrivals are.
    /// So pictures and sound stay as far apart as they were.
    fn go_on(&self, now: i64, step: i64, stray_max: i64) -> i64 {
        let place = self.last + (now - self.arrived).max(step);
        if place.abs_diff(now) < stray_max.unsigned_abs() {
            place
        } else {
            // Never behind what was sent: a receiver would drop it as late.
            now.max(self.last + step)
        }
    }
}

/// Follows how much faster or slower a camera's clock is than ours.
///
/// A packet is as late as the network makes it, and never early. So of each two seconds only the
/// quickest packet counts; when these come ever earlier or later, the clock is wrong, and is corrected by
/// at most a fiftieth, which nobody sees or hears.
#[derive(Debug, Clone, Copy)]
struct Drift {
    rate: u32,
    /// The lead of the quickest packet at first, which is kept.
    aim: Option<i64>,
    /// The same of the time under way; its end; packets in it.
    best: i64,
    ends: i64,
    packets: u32,
    /// What is still to be corrected, in ticks.
    owed: i64,
}

/// The time of which the quickest packet counts.
const WINDOW: Duration = Duration::from_secs(2);
/// Packets without which a window says nothing.
const PACKETS_MIN: u32 = 8;
/// What the network explains.
const TOLERANCE: Duration = Duration::from_millis(10);
/// Of each step of time, the part that may be corrected.
const SHARE: i64 = 50;

impl Drift {
    fn new(now: i64, rate: u32) -> Self {
        Self {
            rate,
            aim: None,
            best: i64::MIN,
            ends: now + ticks(WINDOW, rate),
            packets: 0,
            owed: 0,
        }
    }

    /// How much quicker than the quickest a packet is, if that is known.
    fn ahead(&self, lead: i64) -> i64 {
        self.aim.map_or(0, |aim| lead.saturating_sub(aim))
    }

    /// What was seen of this window is of no use. The aim stays: the place of what follows was chosen to
    /// keep it.
    fn pause(&mut self, now: i64) {
        self.owed = 0;
        self.best = i64::MIN;
        self.packets = 0;
        self.ends = now + ticks(WINDOW, self.rate);
    }

    /// What to add to the offset after a packet with this `lead`, `step` after the one before.
    fn correction(&mut self, step: i64, lead: i64, now: i64) -> i64 {
        self.best = self.best.max(lead);
        self.packets += 1;
        if now >= self.ends && self.packets >= PACKETS_MIN {
            let best = self.best;
            let error = best - *self.aim.get_or_insert(best);
            self.pause(now);
            if error.abs() > ticks(TOLERANCE, self.rate) {
                self.owed = -error;
            }
        }
        let most = step.max(0) / SHARE;
        let correction = self.owed.clamp(-most, most);
        self.owed -= correction;
        correction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FRAME: Duration = Duration::from_millis(40);

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
        assert_eq!(line.place(7_200 - 90_000 * 3, SECOND * 4).0, 363_600);
    }

    /// Pictures of 25 per second for `seconds`, whose stamps `stamp` makes of their number, and that come
    /// up to 5 ms late: the leads of their places over the times at which they were taken, in ticks.
    fn leads(line: &mut Timeline, from: u32, seconds: u32, stamp: impl Fn(i64) -> i64) -> Vec<i64> {
        let numbers = (from..).take(usize::try_from(seconds * 25).unwrap());
        let mut last = None;
        numbers
            .map(|number| {
                let taken = FRAME * number;
                let late = Duration::from_millis(u64::from(number * 7 % 6));
                let place = line.place(stamp(i64::from(number)), taken + late).0;
                assert!(last.is_none_or(|last| last < place), "{number}");
                last = Some(place);
                place - ticks(taken, 90_000)
            })
            .collect()
    }

    const MILLI: i64 = 90;

    #[test]
    fn a_clock_that_is_one_percent_off_is_followed_without_a_jump() {
        for rate in [3_636, 3_564] {
            let mut line = Timeline::new(90_000, Duration::ZERO);
            let leads = leads(&mut line, 0, 600, |number| number * rate);
            assert!(leads.iter().all(|lead| lead.abs() < 65 * MILLI));
            let steps = leads.windows(2).map(|pair| (pair[1] - pair[0]).abs());
            assert!(steps.max().unwrap() <= 3_600 * 4 / 100);
        }
    }

    #[test]
    fn a_clock_that_is_right_is_not_touched() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        let leads = leads(&mut line, 0, 600, |number| number * 3_600);
        assert!(leads.iter().all(|lead| *lead == leads[0]));
    }

    #[test]
    fn after_a_jump_pictures_are_where_they_were_to_within_the_network() {
        let hour = 90_000 * 3_600;
        for jump in [hour, -hour, 5 * 90_000, -5 * 90_000, -45_000, 100_000] {
            let mut line = Timeline::new(90_000, Duration::ZERO);
            let before = leads(&mut line, 0, 10, |number| number * 3_600);
            let after = leads(&mut line, 250, 10, |number| number * 3_600 + jump);
            let moved = (after[249] - before[249]).abs();
            assert!(moved <= 50 * MILLI, "{jump}: {moved}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_goes_by_arrival() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        let leads = leads(&mut line, 0, 60, |_| 77);
        assert!(leads.iter().skip(2).all(|lead| lead.abs() < 65 * MILLI));
    }

    #[test]
    fn a_single_stamp_that_is_late_moves_nothing() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        let places: Vec<_> = [0, 3_600, 10_800, 7_200, 14_400]
            .iter()
            .zip(0..)
            .map(|(stamp, number)| line.place(*stamp, FRAME * number).0)
            .collect();
        assert_eq!(places, [0, 3_600, 10_800, 10_890, 14_400]);
    }

    #[test]
    fn a_network_that_stands_still_for_seconds_does_not_move_the_clock() {
        let mut line = Timeline::new(90_000, Duration::ZERO);
        leads(&mut line, 0, 10, |number| number * 3_600);
        let late = SECOND * 13;
        for number in 250..325_u32 {
            let place = line.place(i64::from(number) * 3_600, late).0;
            assert_eq!(place, i64::from(number) * 3_600);
        }
        let after = leads(&mut line, 325, 10, |number| number * 3_600);
        assert!(after.iter().all(|lead| lead.abs() < 5 * MILLI));
    }
}
