//! [`Track`]: one elementary stream of a source.

use super::{Codec, Kind};

/// Numbers a track within its source, from 0 in the camera's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u8);

/// One elementary stream of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// Its number within the source.
    pub id: TrackId,
    /// How it is coded.
    pub codec: Codec,
}

impl Track {
    /// Picture or sound.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}
