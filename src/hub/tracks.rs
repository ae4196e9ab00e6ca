//! [`Tracks`]: what a source announced.

use crate::{
    base::Note,
    media::{Kind, Track, TrackId},
};

/// What a source announced.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    /// Those that can be sent to a browser, in the camera's order.
    pub usable: Vec<Track>,
    /// Those that can be made of the camera's own, for browsers that take none of these.
    pub converted: Vec<Converted>,
    /// Those that cannot, and kinds of pictures of the others that cannot.
    pub left_out: Vec<LeftOut>,
}

/// A track that is made of one of the camera's as long as a viewer needs it.
#[derive(Debug, Clone)]
pub struct Converted {
    /// What it is made into.
    pub track: Track,
    /// What it is made of, in words.
    pub from: String,
}

impl Converted {
    /// The number of what is made of the camera's track `id`.
    #[must_use]
    pub fn id_of(id: TrackId) -> TrackId {
        TrackId(id.0 | 0x80)
    }
}

impl Tracks {
    /// What can be sent of one kind, the best first: what goes as it is, then what has to be converted.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Track> + Clone {
        let converted = self.converted.iter().map(|converted| converted.track);
        let all = self.usable.iter().copied().chain(converted);
        all.filter(move |track| track.kind() == kind)
    }

    /// One track for each that can be sent: what is made of a track only if that cannot go as it is.
    #[must_use]
    pub fn playable(&self) -> Vec<Track> {
        let converted = self.converted.iter().map(|converted| converted.track);
        let needed = converted.filter(|track| {
            let own = |usable: &Track| Converted::id_of(usable.id) == track.id;
            !self.usable.iter().any(own)
        });
        self.usable.iter().copied().chain(needed).collect()
    }

    /// Whether `id` is made of another track.
    #[must_use]
    pub fn is_converted(&self, id: TrackId) -> bool {
        self.converted
            .iter()
            .any(|converted| converted.track.id == id)
    }

    /// Leaves out all of one kind.
    pub fn retain_other_than(&mut self, kind: Kind) {
        self.usable.retain(|track| track.kind() != kind);
        self.converted
            .retain(|converted| converted.track.kind() != kind);
    }
}

/// A track, or a kind of pictures of one, that cannot be sent to a browser.
#[derive(Debug, Clone)]
pub struct LeftOut {
    /// Picture or sound.
    pub kind: Kind,
    /// What it is, and what to do.
    pub note: Note,
}
