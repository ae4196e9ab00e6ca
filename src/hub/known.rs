//! [`Known`]: how far a source of a camera with several is known, and [`first`], which finds the one that is
//! used.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Tracks;
use crate::base::{Diagnosis, Error};

/// A source that failed so lately is not waited for before others, only after them.
const LATELY: Duration = Duration::from_mins(1);

/// Why an attempt failed, and when.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was wrong.
    pub diagnosis: Diagnosis,
    at: Instant,
}

impl Failure {
    /// One that happens now.
    #[must_use]
    pub(super) fn now(diagnosis: Diagnosis) -> Self {
        Self {
            diagnosis,
            at: Instant::now(),
        }
    }

    /// Whether it is so young that the next attempt will probably fail as well.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        self.at.elapsed() < LATELY
    }
}

/// How far a source is known.
#[derive(Debug, Clone)]
pub enum Known {
    /// Nobody has opened it.
    Unasked,
    /// It is being opened, and worth waiting for.
    Opening,
    /// It is being opened, takes long or has failed lately for this reason, and is waited for only if
    /// nothing can be played without it.
    Late(Option<Diagnosis>),
    /// It plays these.
    Open(Arc<Tracks>),
    /// It cannot be used now.
    Failed(Error),
}

/// What follows from what is known of a camera's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<T> {
    /// Open this one.
    Ask(usize),
    /// Wait until more is known.
    Wait,
    /// That is all, with this result.
    Made(T),
}

impl<T> Decision<T> {
    /// The result; what has to be done first if there is none yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn made<U>(self) -> Result<T, Decision<U>> {
        match self {
            Self::Made(result) => Ok(result),
            Self::Ask(index) => Err(Decision::Ask(index)),
            Self::Wait => Err(Decision::Wait),
        }
    }

    /// The same with another result.
    pub fn map<U>(self, made: impl FnOnce(T) -> U) -> Decision<U> {
        match self {
            Self::Ask(index) => Decision::Ask(index),
            Self::Wait => Decision::Wait,
            Self::Made(result) => Decision::Made(made(result)),
        }
    }
}

/// The first of `sources` whose tracks are such that `fits`, or what has to be done to find it; none if there
/// is no such source.
pub fn first(sources: &[Known], fits: impl Fn(&Tracks) -> bool) -> Decision<Option<usize>> {
    let found = first_soon(sources, fits);
    let is_late = |known: &Known| matches!(known, Known::Late(_));
    if found == Decision::Made(None) && sources.iter().any(is_late) {
        return Decision::Wait;
    }
    found
}

/// The same for what can be done without: nobody waits for sources that are late.
pub fn first_soon(sources: &[Known], fits: impl Fn(&Tracks) -> bool) -> Decision<Option<usize>> {
    for (index, known) in sources.iter().enumerate() {
        match known {
            Known::Open(tracks) if fits(tracks) => return Decision::Made(Some(index)),
            Known::Open(_) | Known::Failed(_) | Known::Late(_) => {}
            Known::Opening => return Decision::Wait,
            Known::Unasked => return Decision::Ask(index),
        }
    }
    Decision::Made(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::Verdict,
        media::{Codec, Track, TrackId},
    };

    #[test]
    fn sources_are_asked_in_order_and_late_ones_are_waited_for_last() {
        let open = |codec| {
            let id = TrackId(0);
            Known::Open(Arc::new(Tracks {
                usable: vec![Track { id, codec }],
                ..Tracks::default()
            }))
        };
        let (opus, pcmu) = (|| open(Codec::Opus), || open(Codec::Pcmu));
        let failed = || Known::Failed(Error::new(Verdict::PortClosed, "off"));
        let (unasked, opening) = (|| Known::Unasked, || Known::Opening);
        let late = || Known::Late(None);
        for (sources, expected) in [
            (vec![unasked(), unasked()], Decision::Ask(0)),
            (vec![opening(), opus()], Decision::Wait),
            (vec![opus(), unasked()], Decision::Made(Some(0))),
            (vec![pcmu(), unasked()], Decision::Ask(1)),
            (vec![pcmu(), opus()], Decision::Made(Some(1))),
            (vec![opus(), opus()], Decision::Made(Some(0))),
            (vec![failed(), unasked()], Decision::Ask(1)),
            (vec![failed(), pcmu()], Decision::Made(None)),
            (vec![late(), unasked()], Decision::Ask(1)),
            (vec![late(), opening()], Decision::Wait),
            (vec![late(), opus()], Decision::Made(Some(1))),
            (vec![late(), pcmu(), failed()], Decision::Wait),
            (vec![], Decision::Made(None)),
        ] {
            let is_opus = |tracks: &Tracks| tracks.usable.iter().any(|t| t.codec == Codec::Opus);
            assert_eq!(first(&sources, is_opus), expected, "{sources:?}");
            // Late ones make no difference but at the end.
            let is_late = |known: &Known| matches!(known, Known::Late(_));
            let soon = match expected {
                Decision::Wait if !sources.iter().any(|k| matches!(k, Known::Opening)) => {
                    assert!(sources.iter().any(is_late), "{sources:?}");
                    Decision::Made(None)
                }
                other => other,
            };
            assert_eq!(first_soon(&sources, is_opus), soon, "{sources:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_recent_for_a_while() {
        let failure = Failure::now(Verdict::PortClosed.into());
        tokio::time::advance(LATELY / 2).await;
        assert!(failure.is_recent());
        tokio::time::advance(LATELY / 2).await;
        assert!(!failure.is_recent());
    }
}
