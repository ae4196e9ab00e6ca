//! [`Gop`]: the pictures since the last one from which decoding can begin; and that one for itself.

use std::sync::Arc;

use crate::media::{Frame, Kind};

/// What is kept at most: a group of pictures beyond it is not replayed, and a viewer waits for the
/// next key frame. Ten seconds of a camera with 6 Mbit/s are 7.5 MB.
const BYTES_MAX: usize = 8 << 20;
/// Larger key pictures are not kept for themselves, neither whole nor on their way.
const KEY_BYTES_MAX: usize = 4 << 20;
/// A browser must decode all of it before it shows the live picture: with more it would rather wait.
const PICTURES_MAX: usize = 300;

/// A group of pictures while it grows. Sound is not in it: it starts with the live edge.
#[derive(Debug, Default)]
pub(super) struct Gop {
    pictures: Vec<Arc<Frame>>,
    /// Whole pictures among them.
    count: usize,
    bytes: usize,
    key: Key,
}

/// The last picture from which decoding can begin. It outlives a group that cannot be replayed.
#[derive(Debug, Default)]
struct Key {
    /// All parts of the last one that is whole.
    whole: Vec<Arc<Frame>>,
    /// The parts until now of the one that is under way.
    arriving: Vec<Arc<Frame>>,
}

impl Key {
    fn push(&mut self, frame: &Arc<Frame>) {
        let begins = frame.part.first && frame.random_access;
        if frame.part.first {
            // Whatever was under way has lost its end.
            self.arriving.clear();
        }
        let bytes: usize = self.arriving.iter().map(|part| part.len()).sum();
        let is_wanted = begins || !self.arriving.is_empty();
        if is_wanted && bytes + frame.len() > KEY_BYTES_MAX {
            // Nor is the one before, which would only get older.
            *self = Self::default();
        } else if is_wanted {
            self.arriving.push(Arc::clone(frame));
            if frame.part.last {
                self.whole = std::mem::take(&mut self.arriving);
            }
        }
    }
}

impl Gop {
    /// Takes the next frame.
    pub(super) fn push(&mut self, frame: &Arc<Frame>) {
        if frame.codec.kind() != Kind::Video {
            return;
        }
        self.key.push(frame);
        if frame.random_access {
            self.forget_group();
        } else if self.pictures.is_empty() {
            return;
        }
        // Pictures that are shown in another order than sent cannot be squeezed in time.
        let in_order = !frame.part.first
            || self
                .pictures
                .last()
                .is_none_or(|last| last.time < frame.time);
        self.bytes += frame.len();
        self.count += usize::from(frame.part.first);
        if !in_order || self.bytes > BYTES_MAX || self.count > PICTURES_MAX {
            self.forget_group();
            return;
        }
        self.pictures.push(Arc::clone(frame));
    }

    /// Forgets everything up to the next random access point.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget_group(&mut self) {
        self.pictures.clear();
        self.count = 0;
        self.bytes = 0;
    }

    /// The pictures until now, the first of them a random access point; none if there is no whole
    /// group.
    #[must_use]
    pub(super) fn pictures(&self) -> Vec<Arc<Frame>> {
        self.pictures.clone()
    }

    /// All parts of the last picture from which decoding can begin; none before it is whole.
    #[must_use]
    pub(super) fn key_picture(&self) -> Option<Vec<Arc<Frame>>> {
        (!self.key.whole.is_empty()).then(|| self.key.whole.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::media::{Codec, MediaTime, Part, TrackId};

    fn frame(codec: Codec, time: i64, random_access: bool, size: usize) -> Arc<Frame> {
        Arc::new(Frame {
            track: TrackId(0),
            codec,
            time: MediaTime(time),
            captured: Duration::ZERO,
            random_access,
            part: Part::WHOLE,
            payloads: Box::new([Bytes::from(vec![0; size])]),
        })
    }

    fn kept(frames: &[(i64, bool, usize)]) -> Vec<i64> {
        let mut gop = Gop::default();
        for (time, key, size) in frames {
            gop.push(&frame(Codec::H264(None), *time, *key, *size));
            gop.push(&frame(Codec::Opus, *time, true, 10));
        }
        gop.pictures()
            .iter()
            .map(|picture| picture.time.0)
            .collect()
    }

    #[test]
    fn pictures_are_kept_from_the_last_random_access_point() {
        assert_eq!(kept(&[(0, false, 1), (1, true, 1), (2, false, 1)]), [1, 2]);
        assert_eq!(kept(&[(1, true, 1), (2, false, 1), (3, true, 1)]), [3]);
    }

    #[test]
    fn what_is_too_much_or_out_of_order_is_not_replayed() {
        let half = BYTES_MAX / 2;
        assert!(
            kept(&[
                (1, true, half),
                (2, false, half),
                (3, false, half),
                (4, false, 1)
            ])
            .is_empty()
        );
        assert!(kept(&[(1, true, 1), (4, false, 1), (3, false, 1), (5, false, 1)]).is_empty());
        let many: Vec<_> = (0..400).map(|time| (time, time == 0, 1)).collect();
        assert!(kept(&many).is_empty());
    }

    /// The number of parts of the key picture, and its time.
    fn key_of(gop: &Gop) -> Option<(usize, i64)> {
        let parts = gop.key_picture()?;
        Some((parts.len(), parts[0].time.0))
    }

    fn part(time: i64, random_access: bool, first: bool, last: bool) -> Arc<Frame> {
        let mut frame = (*frame(Codec::H264(None), time, random_access, 1)).clone();
        frame.part = Part { first, last };
        Arc::new(frame)
    }

    #[test]
    fn a_key_picture_is_given_once_its_last_part_is_there() {
        let mut gop = Gop::default();
        gop.push(&part(0, false, true, true));
        gop.push(&part(1, true, true, false));
        gop.push(&part(1, false, false, false));
        assert_eq!(key_of(&gop), None);
        gop.push(&part(1, false, false, true));
        gop.push(&part(2, false, true, true));
        assert_eq!(key_of(&gop), Some((3, 1)));
        // The one before serves until the next is whole, also when that never happens.
        gop.push(&part(3, true, true, false));
        assert_eq!(key_of(&gop), Some((3, 1)));
        gop.push(&part(4, true, true, true));
        assert_eq!(key_of(&gop), Some((1, 4)));
        gop.clear();
        assert_eq!(key_of(&gop), None);
    }

    #[test]
    fn a_key_picture_without_its_end_is_never_given() {
        let mut gop = Gop::default();
        gop.push(&part(1, true, true, false));
        gop.push(&part(2, false, true, false));
        gop.push(&part(2, false, false, true));
        assert_eq!(key_of(&gop), None);
    }

    #[test]
    fn a_key_picture_that_is_too_large_is_not_kept() {
        let mut gop = Gop::default();
        gop.push(&frame(Codec::H264(None), 1, true, KEY_BYTES_MAX));
        assert_eq!(key_of(&gop), Some((1, 1)));
        gop.push(&frame(Codec::H264(None), 2, false, KEY_BYTES_MAX + 1));
        assert_eq!(key_of(&gop), Some((1, 1)));
        gop.push(&frame(Codec::H264(None), 3, true, KEY_BYTES_MAX + 1));
        assert_eq!(key_of(&gop), None);
        assert_eq!(gop.pictures().len(), 1);
    }

    #[test]
    fn a_key_picture_outlives_a_group_that_cannot_be_replayed() {
        let mut gop = Gop::default();
        for (time, key) in [(1, true), (4, false), (3, false)] {
            gop.push(&frame(Codec::H264(None), time, key, 1));
        }
        assert!(gop.pictures().is_empty());
        assert_eq!(key_of(&gop), Some((1, 1)));
    }
}
