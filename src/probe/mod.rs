//! `porthole probe`: what there is to know of one camera, and what a browser will play of it.
//!
//! [`rtsp::inspect`] asks the camera, [`advice`] judges what it found, and
//! [`report`] tells it.

pub mod advice;
pub mod report;

pub use self::report::Report;
use crate::{
    base::{Error, ErrorKind, SourceUrl},
    source::{
        self, Confinement,
        rtsp::{self, inspect::Progress},
    },
};

/// Looks at the camera at `url`, for at most [`LIMIT`](rtsp::inspect::LIMIT).
///
/// # Errors
/// `InvalidArgument` when it is no camera that can be asked. What goes wrong with the camera is part of the
/// report.
pub async fn probe(url: &SourceUrl, progress: Progress<'_>) -> Result<Report, Error> {
    // Kinds of URL that nothing opens have a sentence of their own.
    source::open_confined(url, &Confinement::of_operator(url))?;
    if !rtsp::KIND.schemes.contains(&url.scheme()) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "only cameras at an rtsp:// address can be looked at",
        ));
    }
    let inspection = rtsp::inspect::inspect(url, progress).await?;
    let findings = advice::findings(&inspection);
    Ok(Report::new(url, inspection, findings))
}
