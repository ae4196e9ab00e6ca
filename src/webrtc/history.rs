//! [`History`]: the last packets of one track, to be sent again, and the pictures since the last key
//! frame, for those who come later or have lost their place. One for all viewers of a [`Fan`].
//!
//! [`Fan`]: super::fan

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::media::{Frame, MediaTime, TrackId};

/// How long packets are kept that are not needed for decoding any more: a viewer asks again after a
/// round trip, and a few times more if that is lost too.
const KEPT: Duration = Duration::from_secs(1);
/// What is kept at most, whatever the camera sends.
const BYTES_MAX: usize = 12 << 20;
/// More pictures since the last key frame are not replayed: a browser must decode all of them before
/// it shows the live one, and would rather wait.
const PICTURES_MAX: u64 = 300;
/// And no more bytes: ten seconds of a camera with 6 Mbit/s are 7.5 MB.
const REPLAY_MAX: usize = 8 << 20;

/// A part of a picture, or a block of sound, and its place in the track.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The payloads.
    pub frame: Arc<Frame>,
    /// Number of its first payload among all of the track.
    pub first: u64,
    /// Number of its picture among all of the track.
    pub picture: u64,
}

impl Entry {
    /// One past the number of its last payload.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.frame.payloads.len() as u64
    }
}

/// One packet as it was cut, before any viewer's header.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The part of a picture it belongs to.
    pub entry: &'a Entry,
    /// What it carries.
    pub payload: &'a Bytes,
    /// Whether it is the last of its picture.
    pub ends: bool,
}

/// The last packets of one track.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    end: u64,
    pictures: u64,
    /// Number of the first packet of the last key frame after which nothing is missing, and its
    /// picture's.
    key: Option<(u64, u64)>,
    bytes_since_key: usize,
}

impl History {
    /// Takes the next frame of the track, and gives its entry.
    pub fn push(&mut self, frame: &Arc<Frame>) -> Entry {
        if frame.part.first {
            self.pictures += 1;
        }
        if frame.random_access {
            self.key = Some((self.end, self.pictures));
            self.bytes_since_key = 0;
        }
        self.bytes_since_key += frame.len();
        // Pictures that are shown in another order than sent cannot be squeezed in time.
        let backwards = frame.part.first
            && self
                .entries
                .back()
                .is_some_and(|last| last.frame.time >= frame.time);
        let too_much = self.bytes_since_key > REPLAY_MAX
            || self
                .key
                .is_some_and(|(_, key)| self.pictures - key >= PICTURES_MAX);
        if backwards || too_much {
            self.key = None;
        }
        self.bytes += frame.len();
        let entry = Entry {
            frame: Arc::clone(frame),
            first: self.end,
            picture: self.pictures,
        };
        self.end = entry.end();
        self.entries.push_back(entry.clone());
        self.forget();
        entry
    }

    fn forget(&mut self) {
        let Some(last) = self.entries.back() else {
            return;
        };
        let rate = last.frame.codec.clock_rate();
        let now = last.frame.time.elapsed(rate);
        while let Some(oldest) = self.entries.front() {
            let needed = self.key.is_some_and(|(key, _)| oldest.end() > key);
            let young = oldest.frame.time.elapsed(rate) + KEPT >= now;
            if (needed || young) && self.bytes <= BYTES_MAX || self.entries.len() == 1 {
                return;
            }
            self.bytes -= oldest.frame.len();
            if needed {
                self.key = None;
            }
            self.entries.pop_front();
        }
    }

    /// Frames are missing: nothing before the next key frame can be decoded.
    pub fn interrupt(&mut self) {
        self.key = None;
    }

    /// One past the number of the last packet.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The last part that was pushed.
    #[must_use]
    pub fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// The packet from which a decoder can begin and reach the live picture, and the number of its
    /// picture.
    #[must_use]
    pub fn key(&self) -> Option<(u64, u64)> {
        self.key
    }

    /// Bytes since the last key frame.
    #[must_use]
    pub fn bytes_since_key(&self) -> usize {
        self.bytes_since_key
    }

    /// Bytes of all packets that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bits per second of what is kept; infinite for less than half a second of it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the bytes kept are bounded")]
    pub fn bitrate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else {
            return f64::INFINITY;
        };
        let rate = last.frame.codec.clock_rate();
        let span = last
            .frame
            .time
            .elapsed(rate)
            .saturating_sub(first.frame.time.elapsed(rate));
        if span < Duration::from_millis(500) {
            return f64::INFINITY;
        }
        self.bytes as f64 * 8.0 / span.as_secs_f64()
    }

    /// Packet number `number`, if it is still there.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Packet<'_>> {
        let entry = self.entry_of(number)?;
        let place = usize::try_from(number - entry.first).ok()?;
        let payload = entry.frame.payloads.get(place)?;
        Some(Packet {
            entry,
            payload,
            ends: entry.frame.part.last && place + 1 == entry.frame.payloads.len(),
        })
    }

    /// The entry in which packet number `number` is.
    #[must_use]
    pub fn entry_of(&self, number: u64) -> Option<&Entry> {
        // What is live is at the end.
        if let Some(last) = self.entries.back()
            && number >= last.first
        {
            return (number < last.end()).then_some(last);
        }
        let after = self.entries.partition_point(|entry| entry.first <= number);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (number < entry.end()).then_some(entry)
    }

    /// When the last frame is shown.
    #[must_use]
    pub fn live_time(&self) -> Option<MediaTime> {
        Some(self.last()?.frame.time)
    }
}

/// The histories of all tracks of a source.
#[derive(Debug, Default)]
pub struct Histories {
    tracks: Vec<(TrackId, History)>,
}

impl Histories {
    /// That of `track`, if it has sent anything.
    #[must_use]
    pub fn of(&self, track: TrackId) -> Option<&History> {
        self.tracks
            .iter()
            .find(|(id, _)| *id == track)
            .map(|(_, history)| history)
    }

    /// That of `track`, made if need be.
    pub fn entry(&mut self, track: TrackId) -> &mut History {
        let place = self.tracks.iter().position(|(id, _)| *id == track);
        let place = place.unwrap_or_else(|| {
            self.tracks.push((track, History::default()));
            self.tracks.len() - 1
        });
        &mut self.tracks[place].1
    }

    /// Frames of all tracks are missing.
    pub fn interrupt(&mut self) {
        for (_, history) in &mut self.tracks {
            history.interrupt();
        }
    }

    /// Bytes of all packets that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tracks.iter().map(|(_, history)| history.bytes()).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::media::{Codec, Part};

    /// Part of a picture at `time` ms with payloads of these sizes.
    pub(crate) fn part(time: i64, key: bool, part: Part, sizes: &[usize]) -> Arc<Frame> {
        Arc::new(Frame {
            track: TrackId(0),
            codec: Codec::H264(None),
            time: MediaTime(time * 90),
            captured: Duration::ZERO,
            random_access: key,
            part,
            payloads: sizes.iter().map(|size| vec![7; *size].into()).collect(),
        })
    }

    pub(crate) fn picture(time: i64, key: bool, sizes: &[usize]) -> Arc<Frame> {
        part(time, key, Part::WHOLE, sizes)
    }

    #[test]
    fn packets_are_found_by_number_and_know_the_end_of_their_picture() {
        let mut history = History::default();
        history.push(&picture(0, true, &[10, 11]));
        let (first, last) = (
            Part {
                first: true,
                last: false,
            },
            Part {
                first: false,
                last: true,
            },
        );
        history.push(&part(40, false, first, &[12, 13]));
        history.push(&part(40, false, last, &[14]));
        let seen: Vec<_> = (0..6)
            .map_while(|n| history.get(n))
            .map(|p| (p.payload.len(), p.ends, p.entry.picture))
            .collect();
        assert_eq!(
            seen,
            [
                (10, false, 1),
                (11, true, 1),
                (12, false, 2),
                (13, false, 2),
                (14, true, 2)
            ]
        );
        assert_eq!((history.key(), history.end()), (Some((0, 1)), 5));
    }

    #[test]
    fn old_packets_go_and_those_since_the_key_frame_stay() {
        let mut history = History::default();
        for n in 0..400 {
            history.push(&picture(n * 40, n == 0 || n == 99, &[100]));
        }
        // 300 pictures since the key frame are too many.
        assert_eq!(history.key(), None);
        assert!(history.get(370).is_none() && history.get(399).is_some());
        history.push(&picture(400 * 40, true, &[100]));
        for n in 401..600 {
            history.push(&picture(n * 40, false, &[100]));
        }
        assert_eq!(history.key(), Some((400, 401)));
        assert!(history.get(400).is_some() && history.get(399).is_none());
        history.interrupt();
        history.push(&picture(24_000, false, &[100]));
        assert!(history.key().is_none() && history.get(400).is_none());
    }

    #[test]
    fn bytes_are_bounded_even_within_a_group() {
        let mut history = History::default();
        for n in 0..20 {
            history.push(&picture(n, n == 0, &[1 << 20]));
            assert!(history.bytes() <= BYTES_MAX);
        }
        assert_eq!(history.key(), None);
    }

    #[test]
    fn pictures_that_go_back_in_time_are_not_replayed() {
        let mut history = History::default();
        for (time, key) in [(0, true), (120, false), (40, false), (80, false)] {
            history.push(&picture(time, key, &[1]));
        }
        assert_eq!(history.key(), None);
    }
}
