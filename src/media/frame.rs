//! [`Frame`]: what a source publishes and every viewer shares.

use std::time::Duration;

use bytes::Bytes;

use super::{Codec, MediaTime, TrackId};

/// One coded picture or block of sound, cut into RTP payloads; or a part of a large picture, as far as
/// it has come from the camera.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The track it belongs to.
    pub track: TrackId,
    /// How it is coded. A camera may change that, and a viewer must not get what it did not ask for.
    pub codec: Codec,
    /// When it is to be shown, on the track's own clock.
    pub time: MediaTime,
    /// When it was captured, on one clock for all tracks of the source, counted from the hub's start.
    /// Sender reports are made of it, so it decides whether lips and voice fit.
    pub captured: Duration,
    /// Whether decoding can begin here: the first part of a random access point with its parameter sets, or any
    /// sound.
    pub random_access: bool,
    /// Which part of the picture it is.
    pub part: Part,
    /// At most [`PAYLOAD_MAX`](super::rtp::PAYLOAD_MAX) bytes each, never empty.
    pub payloads: Box<[Bytes]>,
}

/// Where the payloads of a [`Frame`] stand in their picture. Most pictures come as one part, which is
/// first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Nothing of the picture came before.
    pub first: bool,
    /// Nothing of it will follow.
    pub last: bool,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self {
        first: true,
        last: true,
    };
}

impl Frame {
    /// Media bytes in all payloads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }
}
