//! What produces media: one file for each kind, one line each in [`KINDS`].
//!
//! To add one: write `source/<name>.rs` with a `KIND`, add it to [`KINDS`].

pub mod confinement;
pub mod pattern;
pub mod rtsp;
pub mod supervise;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use self::confinement::Confinement;
use crate::{
    base::{Error, ErrorKind, SourceUrl},
    hub::Publisher,
};

/// Every kind of source.
pub const KINDS: &[SourceKind] = &[rtsp::KIND, pattern::KIND];

/// A kind of source: which URLs it opens, and how.
#[derive(Debug)]
pub struct SourceKind {
    /// Its name in documentation and logs.
    pub name: &'static str,
    /// The URL schemes it opens, in lower case.
    pub schemes: &'static [&'static str],
    /// Makes a source of a URL, without connecting to it. What it connects to later, the confinement
    /// must admit.
    pub open: fn(&SourceUrl, &Confinement) -> Opened,
}

/// A source that is not connected yet, or why there is none.
pub type Opened = Result<Arc<dyn Source>, Error>;

/// Something that produces media.
#[async_trait]
pub trait Source: Send + Sync {
    /// Makes one attempt: connects, announces its tracks, publishes frames until something breaks or
    /// `stop` fires, says goodbye. Every step has a deadline.
    ///
    /// # Errors
    /// `SourceRefused` when trying again would give the same; other kinds are tried again.
    /// `PermissionDenied` for a place where it must not connect.
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error>;
}

/// The source for a URL that nobody vouches for, not connected yet; see [`open_confined`].
///
/// # Errors
/// `InvalidArgument` when no kind opens such a URL.
pub fn open(url: &SourceUrl) -> Opened {
    open_confined(url, &Confinement::default())
}

/// The source for a URL, not connected yet; it goes only where `confinement` lets it.
///
/// # Errors
/// `InvalidArgument` when no kind opens such a URL.
pub fn open_confined(url: &SourceUrl, confinement: &Confinement) -> Opened {
    let scheme = url.scheme();
    let Some(kind) = KINDS.iter().find(|kind| kind.schemes.contains(&scheme)) else {
        let known: Vec<_> = KINDS
            .iter()
            .flat_map(|kind| kind.schemes)
            .map(|scheme| format!("{scheme}:"))
            .collect();
        let advice = match scheme {
            "http" | "https" => {
                "use the camera's rtsp:// address, which its web page or manual names"
            }
            _ => "use the camera's rtsp:// address",
        };
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "cannot open {scheme}:// URLs (only {}): {advice}",
                known.join(", ")
            ),
        ));
    };
    (kind.open)(url, confinement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_claim_a_scheme() {
        let mut schemes: Vec<_> = KINDS.iter().flat_map(|kind| kind.schemes).collect();
        let all = schemes.len();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), all);
    }

    #[test]
    fn a_foreign_scheme_is_refused_with_advice() {
        for url in ["http://cam/x", "rtmp://cam/x", "file://cam/x"] {
            let error = open(&SourceUrl::parse(url).unwrap()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains("rtsp://"), "{error}");
        }
    }
}
