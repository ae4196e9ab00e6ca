//! [`Carrier`]: what takes RTSP to a camera, by the scheme of its URL.
//!
//! To add one: write a file with a `CARRIER`, add it to [`CARRIERS`] and its schemes to
//! [`KIND`](super::KIND).

use futures::future::BoxFuture;
use url::Url;

use super::{
    dial::{Dialer, Link},
    tunnel, websocket,
};
use crate::base::{Error, SourceUrl, Verdict};

/// What takes RTSP to a camera.
pub(super) struct Carrier {
    pub(super) schemes: &'static [&'static str],
    /// Makes the connection, each step within its time.
    pub(super) open: for<'a> fn(&'a mut Dialer) -> BoxFuture<'a, Result<Link, Error>>,
    /// Whether it is a connection of RTSP itself, beside which media may come as UDP.
    pub(super) is_plain: bool,
}

const TCP: Carrier = Carrier {
    schemes: &["rtsp", "rtsps", "rtspx"],
    open: |dialer| Box::pin(dialer.connect()),
    is_plain: true,
};

const CARRIERS: &[Carrier] = &[TCP, tunnel::CARRIER, websocket::CARRIER];

/// The carrier of a scheme.
pub(super) fn of(scheme: &str) -> Option<&'static Carrier> {
    CARRIERS
        .iter()
        .find(|carrier| carrier.schemes.contains(&scheme))
}

/// The URL of requests: as the camera knows it, which knows nothing of `rtspx` and of carriers. The
/// option `rtsp` names another path or URL.
///
/// A port stays if it was written, as clients of other makers have it; servers look at the path.
///
/// # Errors
/// `InvalidArgument` when the option names neither.
pub(super) fn wire_url(source: &SourceUrl) -> Result<Url, Error> {
    let invalid = |what: String| Error::new(Verdict::BadUrl, what);
    let url = source.request_url();
    let scheme = match source.scheme() {
        "rtsps" | "rtspx" => "rtsps",
        _ => "rtsp",
    };
    let Some(named) = source.option("rtsp") else {
        let text = url.as_str().replacen(source.scheme(), scheme, 1);
        // Cannot fail: only the scheme is another.
        return Url::parse(&text).map_err(|_| invalid("the camera URL cannot be read".to_owned()));
    };
    let text = if named.starts_with('/') {
        let port = url.port().map(|port| format!(":{port}"));
        format!(
            "{scheme}://{}{}{named}",
            source.host(),
            port.unwrap_or_default()
        )
    } else {
        named.to_owned()
    };
    let inner = SourceUrl::parse(&text)?;
    if inner.credentials().is_some() {
        return Err(invalid(
            "user name and password belong before the host of the camera's URL, not behind #rtsp="
                .to_owned(),
        ));
    }
    if !matches!(inner.scheme(), "rtsp" | "rtsps") {
        return Err(invalid(
            "#rtsp= takes a path or an rtsp:// URL, as in #rtsp=/axis-media/media.amp".to_owned(),
        ));
    }
    Ok(inner.request_url().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[test]
    fn every_scheme_has_one_carrier() {
        let carried: Vec<_> = CARRIERS
            .iter()
            .flat_map(|carrier| carrier.schemes)
            .collect();
        let opened: Vec<_> = super::super::KIND.schemes.iter().collect();
        assert_eq!(carried, opened);
    }

    #[test]
    fn requests_name_the_camera_and_not_the_way_to_it() {
        let wire = |text: &str| {
            let url = SourceUrl::parse(text).unwrap();
            wire_url(&url).unwrap().to_string()
        };
        assert_eq!(wire("rtsp://u:p@h:8554/x?a=b"), "rtsp://h:8554/x?a=b");
        assert_eq!(wire("rtspx://h/x"), "rtsps://h/x");
        assert_eq!(wire("rtsp+http://u:p@h:80/x"), "rtsp://h/x");
        assert_eq!(wire("rtsp+https://h:8443/x"), "rtsp://h:8443/x");
        assert_eq!(wire("ws://h/ws/x?a=b"), "rtsp://h/ws/x?a=b");
        assert_eq!(
            wire("wss://u:p@[fd00::1]:8443/w#rtsp=/axis-media/media.amp?a=b&c=d"),
            "rtsp://[fd00::1]:8443/axis-media/media.amp?a=b&c=d"
        );
        assert_eq!(wire("ws://h/w#rtsp=rtsp://cam:554/X"), "rtsp://cam/X");
    }

    #[test]
    fn a_url_inside_that_is_none_is_refused() {
        for option in [
            "",
            "x",
            "http://h/x",
            "rtsp://u:p@h/x",
            "rtsp:///x",
            "%2Fx%0D%0AX:%20y",
        ] {
            let url = SourceUrl::parse(&format!("ws://h/w#rtsp={option}")).unwrap();
            let error = wire_url(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{option}");
        }
    }
}
