//! Where a camera may send us: [RFC 2326 §11.3], and its REDIRECT request.
//!
//! [RFC 2326 §11.3]: https://datatracker.ietf.org/doc/html/rfc2326#section-11.3

use std::time::Duration;

use super::{diagnose, session::wire_url};
use crate::base::{Error, SourceUrl};

/// Redirections that are followed, one after the other.
pub(super) const HOPS_MAX: usize = 3;

/// A camera that wants to be asked elsewhere.
#[derive(Debug)]
pub(super) struct Redirect {
    /// What it calls the place.
    pub(super) location: String,
    /// How long it has played before.
    pub(super) played: Duration,
}

/// The URL that `location` means in the mouth of the camera at `from`. TLS is never given up, and
/// credentials stay where they are; see [`SourceUrl::with_location`].
///
/// # Errors
/// `Unavailable` when it is not one that is followed.
pub(super) fn follow(from: &SourceUrl, location: &str) -> Result<SourceUrl, Error> {
    let target = |location: &str| {
        from.with_location(location)
            .map_err(|_| diagnose::astray(from, "to something that is not a URL"))
    };
    let mut to = target(location)?;
    if is_same_place(from, &to) && wire_url(from).scheme() == to.scheme() {
        // What the camera knows as rtsps may be any certificate's if its URL said so.
        let (_, rest) = to
            .request_url()
            .as_str()
            .split_once("://")
            .unwrap_or_default();
        to = target(&format!("{}://{rest}", from.scheme()))?;
    }
    let is_allowed = match (from.scheme(), to.scheme()) {
        ("rtsp", "rtsp" | "rtsps") | ("rtsps" | "rtspx", "rtsps") => true,
        ("rtspx", "rtspx") => is_same_place(from, &to),
        _ => false,
    };
    if is_allowed {
        Ok(to)
    } else {
        let what = format!(
            "to {}://{}, which is not followed from {}; if that is right, use its address in the URL",
            to.scheme(),
            to.host(),
            from.scheme(),
        );
        Err(diagnose::astray(from, &what))
    }
}

fn is_same_place(one: &SourceUrl, other: &SourceUrl) -> bool {
    (one.host(), one.port()) == (other.host(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(from: &str, location: &str) -> Result<String, String> {
        let from = SourceUrl::parse(from).unwrap();
        match follow(&from, location) {
            Ok(to) => Ok(to.request_url().to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn tls_is_never_given_up_and_no_other_protocol_is_spoken() {
        for (from, location, there) in [
            (
                "rtsp://h/x",
                "rtsp://other:8554/y",
                Some("rtsp://other:8554/y"),
            ),
            ("rtsp://h/x", "rtsps://h/y", Some("rtsps://h/y")),
            ("rtsp://h/x", "RTSP://H/y", Some("rtsp://h/y")),
            ("rtsp://h/x", "/y", Some("rtsp://h/y")),
            ("rtsps://h/x", "rtsps://other/y", Some("rtsps://other/y")),
            ("rtspx://h/x", "rtsps://h/y", Some("rtspx://h/y")),
            ("rtspx://h/x", "/y", Some("rtspx://h/y")),
            ("rtspx://h/x", "rtsps://other/y", Some("rtsps://other/y")),
            ("rtspx://h/x", "rtspx://other/y", None),
            ("rtspx://h/x", "rtsp://h/y", None),
            ("rtsps://h/x", "rtsp://h/y", None),
            ("rtsps://h/x", "rtspx://h/y", None),
            ("rtsp://h/x", "rtspx://h/y", None),
            ("rtsp://h/x", "rtspu://h/y", None),
            ("rtsp://h/x", "http://h/y", None),
            ("rtsp://h/x", "file:///etc/passwd", None),
            ("rtsp://h/x", "demo:", None),
            ("rtsp://h/x", "gopher://h:25/_MAIL", None),
        ] {
            let found = to(from, location);
            assert_eq!(found.as_deref().ok(), there, "{location}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_followed_is_named_without_secrets() {
        let error = to(
            "rtsps://u:hunter2@h/x",
            "rtsp://a:hunter3@b/t?token=hunter4",
        )
        .unwrap_err();
        assert!(error.contains("rtsp://b,"), "{error}");
        assert!(!error.contains("hunter"), "{error}");
    }
}
