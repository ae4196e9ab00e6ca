//! [`Composition`]: the picture of one source and the sound of another, in a hub of their own.
//!
//! Viewers belong to one hub, so the two are brought together once for all of them. What frames carry is
//! shared, and only what is written on them is new: the number of the track, and the time on one clock.

use std::{sync::Arc, time::Duration};

use super::{Hub, Next, Publisher, State, Tracks};
use crate::{
    base::Diagnosis,
    media::{Frame, Kind, MediaTime, Track, TrackId},
};

/// Where a composed hub comes from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) picture: Hub,
    pub(super) sound: Hub,
}

impl Parts {
    /// What viewers miss of it: first of the picture, then of the sound, which may be away for itself.
    pub(super) fn lacks(&self) -> Option<Diagnosis> {
        let of_picture = self.picture.lacks_of(Kind::Video);
        of_picture.or_else(|| match self.sound.state() {
            State::Failed(_) | State::Connecting => Some(self.sound.failure()?.diagnosis),
            State::Live(_) => self.sound.lacks_of(Kind::Audio),
        })
    }

    fn tracks(&self) -> Tracks {
        let of = |hub: &Hub| match hub.state() {
            State::Live(tracks) => tracks,
            State::Connecting | State::Failed(_) => Arc::default(),
        };
        Tracks::composed(&of(&self.picture), &of(&self.sound))
    }
}

impl Hub {
    /// The hubs that it is composed of, that of the picture first; or itself.
    pub fn sources(&self) -> impl Iterator<Item = &Self> {
        let (first, second) = match &self.parts {
            Some(parts) => (&parts.picture, Some(&parts.sound)),
            None => (self, None),
        };
        std::iter::once(first).chain(second)
    }
}

impl Tracks {
    /// The number that sound has beside the picture of another source. Sources number few tracks.
    fn beside(id: TrackId) -> TrackId {
        TrackId(id.0 | 0x40)
    }

    /// The picture of one source beside the sound of another.
    #[must_use]
    pub fn composed(picture: &Self, sound: &Self) -> Self {
        let (mut all, mut beside) = (picture.clone(), sound.clone());
        all.keep(Kind::Video);
        beside.keep(Kind::Audio);
        let renumber = |track: &mut Track| track.id = Self::beside(track.id);
        beside.usable.iter_mut().for_each(renumber);
        let converted = beside.converted.iter_mut();
        converted
            .map(|converted| &mut converted.track)
            .for_each(renumber);
        all.usable.append(&mut beside.usable);
        all.converted.append(&mut beside.converted);
        all.left_out.append(&mut beside.left_out);
        all
    }

    /// Leaves out everything but one kind.
    pub fn keep(&mut self, kind: Kind) {
        self.usable.retain(|track| track.kind() == kind);
        let converted = &mut self.converted;
        converted.retain(|converted| converted.track.kind() == kind);
        self.left_out.retain(|left_out| left_out.kind == kind);
    }
}

/// Brings two hubs together until one of them is closed.
#[derive(Debug)]
pub struct Composition {
    parts: Arc<Parts>,
    out: Publisher,
    /// By how much the clock of each part began after that of the whole.
    picture_after: Duration,
    sound_after: Duration,
    /// The attempt of the picture's source of which the last picture was.
    attempt: u64,
    /// Pictures were missed, so nothing can be decoded before the next key frame.
    is_interrupted: bool,
}

/// A hub with the picture of one source and the sound of another, and what has to run for it. Its troubles are
/// those of the parts, who watches it watches them, and sound is converted where it comes from.
#[must_use]
pub fn compose(picture: &Hub, sound: &Hub) -> (Composition, Hub) {
    let starts = [picture.shared.start, sound.shared.start];
    // Frames from before the composition are played too, and have no time below zero.
    let start = starts[0].min(starts[1]);
    let (out, mut hub) = super::hub_since(start);
    let parts = Arc::new(Parts {
        picture: picture.clone(),
        sound: sound.clone(),
    });
    hub.parts = Some(Arc::clone(&parts));
    let composition = Composition {
        out,
        picture_after: starts[0] - start,
        sound_after: starts[1] - start,
        attempt: picture.attempts(),
        is_interrupted: false,
        parts,
    };
    composition.begin();
    (composition, hub)
}

impl Composition {
    /// Works until one of the parts is closed.
    pub async fn run(mut self) {
        let (mut pictures, group) = self.parts.picture.subscribe();
        let mut sounds = self.parts.sound.subscribe().0;
        for picture in &group {
            self.show(picture);
        }
        loop {
            tokio::select! {
                biased;
                // There is little of it, so pictures have their turn.
                next = sounds.next() => match next {
                    Next::Frame(frame) => self.hear(&frame),
                    Next::Behind(_) => {}
                    Next::Ended => return,
                },
                next = pictures.next() => match next {
                    Next::Frame(frame) => self.show(&frame),
                    Next::Behind(missed) => {
                        tracing::debug!(missed, "the composition of two sources is behind");
                        self.is_interrupted = true;
                        self.begin();
                    }
                    Next::Ended => return,
                },
            }
        }
    }

    /// Nothing of before can be continued.
    fn begin(&self) {
        self.out.connecting();
        self.out.announce(self.parts.tracks());
    }

    fn show(&mut self, frame: &Frame) {
        if frame.codec.kind() != Kind::Video {
            return;
        }
        let attempt = self.parts.picture.attempts();
        if self.attempt != attempt {
            self.attempt = attempt;
            self.begin();
        }
        self.is_interrupted &= !frame.random_access;
        if !self.is_interrupted {
            self.out
                .publish(shifted(frame, frame.track, self.picture_after));
        }
    }

    fn hear(&self, frame: &Frame) {
        if frame.codec.kind() == Kind::Audio {
            let id = Tracks::beside(frame.track);
            self.out.publish(shifted(frame, id, self.sound_after));
        }
    }
}

/// The frame as a track of a hub whose clock began `after` earlier.
fn shifted(frame: &Frame, track: TrackId, after: Duration) -> Frame {
    let ticks = MediaTime::at(after, frame.codec.clock_rate());
    Frame {
        track,
        time: MediaTime(frame.time.0 + ticks.0),
        captured: frame.captured + after,
        ..frame.clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        base::{Error, Tasks, Verdict},
        hub::{Converted, LeftOut, Subscription, hub},
        media::{Codec, Part},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(track: u8, codec: Codec, seconds: u32, random_access: bool) -> Frame {
        let captured = SECOND * seconds;
        Frame {
            track: TrackId(track),
            codec,
            time: MediaTime::at(captured, codec.clock_rate()),
            captured,
            random_access,
            part: Part::WHOLE,
            payloads: Box::new([Bytes::from_static(b"media")]),
        }
    }

    fn picture(seconds: u32, is_key: bool) -> Frame {
        frame(0, Codec::H264(None), seconds, is_key)
    }

    fn tracks(codecs: &[Codec]) -> Tracks {
        let usable = codecs.iter().zip(0..).map(|(codec, id)| Track {
            id: TrackId(id),
            codec: *codec,
        });
        Tracks {
            usable: usable.collect(),
            ..Tracks::default()
        }
    }

    async fn next(frames: &mut Subscription) -> Option<Arc<Frame>> {
        match tokio::time::timeout(SECOND / 100, frames.next()).await {
            Ok(Next::Frame(frame)) => Some(frame),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn picture_and_sound_of_two_sources_come_on_one_clock() {
        let tasks = Tasks::on_current_runtime();
        let (sound_out, sound) = hub();
        tokio::time::advance(SECOND * 5).await;
        let (picture_out, picture_hub) = hub();
        let codecs = [Codec::H264(None), Codec::Pcmu];
        picture_out.announce(tracks(&codecs));
        sound_out.announce(tracks(&codecs));
        picture_out.publish(picture(1, true));
        picture_out.publish(picture(2, false));
        tokio::time::advance(SECOND * 2).await;
        let (composition, hub) = compose(&picture_hub, &sound);
        tasks.spawn("composition", composition.run());
        tokio::time::sleep(SECOND / 1_000).await;
        // Who comes gets the group of pictures that was there before.
        let (mut frames, group) = hub.subscribe();
        let times: Vec<_> = group.iter().map(|frame| frame.captured).collect();
        assert_eq!(times, [SECOND * 6, SECOND * 7]);
        assert!(hub.now() >= SECOND * 7);
        let (a, b) = (picture(3, false), frame(1, Codec::Pcmu, 8, true));
        let payloads = [a.payloads[0].as_ptr(), b.payloads[0].as_ptr()];
        picture_out.publish(a);
        // Each has what the other gives.
        picture_out.publish(frame(1, Codec::Pcmu, 3, true));
        sound_out.publish(picture(8, true));
        sound_out.publish(b);
        let mut came = [
            next(&mut frames).await.unwrap(),
            next(&mut frames).await.unwrap(),
        ];
        assert!(next(&mut frames).await.is_none());
        came.sort_by_key(|frame| frame.track);
        let [shown, heard] = came;
        // Captured at one moment, and said to be so.
        assert_eq!((shown.track, shown.captured), (TrackId(0), SECOND * 8));
        assert_eq!((heard.track, heard.captured), (TrackId(0x41), SECOND * 8));
        assert_eq!((shown.time.0, heard.time.0), (8 * 90_000, 8 * 8_000));
        assert_eq!(
            [shown.payloads[0].as_ptr(), heard.payloads[0].as_ptr()],
            payloads
        );
        drop(sound_out);
        hub.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_loss_or_a_new_attempt_pictures_begin_with_a_key_frame() {
        let tasks = Tasks::on_current_runtime();
        let ((picture_out, picture_hub), (_sound_out, sound)) = (hub(), hub());
        picture_out.announce(tracks(&[Codec::H264(None)]));
        let (composition, hub) = compose(&picture_hub, &sound);
        tasks.spawn("composition", composition.run());
        tokio::task::yield_now().await;
        let before = hub.attempts();
        let (mut frames, _) = hub.subscribe();
        picture_out.publish(picture(0, true));
        assert!(next(&mut frames).await.is_some());
        // More than a ring holds, before the task has its turn.
        for number in 1..=100 {
            picture_out.publish(picture(number, false));
        }
        assert!(next(&mut frames).await.is_none());
        assert_eq!(hub.attempts(), before + 1);
        assert!(hub.subscribe().1.is_empty());
        picture_out.publish(picture(101, false));
        assert!(next(&mut frames).await.is_none());
        picture_out.publish(picture(102, true));
        assert_eq!(next(&mut frames).await.unwrap().captured, SECOND * 102);
        picture_out.connecting();
        picture_out.announce(tracks(&[Codec::H264(None)]));
        picture_out.publish(picture(103, true));
        assert!(next(&mut frames).await.is_some());
        assert_eq!(hub.attempts(), before + 2);
        assert_eq!(hub.subscribe().1.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn troubles_viewers_and_conversions_are_those_of_the_parts() {
        let ((picture_out, picture_hub), (sound_out, sound)) = (hub(), hub());
        let left_out = |kind, verdict| LeftOut {
            kind,
            note: crate::base::Note::new(verdict, "left out"),
        };
        // What one lacks, the other gives.
        picture_out.announce(Tracks {
            left_out: vec![left_out(Kind::Audio, Verdict::UnsupportedAudio)],
            ..tracks(&[Codec::H264(None)])
        });
        sound_out.announce(Tracks {
            left_out: vec![left_out(Kind::Video, Verdict::UnsupportedVideo)],
            ..tracks(&[Codec::Pcmu])
        });
        let (_composition, hub) = compose(&picture_hub, &sound);
        let lacks = || hub.lacks().map(|lack| lack.verdict);
        assert_eq!((hub.trouble(), lacks()), (None, None));
        sound_out.failed(Error::new(Verdict::ConnectionLost, "unplugged"));
        sound_out.connecting();
        assert_eq!(
            (hub.trouble(), lacks()),
            (None, Some(Verdict::ConnectionLost))
        );
        picture_out.failed(Error::new(Verdict::Stalled, "unplugged"));
        assert_eq!(hub.trouble().map(|t| t.verdict), Some(Verdict::Stalled));
        let watching = hub.watch();
        assert_eq!((picture_hub.viewers(), picture_hub.listeners()), (1, 0));
        assert_eq!((sound.viewers(), sound.listeners()), (0, 1));
        assert!(picture_out.is_watched() && sound_out.is_watched());
        drop(watching);
        assert!(!picture_out.is_watched() && !sound_out.is_watched());
        let demand = hub.convert();
        assert!(sound.is_converting() && !picture_hub.is_converting());
        drop(demand);
        hub.keeps(0, 7);
        assert_eq!((picture_hub.kept(), sound.kept()), (7, 0));
    }

    #[test]
    fn sound_of_another_source_keeps_its_conversions() {
        let mut sound = tracks(&[Codec::H264(None), Codec::Pcma]);
        sound.converted.push(Converted {
            track: Track {
                id: Converted::id_of(TrackId(1)),
                codec: Codec::Opus,
            },
            from: "PCMA".to_owned(),
        });
        let all = Tracks::composed(&tracks(&[Codec::H264(None), Codec::Opus]), &sound);
        let ids: Vec<_> = all.usable.iter().map(|track| track.id.0).collect();
        assert_eq!(ids, [0, 0x41]);
        assert_eq!(all.converted[0].track.id, Converted::id_of(TrackId(0x41)));
        assert_eq!(all.playable().len(), 2);
    }
}
