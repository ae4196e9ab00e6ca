//! [`Gop`]: the pictures since the last one from which decoding can begin.

use std::sync::Arc;

use crate::media::{Frame, Kind};

/// What is kept at most: a group of pictures beyond it is not replayed, and a viewer waits for the
/// next key frame. Ten seconds of a camera with 6 Mbit/s are 7.5 MB.
const BYTES_MAX: usize = 8 << 20;
/// A browser must decode all of it before it shows the live picture: with more it would rather wait.
const PICTURES_MAX: usize = 300;

/// A group of pictures while it grows. Sound is not in it: it starts with the live edge.
#[derive(Debug, Default)]
pub(super) struct Gop {
    pictures: Vec<Arc<Frame>>,
    /// Whole pictures among them.
    count: usize,
    bytes: usize,
}

impl Gop {
    /// Takes the next frame.
    pub(super) fn push(&mut self, frame: &Arc<Frame>) {
        if frame.codec.kind() != Kind::Video {
            return;
        }
        if frame.random_access {
            self.clear();
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
            self.clear();
            return;
        }
        self.pictures.push(Arc::clone(frame));
    }

    /// Forgets everything up to the next random access point.
    pub(super) fn clear(&mut self) {
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
}
