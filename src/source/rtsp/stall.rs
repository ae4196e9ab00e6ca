//! Whether the media of a camera goes on: [`Pulse`] of each track, [`Health`] of all, [`Lapses`] from one
//! connection to the next.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use crate::media::Kind;

/// Silence after which a track has stopped.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The same for pictures that come at least this often.
const QUICK_SILENCE_MAX: Duration = Duration::from_secs(5);
const QUICK: Duration = Duration::from_millis(200);
/// Pictures after which it is known how often they come.
const KNOWN: u32 = 25;
/// Pictures that come seldom: silence of so many times their distance, but no more than a minute.
const SLOW_FACTOR: u32 = 3;
const SLOW_MAX: Duration = Duration::from_mins(1);
/// Silence after the camera has said goodbye, for those that say it and go on.
const ENDED_MAX: Duration = Duration::from_secs(1);

/// Whether one track goes on. All times are of one clock.
///
/// A track beats with each new time that its media has; packets that stand still in time are none.
#[derive(Debug)]
pub(super) struct Pulse {
    kind: Kind,
    last: Option<Duration>,
    /// The first beat since the track last stood still.
    since: Duration,
    beats: u32,
    /// Mean distance of beats.
    distance: Duration,
    mood: Mood,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Lively,
    /// The camera has said that nothing is to be heard for a while.
    Resting,
    /// It has said goodbye.
    Ended,
    /// Nobody waits for it any more.
    GivenUp,
}

impl Pulse {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            last: None,
            since: Duration::ZERO,
            beats: 0,
            distance: Duration::ZERO,
            mood: Mood::Lively,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its media has a new time; whether nobody waited for it any more.
    pub(super) fn beat(&mut self, now: Duration) -> bool {
        match self.last.replace(now) {
            Some(last) if self.mood != Mood::GivenUp => {
                let distance = now.saturating_sub(last);
                // The mean of about the last eight.
                self.distance = if self.beats == 1 {
                    distance
                } else {
                    (self.distance * 7 + distance) / 8
                };
            }
            _ => self.since = now,
        }
        self.beats = self.beats.saturating_add(1);
        std::mem::replace(&mut self.mood, Mood::Lively) == Mood::GivenUp
    }

    /// The camera says that nothing is to be heard for a while; whether nobody waited for it any more.
    pub(super) fn rest(&mut self, now: Duration) -> bool {
        let is_back = self.beat(now);
        self.mood = Mood::Resting;
        is_back
    }

    /// The camera says goodbye.
    pub(super) fn end(&mut self) {
        if self.mood != Mood::GivenUp {
            self.mood = Mood::Ended;
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self) {
        self.mood = Mood::GivenUp;
    }

    /// Whether it goes on beyond doubt.
    fn is_felt(&self, now: Duration) -> bool {
        let recent = FELT.max(self.distance * SLOW_FACTOR);
        self.last
            .is_some_and(|last| now.saturating_sub(last) < recent)
    }

    /// When it will have stopped, if nothing comes before. Pictures must begin by `begin_by`; a camera
    /// whose microphone is off may describe sound and send none.
    fn due(&self, begin_by: Duration) -> Option<Duration> {
        let last = match (self.mood, self.last) {
            (Mood::GivenUp | Mood::Resting, _) => return None,
            (_, Some(last)) => last,
            (_, None) => return (self.kind == Kind::Video).then_some(begin_by),
        };
        let is_known = self.kind == Kind::Video && self.beats >= KNOWN;
        let limit = match self.mood {
            Mood::Ended => ENDED_MAX,
            _ if is_known && self.distance <= QUICK => QUICK_SILENCE_MAX,
            _ => (self.distance * SLOW_FACTOR).clamp(SILENCE_MAX, SLOW_MAX),
        };
        Some(last + limit)
    }
}

/// A track that has beaten since then goes on.
const FELT: Duration = Duration::from_secs(2);

/// How a camera's tracks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Everything goes on, or is not due yet; to be asked again then.
    Well(Duration),
    /// Nothing has come in time.
    NeverBegan,
    /// Nothing comes any more, since this long.
    Silent(Duration),
    /// The track of this kind has stopped, another goes on.
    Stopped(Kind),
}

impl Health {
    pub(super) fn of<'a>(
        pulses: &(impl Iterator<Item = &'a Pulse> + Clone),
        begin_by: Duration,
        now: Duration,
    ) -> Self {
        let Some(last) = pulses.clone().filter_map(|pulse| pulse.last).max() else {
            return if now < begin_by {
                Self::Well(begin_by)
            } else {
                Self::NeverBegan
            };
        };
        let dues = pulses.clone().map(|pulse| (pulse, pulse.due(begin_by)));
        let is_over = |due: Option<Duration>| due.is_some_and(|due| due <= now);
        let Some((over, _)) = dues.clone().find(|(_, due)| is_over(*due)) else {
            let next = dues.filter_map(|(_, due)| due).min();
            return Self::Well(next.unwrap_or(now + SLOW_MAX));
        };
        if dues
            .clone()
            .any(|(pulse, due)| !is_over(due) && pulse.is_felt(now))
        {
            Self::Stopped(over.kind)
        } else {
            Self::Silent(now.saturating_sub(last))
        }
    }
}

/// A track that goes on for so long is trusted again. Sound may pause because it is quiet, and that is not worth
/// an interrupted picture more than now and then.
const TRUSTED: Duration = Duration::from_mins(1);
const SOUND_TRUSTED: Duration = Duration::from_hours(1);

/// The kinds of tracks that have stopped while others went on, and for which the camera was connected to
/// anew: once each, since that interrupts the others.
#[derive(Debug, Default)]
pub(super) struct Lapses(AtomicU8);

impl Lapses {
    /// Notes that the track of `kind` has stopped; whether it is worth another connection.
    pub(super) fn note(&self, kind: Kind) -> bool {
        self.0.fetch_or(bit(kind), Ordering::Relaxed) & bit(kind) == 0
    }

    /// Forgets lapses of tracks that have gone on for long.
    pub(super) fn forgive<'a>(&self, pulses: impl Iterator<Item = &'a Pulse>, now: Duration) {
        for pulse in pulses {
            let is_sane = pulse.mood == Mood::Lively && pulse.last.is_some();
            let trusted = match pulse.kind {
                Kind::Video => TRUSTED,
                Kind::Audio => SOUND_TRUSTED,
            };
            if is_sane && now.saturating_sub(pulse.since) > trusted {
                self.0.fetch_and(!bit(pulse.kind), Ordering::Relaxed);
            }
        }
    }
}

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Video => 1,
        Kind::Audio => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const OPENED: Duration = ms(7_000);

    /// A track that beats from `first` to `last` every `step` milliseconds.
    fn track(kind: Kind, first: u64, last: u64, step: u64) -> Pulse {
        let mut pulse = Pulse::new(kind);
        let mut at = first;
        while at <= last {
            assert!(!pulse.beat(ms(at)));
            at += step;
        }
        pulse
    }

    fn health(pulses: &[&Pulse], at: u64) -> Health {
        Health::of(&pulses.iter().copied(), OPENED, ms(at))
    }

    #[test]
    fn the_first_packet_is_waited_for_until_the_opening_ends() {
        let (video, audio) = (Pulse::new(Kind::Video), Pulse::new(Kind::Audio));
        assert_eq!(health(&[&video, &audio], 6_999), Health::Well(OPENED));
        assert_eq!(health(&[&video, &audio], 7_000), Health::NeverBegan);
        // Sound that never begins is not missed; a picture is.
        let video = track(Kind::Video, 1_000, 8_000, 500);
        assert_eq!(health(&[&video, &audio], 17_999), Health::Well(ms(18_000)));
        let (video, audio) = (
            Pulse::new(Kind::Video),
            track(Kind::Audio, 1_000, 9_000, 20),
        );
        assert_eq!(health(&[&video, &audio], 6_000), Health::Well(OPENED));
        assert_eq!(
            health(&[&video, &audio], 7_000),
            Health::Stopped(Kind::Video)
        );
    }

    #[test]
    fn the_rate_of_pictures_tells_how_long_to_wait() {
        for (step, pictures, limit) in [
            (40, 20, 10_000),
            (40, 100, 5_000),
            (200, 100, 5_000),
            (250, 100, 10_000),
            (5_000, 100, 15_000),
            (50_000, 100, 60_000),
        ] {
            let last = 1_000 + step * (pictures - 1);
            let video = track(Kind::Video, 1_000, last, step);
            assert_eq!(
                health(&[&video], last + limit - 1),
                Health::Well(ms(last + limit))
            );
            let silent = Health::Silent(ms(limit));
            assert_eq!(health(&[&video], last + limit), silent, "{step}");
        }
    }

    #[test]
    fn a_track_that_stops_beside_another_is_told_from_silence() {
        let video = track(Kind::Video, 1_000, 60_000, 40);
        let audio = track(Kind::Audio, 1_000, 90_000, 20);
        let both = [&video, &audio];
        assert_eq!(health(&both, 64_999), Health::Well(ms(65_000)));
        assert_eq!(health(&both, 65_000), Health::Stopped(Kind::Video));
        assert_eq!(health(&both, 100_000), Health::Silent(ms(10_000)));
        // Both have stopped, of which one is known sooner.
        let audio = track(Kind::Audio, 1_000, 60_000, 20);
        assert_eq!(health(&[&video, &audio], 65_000), Health::Silent(ms(5_000)));
        let audio = track(Kind::Audio, 1_000, 30_000, 20);
        assert_eq!(
            health(&[&video, &audio], 40_000),
            Health::Stopped(Kind::Audio)
        );
    }

    #[test]
    fn one_that_is_given_up_is_not_asked_for_and_can_come_back() {
        let mut video = track(Kind::Video, 1_000, 30_000, 40);
        let audio = track(Kind::Audio, 1_000, 60_000, 20);
        video.give_up();
        assert_eq!(health(&[&video, &audio], 60_000), Health::Well(ms(70_000)));
        assert_eq!(
            health(&[&video, &audio], 70_000),
            Health::Silent(ms(10_000))
        );
        assert!(video.beat(ms(60_010)) && !video.beat(ms(60_050)));
        assert!(matches!(health(&[&video, &audio], 60_060), Health::Well(_)));
    }

    #[test]
    fn a_goodbye_counts_if_nothing_follows_and_a_rest_is_no_silence() {
        let mut video = track(Kind::Video, 1_000, 30_000, 40);
        video.end();
        assert_eq!(health(&[&video], 31_000), Health::Silent(ms(1_000)));
        video.beat(ms(30_040));
        assert!(matches!(health(&[&video], 31_050), Health::Well(_)));
        let mut audio = track(Kind::Audio, 1_000, 29_990, 20);
        audio.rest(ms(30_000));
        let video = track(Kind::Video, 1_000, 60_000, 40);
        assert!(matches!(health(&[&video, &audio], 60_000), Health::Well(_)));
    }

    #[test]
    fn a_lapse_is_worth_one_connection_until_it_is_forgiven() {
        let lapses = Lapses::default();
        assert!(lapses.note(Kind::Video) && !lapses.note(Kind::Video));
        assert!(lapses.note(Kind::Audio));
        let video = track(Kind::Video, 1_000, 50_000, 40);
        lapses.forgive([&video].into_iter(), ms(50_000));
        assert!(!lapses.note(Kind::Video));
        let video = track(Kind::Video, 1_000, 70_000, 40);
        lapses.forgive([&video].into_iter(), ms(70_000));
        assert!(lapses.note(Kind::Video) && !lapses.note(Kind::Audio));
    }
}
