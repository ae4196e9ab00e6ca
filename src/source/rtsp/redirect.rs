//! Where a camera may send us: [RFC 2326 §11.3], and its REDIRECT request.
//!
//! [RFC 2326 §11.3]: https://datatracker.ietf.org/doc/html/rfc2326#section-11.3

use std::time::Duration;

use url::Url;

use super::{carrier, diagnose};
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
/// credentials stay where they are; see [`SourceUrl::with_location`]. A camera behind a web server that
/// means itself is asked the same way; for another it is left.
///
/// # Errors
/// `Unavailable` when it is not one that is followed.
pub(super) fn follow(from: &SourceUrl, location: &str) -> Result<SourceUrl, Error> {
    let inside = carrier::wire_url(from)?;
    let is_carried = carrier::of(from.scheme()).is_some_and(|carrier| !carrier.is_plain);
    if is_carried && let Some(stream) = itself(&inside, location) {
        return from.asking_for(&stream);
    }
    let target = |location: &str| {
        from.with_location(location)
            .map_err(|_| diagnose::astray(from, "to something that is not a URL"))
    };
    let mut to = target(location)?;
    if is_same_place(from, &to) && inside.scheme() == to.scheme() {
        // What the camera knows as rtsps may be any certificate's if its URL said so.
        let (_, rest) = to
            .request_url()
            .as_str()
            .split_once("://")
            .unwrap_or_default();
        to = target(&format!("{}://{rest}", from.scheme()))?;
    }
    let is_allowed = match (from.scheme(), to.scheme()) {
        ("rtsp" | "rtsp+http" | "ws", "rtsp" | "rtsps")
        | ("rtsps" | "rtspx" | "rtsp+https" | "wss", "rtsps") => true,
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

/// What `location` names of the camera that is known as `inside`, if it names that.
fn itself(inside: &Url, location: &str) -> Option<Url> {
    let mut stream = inside.join(location).ok()?;
    let place = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        (url.scheme().to_owned(), host, url.port().unwrap_or(554))
    };
    if place(&stream) != place(inside) {
        return None;
    }
    stream.set_fragment(None);
    // Cannot fail where there is a host. Credentials in a location do not count.
    let _ = (stream.set_username(""), stream.set_password(None));
    Some(stream)
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
            ("rtsp://h/x", "ws://h/y", None),
            ("rtsp://h/x", "rtsp+http://h/y", None),
            ("rtsps://h/x", "wss://h/y", None),
            ("ws://h/x", "rtsp://other/y", Some("rtsp://other/y")),
            ("rtsp+http://h/x", "rtsps://h/y", Some("rtsps://h/y")),
            ("rtsp+https://h/x", "rtsps://h/y", Some("rtsps://h/y")),
            ("wss://h/x", "rtsps://other/y", Some("rtsps://other/y")),
            ("wss://h/x", "rtsp://other/y", None),
            ("rtsp+https://h/x", "rtsp://other/y", None),
            ("rtsp+https://h/x", "rtsp+http://h/y", None),
            ("ws://h/x", "http://h/y", None),
            ("ws://h/x", "ws://h/y", None),
        ] {
            let found = to(from, location);
            assert_eq!(found.as_deref().ok(), there, "{location}: {found:?}");
        }
    }

    #[test]
    fn a_camera_behind_a_web_server_that_means_itself_is_asked_the_same_way() {
        for (from, location, stream) in [
            ("ws://u:p@h/w#rtsp=/a", "rtsp://H/b?c", "rtsp://h/b?c"),
            ("ws://h/w#rtsp=/a", "/b", "rtsp://h/b"),
            ("wss://h:8443/w", "rtsp://x:y@h:8443/b", "rtsp://h:8443/b"),
            ("rtsp+http://h/a", "rtsp://h/b", "rtsp://h/b"),
            ("rtsp+https://u:p@h/a/b", "c", "rtsp://h/a/c"),
            (
                "ws://h/w#rtsp=rtsp://cam/a",
                "rtsp://cam:554/b",
                "rtsp://cam/b",
            ),
        ] {
            let from = SourceUrl::parse(from).unwrap();
            let to = follow(&from, location).unwrap();
            assert_eq!(to.request_url(), from.request_url(), "{location}");
            let asked = carrier::wire_url(&to).unwrap();
            assert_eq!(asked.as_str(), stream, "{location}");
            assert_eq!(to.credentials().is_some(), from.credentials().is_some());
        }
        let from = SourceUrl::parse("ws://u:p@h/w#rtsp=/a").unwrap();
        let left = follow(&from, "rtsp://other/b").unwrap();
        assert_eq!(left.option("rtsp"), None);
        assert!(left.credentials().is_none());
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
