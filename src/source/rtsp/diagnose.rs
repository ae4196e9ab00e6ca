//! What went wrong with a camera, in words that say what to change.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{connection::Fault, http::Refused, session::Failure, tls};
use crate::{
    base::{Credentials, Error, Note, SourceUrl, Verdict},
    media::Kind,
    source::confinement::Refusal,
};

fn error(url: &SourceUrl, verdict: Verdict, what: &str) -> Error {
    Error::new(verdict, format!("camera {url}: {what}"))
}

/// Whether the way to the camera leads through its web server.
fn is_web(url: &SourceUrl) -> bool {
    !matches!(url.scheme(), "rtsp" | "rtsps" | "rtspx")
}

/// The connection could not be made.
pub(super) fn unreachable(url: &SourceUrl, cause: io::Error) -> Error {
    let port = url.port();
    let (verdict, what) = match cause.kind() {
        io::ErrorKind::ConnectionRefused if is_web(url) => (
            Verdict::PortClosed,
            format!(
                "connection refused; nothing listens on port {port} there: check the port of the \
             camera's web server, or use its rtsp:// address"
            ),
        ),
        io::ErrorKind::ConnectionRefused => (
            Verdict::PortClosed,
            format!(
                "connection refused; nothing listens on port {port} there: check that RTSP is switched \
             on in the camera, and its port"
            ),
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            Verdict::HostUnreachable,
            "no route to the host; check its address, and that this machine is in the same network"
                .to_owned(),
        ),
        _ => (
            Verdict::HostUnreachable,
            format!("no connection to port {port}; check the address and the port"),
        ),
    };
    seen(error(url, verdict, &what), cause)
}

/// Adds the words of the operating system, or of TLS.
fn seen(error: Error, cause: io::Error) -> Error {
    let evidence = cause.to_string();
    error.with_evidence(&evidence).with_source(cause)
}

/// TLS could not be agreed on.
pub(super) fn insecure(url: &SourceUrl, cause: io::Error) -> Error {
    let (verdict, what) = match tls::certificate_fault(&cause) {
        Some(fault) if url.option("sha256").is_some() => (
            Verdict::TlsUntrusted,
            format!(
                "its TLS certificate is not the one that #sha256= names ({fault}); if you gave the \
             camera a new one, write that"
            ),
        ),
        Some(fault) => {
            let any = match url.scheme() {
                "rtsps" => "write rtspx:// instead of rtsps:// to accept any certificate, or ",
                _ => "write ",
            };
            (
                Verdict::TlsUntrusted,
                format!(
                    "its TLS certificate is not trusted ({fault}); {any}the camera's IP address \
                 instead of its name, or add #sha256= and the certificate's fingerprint"
                ),
            )
        }
        None => {
            let plain = match url.scheme() {
                "rtsp+https" => "rtsp+http",
                "wss" => "ws",
                _ => "rtsp",
            };
            (
                Verdict::TlsFailed,
                format!(
                    "what listens on port {} speaks no TLS that is safe today; check the port, or use \
                 {plain}:// without TLS",
                    url.port()
                ),
            )
        }
    };
    seen(error(url, verdict, &what), cause)
}

/// The camera's web server answered with another status than it should.
pub(super) fn refused(url: &SourceUrl, status: u16) -> Error {
    let (verdict, what) = match status {
        401 | 403 => return forbidden(url, status).with_evidence(&format!("HTTP {status}")),
        404 => {
            let by = match url.scheme() {
                "ws" | "wss" => {
                    "; many have the WebSocket at /rtsp-over-websocket, and name the stream \
                     behind it: #rtsp=/path"
                }
                _ => "",
            };
            (
                Verdict::UnknownPath,
                format!(
                    "the camera's web server answered 404 at this path; check the path of the URL in \
                 the camera's manual{by}"
                ),
            )
        }
        300..=399 => (
            Verdict::RedirectLost,
            format!(
                "the camera's web server redirects to another address ({status}); use that address in \
             the URL, often the one with TLS"
            ),
        ),
        503 => (
            Verdict::CameraFull,
            "the camera's web server is busy (503); close other viewers of the camera".to_owned(),
        ),
        _ => (
            Verdict::CameraError,
            format!(
                "the camera's web server answered {status} instead of taking RTSP; check the path of \
             the URL, or use the camera's rtsp:// address"
            ),
        ),
    };
    error(url, verdict, &what).with_evidence(&format!("HTTP {status}"))
}

/// The camera's web server has a page where the tunnel should begin.
pub(super) fn web_page(url: &SourceUrl) -> Error {
    error(
        url,
        Verdict::NotRtsp,
        "the camera's web server has a web page at this path, and no RTSP; check the path of the \
         URL, or use the camera's rtsp:// address",
    )
}

/// What should be the camera's web server is none, or hung up.
pub(super) fn no_web_server(url: &SourceUrl, cause: io::Error) -> Error {
    let (verdict, what) = match cause.kind() {
        io::ErrorKind::InvalidData => (
            Verdict::NotRtsp,
            format!(
                "what listens on {}:{} is no web server; check the port of the URL, or use the \
             camera's rtsp:// address",
                url.host(),
                url.port()
            ),
        ),
        _ => (
            Verdict::CameraHungUp,
            "the camera's web server closed the connection instead of answering; check that RTSP \
              over HTTP is switched on in the camera, or use its rtsp:// address"
                .to_owned(),
        ),
    };
    error(url, verdict, &what).with_source(cause)
}

/// The camera's web server did not make a WebSocket of the connection.
pub(super) fn no_websocket(url: &SourceUrl) -> Error {
    error(
        url,
        Verdict::NotRtsp,
        "its web server agreed on no WebSocket; check the path of the URL, or use the camera's rtsp:// \
         address",
    )
}

/// It made one, for something else.
pub(super) fn foreign_websocket(url: &SourceUrl) -> Error {
    error(
        url,
        Verdict::NotRtsp,
        "its WebSocket at this path is not one for RTSP; check the path of the URL",
    )
}

/// A user name and a password are missing, or wrong.
fn forbidden(url: &SourceUrl, status: u16) -> Error {
    let (verdict, what) = if url.credentials().is_none() {
        (
            Verdict::PasswordMissing,
            format!(
                "it asks for a user name and password ({status}); write them in the URL: \
             {}://user:password@{}/…",
                url.scheme(),
                url.host()
            ),
        )
    } else {
        (
            Verdict::PasswordRefused,
            format!(
                "it refused the user name or password ({status}); check both, and that this account \
             may watch the stream"
            ),
        )
    };
    error(url, verdict, &what)
}

/// The name of the host leads nowhere.
pub(super) fn unknown_host(url: &SourceUrl) -> Error {
    let host = url.host();
    error(
        url,
        Verdict::UnknownHost,
        &format!(
            "the host {host} cannot be found; check the name, or write the camera's IP address"
        ),
    )
}

/// No address of the host is one that may be called. Says no more than the class: what is there is
/// nothing to whoever asks.
pub(super) fn confined(url: &SourceUrl, refusal: Refusal) -> Error {
    let what = match refusal {
        Refusal::Never => "no camera is at such an address".to_owned(),
        Refusal::LinkLocal => {
            "this is a link-local address, and this machine is in no such network".to_owned()
        }
        Refusal::Ourselves => "this address is Porthole's own".to_owned(),
        Refusal::Port => format!("port {} belongs to other services", url.port()),
    };
    error(
        url,
        Verdict::ForbiddenAddress,
        &format!(
            "{what}, so it is not called; check the URL, or write it into the configuration file, whose \
             cameras may be anywhere"
        ),
    )
}

/// It sends us where we do not go; `what` continues "it redirects".
pub(super) fn astray(url: &SourceUrl, what: &str) -> Error {
    error(url, Verdict::RedirectLost, &format!("it redirects {what}"))
}

/// What went wrong at `error`'s camera, to which the one at `url` has sent us.
pub(super) fn after_redirect(url: &SourceUrl, error: &Error) -> Error {
    let text = format!("camera {url} redirects: {error}");
    let verdict = match error.verdict() {
        Verdict::ForbiddenAddress => Verdict::RedirectForbidden,
        other => other,
    };
    let evidence = error.diagnosis().evidence().unwrap_or_default();
    Error::new(verdict, text)
        .with_evidence(evidence)
        .with_source(error.clone())
}

/// It describes nothing that browsers play, as `note` says.
pub(super) fn unplayable(url: &SourceUrl, note: Note) -> Error {
    let Note {
        diagnosis,
        sentence,
    } = note;
    Error::new(diagnosis, format!("camera {url}: {sentence}"))
}

/// A request, or the stream itself, failed.
pub(super) fn failed(url: &SourceUrl, request: &str, failure: Failure) -> Error {
    match failure {
        Failure::Status(status, reason) => answered(url, request, status, &reason),
        Failure::Answer(what) => error(url, Verdict::BadAnswer, what),
        Failure::Moved(_) => astray(url, "at a time at which that is not followed"),
        Failure::Connection(fault) => {
            if let Some(Refused(status)) = web_refusal(&fault) {
                return refused(url, *status);
            }
            let (verdict, what) = match &fault {
                Fault::NotRtsp if request == "DESCRIBE" && is_web(url) => (
                    Verdict::NotRtsp,
                    "what its web server passes on is not RTSP; check the path of the URL"
                        .to_owned(),
                ),
                Fault::NotRtsp if request == "DESCRIBE" => (
                    Verdict::NotRtsp,
                    format!(
                        "what listens on {}:{} is not RTSP; check the port of the URL (554 is usual)",
                        url.host(),
                        url.port()
                    ),
                ),
                Fault::NotRtsp => (
                    Verdict::BadAnswer,
                    "it sent something that is not RTSP".to_owned(),
                ),
                Fault::TooLarge => (
                    Verdict::BadAnswer,
                    format!("its answer to {request} is too large to be true"),
                ),
                Fault::Closed | Fault::Broken(_) if request == "media" => (
                    Verdict::ConnectionLost,
                    "the connection broke off".to_owned(),
                ),
                Fault::Closed | Fault::Broken(_) => (
                    Verdict::CameraHungUp,
                    format!(
                        "it closed the connection instead of answering {request}; it may serve only a \
                         few connections at once: close other viewers of it"
                    ),
                ),
            };
            error(url, verdict, &what).with_source(fault)
        }
    }
}

/// Whether the web server in between refused, instead of the camera.
fn web_refusal(fault: &Fault) -> Option<&Refused> {
    let Fault::Broken(e) = fault else {
        return None;
    };
    e.get_ref()?.downcast_ref()
}

fn answered(url: &SourceUrl, request: &str, status: u16, reason: &str) -> Error {
    let reason = shown(url, reason);
    let line = format!("RTSP/1.0 {status} {reason}");
    let (verdict, what) = match status {
        401 | 403 => return forbidden(url, status).with_evidence(&line),
        404 if matches!(url.scheme(), "ws" | "wss") => (
            Verdict::UnknownPath,
            "it has no stream at this path (404 Not Found); name the stream's own path behind the \
             URL of the WebSocket: #rtsp=/path"
                .to_owned(),
        ),
        404 => (
            Verdict::UnknownPath,
            "it has no stream at this path (404 Not Found); check the path of the URL in the \
             camera's manual"
                .to_owned(),
        ),
        453 => (
            Verdict::NotEnoughBandwidth,
            format!("it is busy ({status}); close other viewers of it, or lower its bit rate"),
        ),
        503 => (
            Verdict::CameraFull,
            format!("it is busy ({status}); close other viewers of it, or lower its bit rate"),
        ),
        461 => (
            Verdict::TransportRefused,
            "it refuses this transport (461); add #transport=udp to the URL, or remove it"
                .to_owned(),
        ),
        300..=399 => (
            Verdict::RedirectLost,
            format!(
                "it redirects without saying where ({status}); look up the camera's address and path"
            ),
        ),
        _ => (
            Verdict::CameraError,
            format!(
                "it answered {request} with an error ({status} {reason}); check the path of the URL, \
                 or restart the camera"
            ),
        ),
    };
    error(url, verdict, &what).with_evidence(&line)
}

/// What a camera says, unless it says a part of what it was told in secret. Paths and queries may hold
/// passwords, too.
fn shown<'a>(url: &SourceUrl, said: &'a str) -> &'a str {
    if said.contains(['/', '=', '?', '&', '@', '%']) {
        return "";
    }
    let Some(Credentials { user, password }) = url.credentials() else {
        return said;
    };
    let login = format!("{}:{}", user.reveal(), password.reveal());
    let is_told = |secret: &str| !secret.is_empty() && said.contains(secret);
    let tells = is_told(user.reveal()) || is_told(password.reveal());
    if tells || is_told(&BASE64.encode(login)) {
        return "";
    }
    said
}

/// The track of this kind has stopped, others go on.
pub(super) fn stopped(url: &SourceUrl, kind: Kind) -> Error {
    let (stopped, goes_on) = match kind {
        Kind::Video => ("video", "sound"),
        Kind::Audio => ("sound", "video"),
    };
    let what = format!("its {stopped} has stopped while its {goes_on} goes on; restart the camera");
    error(url, Verdict::TrackStopped, &what)
}

/// Nothing came within `limit`.
pub(super) fn silent(url: &SourceUrl, request: &str, limit: Duration) -> Error {
    let seconds = limit.as_secs();
    let (verdict, what) = match request {
        "the name server" => (
            Verdict::NameServerSilent,
            format!(
                "the name server did not answer for {} within {seconds} s; write the camera's IP \
             address instead of its name",
                url.host()
            ),
        ),
        "the connection" => (
            Verdict::ConnectTimeout,
            format!(
                "no connection to port {} within {seconds} s; check the address, that the camera is \
             switched on, and that no firewall is in between",
                url.port()
            ),
        ),
        "the first packet" => (
            Verdict::NoMedia,
            "it accepted PLAY and sent no media; if the URL says #transport=udp, a firewall may \
             drop UDP: remove it; otherwise restart the camera"
                .to_owned(),
        ),
        "media" => (
            Verdict::Stalled,
            format!("no media for {seconds} s; it may have lost power or network"),
        ),
        _ => (
            if request == "TLS" {
                Verdict::TlsTimeout
            } else {
                Verdict::CameraTimeout
            },
            format!(
                "it did not answer {request} within {seconds} s; check the address and port, and that \
             no firewall is in between"
            ),
        ),
    };
    error(url, verdict, &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, reason: &str) -> Error {
        let url = SourceUrl::parse("rtsp://viewer:Canary9@h/live").unwrap();
        answered(&url, "SETUP", status, reason)
    }

    #[test]
    fn each_status_has_its_verdict_and_the_status_line_as_evidence() {
        for (status, verdict) in [
            (401, Verdict::PasswordRefused),
            (404, Verdict::UnknownPath),
            (453, Verdict::NotEnoughBandwidth),
            (461, Verdict::TransportRefused),
            (503, Verdict::CameraFull),
            (302, Verdict::RedirectLost),
            (551, Verdict::CameraError),
        ] {
            let error = answer(status, "No, Not Now");
            assert_eq!(error.verdict(), verdict, "{status}");
            let line = format!("RTSP/1.0 {status} No, Not Now");
            assert_eq!(error.diagnosis().evidence(), Some(line.as_str()));
        }
    }

    #[test]
    fn a_track_that_stops_is_told_from_a_camera_that_stops() {
        let url = SourceUrl::parse("rtsp://h/live").unwrap();
        let stopped = stopped(&url, Kind::Audio);
        assert_eq!(stopped.verdict(), Verdict::TrackStopped);
        let silent = silent(&url, "media", Duration::from_secs(10));
        assert_eq!(silent.verdict(), Verdict::Stalled);
    }

    #[test]
    fn a_camera_that_says_the_password_back_is_not_quoted() {
        for reason in [
            "viewer may not",
            "wrong: Canary9",
            "Basic dmlld2VyOkNhbmFyeTk=",
        ] {
            let error = answer(551, reason);
            assert_eq!(error.diagnosis().evidence(), Some("RTSP/1.0 551"));
            assert!(!error.to_string().contains(reason), "{error}");
        }
    }
}
