//! What produces media: one file for each kind, one line each in [`KINDS`].
//!
//! To add one: write `source/<name>.rs` with a `KIND`, add it to [`KINDS`].

pub mod confinement;
pub mod pattern;
pub mod program;
pub mod rtsp;
pub mod speech;
pub mod supervise;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use self::confinement::Confinement;
use crate::{
    base::{Error, Note, SourceUrl, Verdict},
    hub::{Publisher, Turn},
    media::audio::SpeechFormat,
};

/// Every kind of source.
pub const KINDS: &[SourceKind] = &[rtsp::KIND, pattern::KIND, program::KIND];

/// A kind of source: which URLs it opens, and how.
#[derive(Debug)]
pub struct SourceKind {
    /// Its name in documentation and logs.
    pub name: &'static str,
    /// The URL schemes it opens, in lower case.
    pub schemes: &'static [&'static str],
    /// Those of them that only cameras of the configuration may have: what is sent to such a place first
    /// could do something there, if it is no camera.
    pub only_configured: &'static [&'static str],
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

    /// What it takes as speech; whoever is behind it is asked, for a few seconds at most.
    ///
    /// # Errors
    /// Why it cannot be talked to.
    async fn hears(&self) -> Result<SpeechFormat, Note> {
        Err(speech::mute())
    }

    /// Passes on what `turn` gives, until that ends or `stop` fires. Every step has a deadline.
    ///
    /// # Errors
    /// Why it does not listen, or no longer.
    async fn listen(&self, _turn: &mut Turn, _stop: &CancellationToken) -> Result<(), Error> {
        Err(speech::mute().into())
    }

    /// Whether somebody answered the last attempt at all. If not, another one is no burden to anybody.
    fn was_answered(&self) -> bool {
        true
    }
}

/// The source for a URL of the configuration, not connected yet; see [`open_confined`].
///
/// # Errors
/// `InvalidArgument` when no kind opens such a URL.
pub fn open(url: &SourceUrl) -> Opened {
    (kind_of(url)?.open)(url, &Confinement::default())
}

/// The source for a URL, not connected yet; it goes only where `confinement` lets it.
///
/// # Errors
/// `InvalidArgument` when no kind opens such a URL, `PermissionDenied` when one opens it only for the
/// configuration.
pub fn open_confined(url: &SourceUrl, confinement: &Confinement) -> Opened {
    let (kind, scheme) = (kind_of(url)?, url.scheme());
    if kind.only_configured.contains(&scheme) && !confinement.trusts(url) {
        let what = if url.host().is_empty() {
            format!("{scheme}:")
        } else {
            format!("camera {url}: {scheme}://")
        };
        return Err(Error::new(
            Verdict::NotAllowed,
            format!(
                "{what} is opened only for cameras of the configuration file; give it a name there, or \
                 use the camera's rtsp:// address"
            ),
        ));
    }
    (kind.open)(url, confinement)
}

fn kind_of(url: &SourceUrl) -> Result<&'static SourceKind, Error> {
    let scheme = url.scheme();
    KINDS
        .iter()
        .find(|kind| kind.schemes.contains(&scheme))
        .ok_or_else(|| {
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
            Error::new(
                Verdict::BadUrl,
                format!(
                    "cannot open {scheme}:// URLs (only {}): {advice}",
                    known.join(", ")
                ),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::ErrorKind,
        config::{Config, Layer},
    };

    #[test]
    fn no_two_kinds_claim_a_scheme() {
        let mut schemes: Vec<_> = KINDS.iter().flat_map(|kind| kind.schemes).collect();
        let all = schemes.len();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), all);
    }

    #[test]
    fn what_could_do_something_where_no_camera_is_has_to_be_configured() {
        let layer =
            Layer::parse("cameras: {door: \"ws://cam/x\", gate: \"rtsp+http://u:p@cam/x\"}");
        let config = Config::from_layers([layer.unwrap()]).unwrap();
        let confinement = Confinement::new(&config, 8555);
        let ask = |text: &str| open_confined(&SourceUrl::parse(text).unwrap(), &confinement);
        for named in ["ws://cam/x", "WS://CAM:80/x", "rtsp+http://u:p@cam/x"] {
            assert!(ask(named).is_ok(), "{named}");
        }
        for other in [
            "ws://cam/y",
            "ws://cam/x#rtsp=/y",
            "wss://cam/x",
            "rtsp+http://cam/x",
            "rtsp+https://u:p@cam/x",
        ] {
            let error = ask(other).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{other}");
            assert!(error.to_string().contains("configuration file"), "{error}");
            assert!(open(&SourceUrl::parse(other).unwrap()).is_ok(), "{other}");
        }
        for kind in KINDS {
            let known = |scheme| kind.schemes.contains(scheme);
            assert!(kind.only_configured.iter().all(known), "{}", kind.name);
        }
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
